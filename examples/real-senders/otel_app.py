"""A small instrumented program: traces, metrics and logs over OTLP, by gRPC or by HTTP.

usage: otel_app.py grpc|http HOST:PORT
"""

import logging
import sys

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

ORDERS = 50


def exporters(protocol, address):
    """The three exporters of one protocol."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        options = {"endpoint": address, "insecure": True}
        return OTLPSpanExporter(**options), OTLPMetricExporter(**options), OTLPLogExporter(**options)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = f"http://{address}/v1"
    return (
        OTLPSpanExporter(endpoint=f"{base}/traces"),
        OTLPMetricExporter(endpoint=f"{base}/metrics"),
        OTLPLogExporter(endpoint=f"{base}/logs"),
    )


def main():
    protocol, address = sys.argv[1:]
    spans, points, records = exporters(protocol, address)
    resource = Resource.create({"service.name": f"shop-{protocol}", "deployment.environment": "example"})

    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(spans))
    trace.set_tracer_provider(tracing)
    metering = MeterProvider([PeriodicExportingMetricReader(points, 60_000)], resource=resource)
    metrics.set_meter_provider(metering)
    logging_provider = LoggerProvider(resource=resource)
    logging_provider.add_log_record_processor(BatchLogRecordProcessor(records))
    set_logger_provider(logging_provider)
    log = logging.getLogger("shop")
    log.setLevel(logging.INFO)
    log.addHandler(LoggingHandler(logger_provider=logging_provider))

    tracer = trace.get_tracer("shop")
    orders = metrics.get_meter("shop").create_counter("shop.orders", unit="1")
    duration = metrics.get_meter("shop").create_histogram("shop.order.duration", unit="s")
    for number in range(ORDERS):
        with tracer.start_as_current_span("POST /orders", kind=trace.SpanKind.SERVER) as span:
            span.set_attribute("http.response.status_code", 500 if number % 10 == 0 else 201)
            with tracer.start_as_current_span("charge card") as child:
                child.set_attribute("order.number", number)
                log.info("order %d taken", number)
        orders.add(1, {"region": "eu"})
        duration.record(0.01 * number)
    for provider in (tracing, metering, logging_provider):
        provider.force_flush()
        provider.shutdown()


main()
