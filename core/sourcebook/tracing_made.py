"""Steps as OpenTelemetry spans, sent over OTLP in batches from a thread. Only `tracing.py` imports this.

Its provider is our own and not the process's: two Sourcebooks send apart, and what other libraries trace is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sourcebook import __version__, settings
from sourcebook.ids import new_id
from sourcebook.semconv import attributes, span_name
from sourcebook.steps import Step

_KINDS = {"request": SpanKind.SERVER, "job": SpanKind.CONSUMER, "call": SpanKind.CLIENT}
_STOPPED = "CancelledError"  # somebody wanted it so


class OpenTelemetry:
    """A `Tracer`. `exporter` takes the place of OTLP's, in tests."""

    def __init__(self, options: settings.Tracing, exporter: SpanExporter | None = None) -> None:
        self.content = options.content
        about = {
            "service.name": options.service,
            "service.version": __version__,
            "service.instance.id": new_id("process"),
        }
        self._provider = TracerProvider(
            resource=Resource.create(about), sampler=ParentBased(TraceIdRatioBased(options.sample))
        )
        headers = {name: value.get_secret_value() for name, value in options.headers.items()}
        exporter = exporter or OTLPSpanExporter(options.endpoint, headers=headers, timeout=options.timeout)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sourcebook", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, step: Step, parent: Span | None) -> Span:
        """A span below `parent`, or a trace of its own."""
        context = trace.set_span_in_context(parent, Context()) if parent is not None else Context()
        return self._tracer.start_span(step.name, context, _KINDS.get(step.kind, SpanKind.INTERNAL))

    def end(self, step: Step) -> None:
        """Name it, tell what is known of it, and send it when it is time."""
        span: Span = step.span
        if span.is_recording():
            span.update_name(span_name(step))
            span.set_attributes(attributes(step))
            if step.failed and step.failed != _STOPPED:
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    def extract(self, headers: Mapping[str, str]) -> Span | None:
        """The span that `traceparent` names; None where it names none."""
        span = trace.get_current_span(self._propagator.extract(headers, Context()))
        return span if span.get_span_context().is_valid else None

    def headers(self, span: Span) -> Mapping[str, str]:
        """`traceparent`, and `tracestate` where there is one."""
        carrier: dict[str, Any] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span, Context()))
        return carrier

    def flush(self) -> None:
        """Send what is waiting, and wait until it is sent."""
        self._provider.force_flush()

    def close(self) -> None:
        """The same, for the last time. Blocks for at most the exporter's timeout."""
        self._provider.shutdown()
