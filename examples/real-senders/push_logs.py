"""Pushes log files as Promtail does: snappy-compressed protobuf to /loki/api/v1/push.

usage: push_logs.py URL FILE...        (no packages needed: protobuf and snappy are written by hand)
"""

import os
import sys
import time
import urllib.request

LINES_PER_PUSH = 500


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def snappy(body):
    """Snappy's block format with literals only: valid, not small."""
    out = bytearray(varint(len(body)))
    for start in range(0, len(body), 65536):
        chunk = body[start : start + 65536]
        out += bytes([61 << 2]) + (len(chunk) - 1).to_bytes(2, "little") + chunk
    return bytes(out)


def push(url, labels, entries):
    stream = field(1, labels.encode())
    for timestamp, line in entries:
        seconds, nanos = divmod(timestamp, 10**9)
        moment = b"\x08" + varint(seconds) + b"\x10" + varint(nanos)
        stream += field(2, field(1, moment) + field(2, line))
    headers = {"Content-Type": "application/x-protobuf", "User-Agent": "promtail/3.0"}
    request = urllib.request.Request(url, snappy(field(1, stream)), headers)
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 204, answer.status


def main():
    url, *names = sys.argv[1:]
    total = 0
    timestamp = time.time_ns() - 600 * 10**9
    for name in names:
        with open(name, "rb") as file:
            lines = [line.rstrip(b"\r\n").decode("utf-8", "replace").encode() for line in file]
        app = os.path.basename(name).split("_")[0].lower()
        labels = '{app="%s", filename="%s", job="files"}' % (app, os.path.basename(name))
        for start in range(0, len(lines), LINES_PER_PUSH):
            part = lines[start : start + LINES_PER_PUSH]
            push(url, labels, [(timestamp + i * 1000, line) for i, line in enumerate(part)])
            timestamp += len(part) * 1000
        total += len(lines)
    print(total)


main()
