"""Spans and metrics of OpenTelemetry for requests, at both ends; needs the extra ``sealwire[otel]``.

::

    telemetry = Telemetry()
    ThreadingTCPServer(address, Orders, security, middleware=[telemetry.server])
    SynchronousTCPClient("orders.example", 7443, security=security, middleware=[telemetry.client])

The span of a server is the child of its client's: the trace context travels in the metadata of the request (W3C Trace
Context), inside the seal. Names are those of the semantic conventions for RPC, which are stable. The *method* is the
type of the message, like ``shop.orders:Order``, which is on the allowlist, so that a peer cannot make up names.

Spans have no text of an exception, which is often made of data of the request, but its type.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from time import monotonic
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from sealwire import extras
from sealwire.authorisation import type_name
from sealwire.errors import RemoteError
from sealwire.faults import Refuse
from sealwire.handler_parts import PartsOfMessage
from sealwire.middleware import CallContext, CallNext, observe
from sealwire.session.context import Context
from sealwire.session.parts import RequestCancelled
from sealwire.wire.frames import FaultCode

try:
    from opentelemetry.context import Context as OtelContext
    from opentelemetry.metrics import Histogram, MeterProvider, get_meter
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import (
        Link,
        Span,
        SpanKind,
        Status,
        StatusCode,
        TracerProvider,
        get_current_span,
        get_tracer,
        set_span_in_context,
        use_span,
    )
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    raise extras.missing("otel", "sealwire.integrations.opentelemetry") from None

_SYSTEM: Final = "sealwire"
_UNKNOWN: Final = "_OTHER"
"""The method of a message in parts, which has no type before they are taken."""
_LONGEST: Final = 120
"""Characters of the name of an exception's type."""
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_Attributes = dict[str, str | int]


class Telemetry:
    """Middleware that makes a span of each request, and measures it.

    The instruments are ``rpc.server.call.duration`` and ``rpc.client.call.duration``, histograms in seconds.

    Args:
        service: A name before the type of the message in the method, like ``stock`` in ``stock/shop.orders:Order``.
            Default: none.
        continues_traces: True to make a server's span the child of its client's, and sample it if that is sampled. If
            false, the span is the root of a trace with a link to the client's: for clients that must not decide.
            Default: True.
        propagator: Writes the context of a trace into metadata, and reads it. Default: W3C Trace Context, without
            baggage, which would be a peer's words in the program's context.
        tracer_provider: Default: the global one.
        meter_provider: Default: the global one.
    """

    def __init__(
        self,
        *,
        service: str = "",
        continues_traces: bool = True,
        propagator: TextMapPropagator | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._prefix = f"{service}/" if service else ""
        self._continues = continues_traces
        self._propagator = propagator or TraceContextTextMapPropagator()
        self._tracer = get_tracer(__name__, tracer_provider=tracer_provider)
        meter = get_meter(__name__, meter_provider=meter_provider)
        self._client_duration = _duration(meter.create_histogram, "client", "an outgoing")
        self._server_duration = _duration(meter.create_histogram, "server", "an incoming")

    def client(self, context: CallContext, message: Any, call_next: CallNext) -> Any:
        """Pass a request on within a span, and the span's context with it: middleware for any client.

        The span of ``stream`` ends with the stream.
        """
        attributes = self._attributes(message) | _server(context.address)
        span = self._tracer.start_span(str(attributes["rpc.method"]), kind=SpanKind.CLIENT, attributes=attributes)
        with _current(span):
            self._propagator.inject(context.metadata)
            return observe(context, message, call_next, _done(span, self._client_duration, attributes, _of_client))

    def server(self, context: Context, message: Any, call_next: CallNext) -> Any:
        """Handle a request within a span, which is the current one in the handler: middleware for any server."""
        attributes = self._attributes(message)
        remote = self._propagator.extract(context.metadata)
        span = self._tracer.start_span(
            str(attributes["rpc.method"]),
            context=remote if self._continues else None,
            links=None if self._continues else _links(remote),
            kind=SpanKind.SERVER,
            attributes=attributes | _peer(context.client_address),
        )
        with _current(span):
            reply = observe(context, message, call_next, _done(span, self._server_duration, attributes, _of_server))
        return _awaited(reply, span) if inspect.isawaitable(reply) else _within(reply, span)

    def _attributes(self, message: Any) -> _Attributes:
        method = _UNKNOWN if isinstance(message, PartsOfMessage) else self._prefix + type_name(type(message))
        return {"rpc.system.name": _SYSTEM, "rpc.method": method}


def _duration(create: Callable[..., Histogram], end: str, direction: str) -> Histogram:
    return create(
        f"rpc.{end}.call.duration",
        unit="s",
        description=f"The duration of {direction} remote procedure call.",
        explicit_bucket_boundaries_advisory=_BUCKETS,
    )


def _current(span: Span) -> Any:
    """Return a context manager in which the span is the current one, and which leaves its end to :func:`_done`."""
    return use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)


