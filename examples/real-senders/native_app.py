#!/usr/bin/env python3
"""Serves a counter with an exemplar and a native histogram, as instrumented programs do it to a
Prometheus that asks for protobuf: native_app.py PORT. Only the standard library is needed."""

import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

BEGAN = time.time()
KIND = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number):
    return number * 2 if number >= 0 else -number * 2 - 1


def number(field, value):
    return varint(field << 3) + varint(value)


def signed(field, value):
    return number(field, zigzag(value))


def double(field, value):
    return varint(field << 3 | 1) + struct.pack("<d", value)


def piece(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def family(name, help_text, kind, metric):
    message = piece(1, name) + piece(2, help_text) + number(3, kind) + piece(4, metric)
    return varint(len(message)) + message


def counter(seconds):
    trace = piece(1, piece(1, "trace_id") + piece(2, f"{seconds:032x}"))
    stamp = piece(3, number(1, int(time.time())))
    exemplar = trace + double(2, 1.0) + stamp
    return piece(3, double(1, float(seconds)) + piece(2, exemplar))


def histogram(seconds):
    """One observation of 1.5 and two of 3 a second, schema 3."""
    layout = piece(12, signed(1, 5) + number(2, 1)) + piece(12, signed(1, 7) + number(2, 1))
    counts = signed(13, seconds) + signed(13, seconds)
    numbers = number(1, 3 * seconds) + double(2, 7.5 * seconds)
    scale = signed(5, 3) + double(6, 1e-128) + number(7, 0)
    return piece(7, numbers + scale + layout + counts)


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self):
        seconds = int(time.time() - BEGAN) + 1
        body = family("native_app_orders_total", "Orders.", 0, counter(seconds))
        body += family("native_app_seconds", "How long.", 4, histogram(seconds))
        self.send_response(200)
        self.send_header("Content-Type", KIND)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), Metrics).serve_forever()
