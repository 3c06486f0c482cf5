"""OpenTelemetry traces of requests, of embedding and of fills, sent with OTLP over HTTP where an endpoint is set.

Without one nothing of OpenTelemetry is imported and a span is one shared object that does nothing. No span carries a
text, a key or the name of a tenant.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from memory_operator.errors import ConfigurationError
from memory_operator.logs import get_logger

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

log = get_logger(__name__)

FLUSH_SECONDS = 3.0
"""How long the end of a process waits for a collector to take what is left."""

_NAME = "memory_operator"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_SERVER_ERRORS = 500
_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_TOLD_SECONDS = 60.0

_tracer: Tracer | None = None


class Span(Protocol):
    """One step of something, from `with` to its end; an error that leaves it is noted by the name of its class."""

    def __enter__(self) -> Span:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """End."""

    def note(self, **attributes: object) -> None:
        """Add attributes, as `span` takes them."""

    def answered(self, method: str, route: str, status: int) -> None:
        """Say how an HTTP request was answered."""


class _Off:
    """A span that nobody looks at."""

    __slots__ = ()

    def __enter__(self) -> _Off:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, **_: object) -> None:
        pass

    def answered(self, method: str, route: str, status: int) -> None:
        pass


_OFF = _Off()


def span(name: str, **attributes: object) -> Span:
    """A step below the one that is going on here, if any; `None` is left out, and what is no number becomes text."""
    return _OFF if _tracer is None else _On(_tracer, name, _named(attributes))


def request_span(headers: Mapping[str, str], request_id: str) -> Span:
    """An HTTP request; the trace that its W3C `traceparent` names goes on."""
    if _tracer is None:
        return _OFF
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
    # From an empty context: whoever accepted the connection is no part of this.
    parent = TraceContextTextMapPropagator().extract(carrier, Context())
    return _On(_tracer, "HTTP", {"memory.request_id": request_id}, parent=parent)


class _On:
    """A span of the SDK, and the current one between its beginning and its end."""

    __slots__ = ("_attributes", "_name", "_parent", "_span", "_token", "_tracer")

    def __init__(
        self, tracer: Tracer, name: str, attributes: dict[str, str | int | float], *, parent: Context | None = None
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._attributes = attributes
        self._parent = parent
        self._span: OtelSpan
        self._token: Token[Context]

    def __enter__(self) -> _On:
        from opentelemetry import context, trace

        kind = trace.SpanKind.INTERNAL if self._parent is None else trace.SpanKind.SERVER
        self._span = self._tracer.start_span(self._name, self._parent, kind, self._attributes)
        self._token = context.attach(trace.set_span_in_context(self._span, self._parent))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        from opentelemetry import context, trace

        context.detach(self._token)
        # The class says enough: a message may hold what is nobody else's to read.
        if kind is not None and issubclass(kind, Exception):
            self._span.set_status(trace.StatusCode.ERROR, kind.__name__)
            self._span.set_attribute("error.type", kind.__name__)
        self._span.end()

    def note(self, **attributes: object) -> None:
        self._span.set_attributes(_named(attributes))

    def answered(self, method: str, route: str, status: int) -> None:
        from opentelemetry.trace import StatusCode

        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
        if status >= _SERVER_ERRORS:
            self._span.set_status(StatusCode.ERROR)


def _named(attributes: Mapping[str, object]) -> dict[str, str | int | float]:
    return {
        f"memory.{name}": value if isinstance(value, int | float) else str(value)
        for name, value in attributes.items()
        if value is not None
    }


@contextmanager
def exported(process: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Send the spans of a process until the end of the block, where the standard variables name an endpoint.

    `environment` says whether; how is read by the SDK, from the same variables. Raises ConfigurationError.
    """
    global _tracer
    if not _wanted(environment):
        yield
        return
    provider = _provider(f"memory-operator-{process}")
    # Not the global one: libraries that look there would begin to send spans of their own, with whatever is in them.
    _tracer = provider.get_tracer(_NAME, version("memory-operator"))
    marks = _mark_records()
    sparing = _Sparing()
    logging.getLogger(_EXPORTER).addFilter(sparing)
    try:
        yield
    finally:
        _tracer = None
        for handler, mark in marks:
            handler.removeFilter(mark)
        _end(provider)
        logging.getLogger(_EXPORTER).removeFilter(sparing)


def _wanted(environment: Mapping[str, str]) -> bool:
    """Whether to send spans. Raises ConfigurationError: not with these variables, or not with what is installed."""
    named = next((name for name in _ENDPOINTS if environment.get(name, "").strip()), None)
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if named is None or disabled or environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    _check_endpoint(named, environment[named].strip())
    protocol = next((name for name in _PROTOCOLS if environment.get(name, "").strip()), None)
    if protocol is not None and environment[protocol].strip() != _PROTOCOL:
        raise ConfigurationError(
            f"{protocol} is not {_PROTOCOL}", hint=f"set {protocol}={_PROTOCOL}, and the endpoint's port for OTLP/HTTP"
        )
    if not all(_installed(module) for module in _NEEDED):
        raise ConfigurationError(
            f"{named} is set, and what sends traces is not installed",
            hint="pip install 'memory-operator[tracing]', or unset the variable",
        )
    return True


def _check_endpoint(name: str, endpoint: str) -> None:
    try:
        url = urlsplit(endpoint)
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        good = False
    if not good:
        raise ConfigurationError(f"{name} is no http or https URL", hint="such as http://collector.example.com:4318")
    if url.username is not None:
        # The exporter logs the URL when it cannot be reached.
        raise ConfigurationError(
            f"{name} holds a user or a password", hint="give them in OTEL_EXPORTER_OTLP_HEADERS instead"
        )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # without the parent; ValueError: without a spec
        return False


def _provider(service: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _end(provider: TracerProvider) -> None:
    """Send what is left. The SDK alone would wait much longer for a collector that is away."""
    ending = threading.Thread(target=provider.shutdown, name="last traces", daemon=True)
    ending.start()
    ending.join(FLUSH_SECONDS)
    if ending.is_alive():
        log.warning("the last traces were not taken within %g s and are lost", FLUSH_SECONDS)


class _Marks(logging.Filter):
    """Gives each record the trace and the span that it was written in."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through."""
        from opentelemetry import trace

        here = trace.get_current_span().get_span_context()
        if here.is_valid:
            record.trace_id, record.span_id = f"{here.trace_id:032x}", f"{here.span_id:016x}"
        return True


class _Sparing(logging.Filter):
    """Lets one record in a minute through: the exporter tells of each try to reach a collector that is away."""

    def __init__(self) -> None:
        super().__init__()
        self._next = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let it through."""
        due = record.created >= self._next
        if due:
            self._next = record.created + _TOLD_SECONDS
        return due


def _mark_records() -> list[tuple[logging.Handler, logging.Filter]]:
    # At the handlers: a filter of a logger does not see the records of those below it.
    marks: list[tuple[logging.Handler, logging.Filter]] = [
        (handler, _Marks()) for handler in logging.getLogger().handlers
    ]
    for handler, mark in marks:
        handler.addFilter(mark)
    return marks