def _links(remote: OtelContext) -> list[Link]:
    found = get_current_span(remote).get_span_context()
    return [Link(found)] if found.is_valid else []


def _server(address: str) -> _Attributes:
    """Return the attributes for the address of a server; a pool's are one."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "," not in address and not address.startswith("unix:"):
        return {"server.address": host.strip("[]"), "server.port": int(port)}
    return {"server.address": address.removeprefix("unix:")}


def _peer(address: Any) -> _Attributes:
    if isinstance(address, tuple):
        return {"network.peer.address": str(address[0]), "network.peer.port": int(address[1])}
    return {}


def _of_client(error: BaseException) -> tuple[str, str, bool]:
    """Return the status code, the type of an error, and whether the request has failed, for a client."""
    if isinstance(error, GeneratorExit) or _is_cancellation(error):
        return "", "", False
    if isinstance(error, RemoteError):
        return str(error.code), str(error.code), True
    return "", _type_name(error), True


def _of_server(error: BaseException) -> tuple[str, str, bool]:
    """Return the same for a server, whose refusals are answers."""
    if isinstance(error, Refuse) and not error.received:
        return str(error.code), "", False
    if isinstance(error, GeneratorExit | RequestCancelled) or _is_cancellation(error):
        return str(int(FaultCode.CANCELLED)), "", False
    return str(int(FaultCode.HANDLER_FAILED)), _type_name(error), True


def _is_cancellation(error: BaseException) -> bool:
    return type(error).__name__ == "CancelledError"  # asyncio's, which a synchronous program does not import


def _type_name(error: BaseException) -> str:
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    # A handler may create a class with a name from a message.
    return name[:_LONGEST] if name.replace(".", "").isidentifier() else "error"


def _done(
    span: Span, duration: Histogram, attributes: _Attributes, outcome: Callable[[BaseException], tuple[str, str, bool]]
) -> Callable[[BaseException | None], None]:
    """Return the function that ends a span, and measures the time since now."""
    begun = monotonic()

    def done(error: BaseException | None) -> None:
        found: _Attributes = {}
        if error is not None:
            code, kind, has_failed = outcome(error)
            found = {"rpc.response.status_code": code} if code else {}
            if kind:
                found["error.type"] = kind
            if has_failed:
                span.set_status(Status(StatusCode.ERROR))
            span.set_attributes(found)
        duration.record(monotonic() - begun, attributes | found, set_span_in_context(span))
        span.end()

    return done


def _within(reply: Any, span: Span) -> Any:
    """Return a reply that makes its parts, if it has any, while the span is the current one."""
    if type(reply) is GeneratorType:
        return _parts(reply, span)
    if type(reply) is AsyncGeneratorType:
        return _async_parts(reply, span)
    return reply


async def _awaited(reply: Awaitable[Any], span: Span) -> Any:
    with _current(span):
        result = await reply
    return _within(result, span)


def _parts(generator: Generator[Any, None, Any], span: Span) -> Generator[Any, None, Any]:
    try:
        while True:
            with _current(span):
                try:
                    part = next(generator)
                except StopIteration as stop:
                    return stop.value
            yield part
    finally:
        with _current(span):
            generator.close()


async def _async_parts(generator: AsyncGenerator[Any, None], span: Span) -> AsyncGenerator[Any, None]:
    try:
        while True:
            with _current(span):
                try:
                    part = await anext(generator)
                except StopAsyncIteration:
                    return
            yield part
    finally:
        with _current(span):
            await generator.aclose()
