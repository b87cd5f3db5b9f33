"""Spans and metrics of requests, at both ends and on both kinds of pump."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from sealwire import (
    AsyncClientPool,
    AsyncTCPClient,
    AsyncTCPServer,
    ClientPool,
    Refuse,
    RemoteError,
    RequestHandler,
    SynchronousTCPClient,
    ThreadingTCPServer,
)
from sealwire.integrations.opentelemetry import Telemetry, _server
from support.aio import serving
from support.service import Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clean")

ADDRESS = ("127.0.0.1", 0)
SECRET = "what the client sent"


def current() -> int:
    return trace.get_current_span().get_span_context().span_id


class OfThreads(RequestHandler):
    def respond(self, message: Any) -> Any:
        match message:
            case ["fail"]:
                raise LookupError(SECRET)
            case ["refuse"]:
                raise Refuse(70, SECRET)
            case ["parts", number]:
                return self.parts(number)
        return sum(message) if isinstance(message, Iterator) else [current(), self.context.metadata]

    def parts(self, number: int) -> Iterator[int]:
        for _ in range(number):
            yield current()
        return current()


class OnLoop(RequestHandler):
    async def respond(self, message: Any) -> Any:
        match message:
            case ["fail"]:
                raise LookupError(SECRET)
            case ["refuse"]:
                raise Refuse(70, SECRET)
            case ["parts", number]:
                return self.parts(number)
        if isinstance(message, AsyncIterator):
            return sum([each async for each in message])
        await asyncio.sleep(0)
        return [current(), self.context.metadata]

    async def parts(self, number: int) -> AsyncIterator[int]:
        for _ in range(number):
            await asyncio.sleep(0)
            yield current()


class Seen:
    """The spans and metrics that the telemetry of a process has recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self._meters = MeterProvider([self._reader])

    def telemetry(self, **options: Any) -> Telemetry:
        return Telemetry(tracer_provider=self.tracers, meter_provider=self._meters, **options)

    def spans(self, kind: SpanKind, number: int) -> list[ReadableSpan]:
        """Return that many spans, in the order of their ends."""

        def found() -> list[ReadableSpan]:
            return [each for each in self._exporter.get_finished_spans() if each.kind is kind]

        eventually(lambda: len(found()) >= number)
        return found()

    def counts(self, end: str) -> dict[tuple[Any, ...], int]:
        """The number of measurements, by status code and type of error."""
        data = self._reader.get_metrics_data()
        assert data is not None
        (instrument,) = (
            each
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for each in scope.metrics
            if each.name == f"rpc.{end}.call.duration"
        )
        assert instrument.unit == "s"
        found: dict[tuple[Any, ...], int] = {}
        for point in instrument.data.data_points:
            attributes = dict(point.attributes or {})
            key = attributes.get("rpc.response.status_code"), attributes.get("error.type")
            found[key] = found.get(key, 0) + point.count
        return found


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(params=["threads", "asyncio"])
def serve(request: pytest.FixtureRequest, deployment: Deployment) -> Callable[[Telemetry], Any]:
    """Starts a server within telemetry; its context manager gives the port."""
    security = deployment.server_security()

    def serve(telemetry: Telemetry) -> Any:
        middleware = [telemetry.server]
        if request.param == "threads":
            return running(ThreadingTCPServer(ADDRESS, OfThreads, security, middleware=middleware))
        return _port_of(serving(lambda: AsyncTCPServer(ADDRESS, OnLoop, security, middleware=middleware)))

    return serve


class _port_of:  # noqa: N801 - used like a function
    def __init__(self, one: Any) -> None:
        self._one = one

    def __enter__(self) -> int:
        return int(self._one.__enter__().port)

    def __exit__(self, *details: Any) -> None:
        self._one.__exit__(*details)


def own(context: Any) -> tuple[int, int]:
    """Return the ids of a span, by its own context or by the one that its child got."""
    return context.trace_id, context.span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_one_trace_for_both_ends(deployment: Deployment, seen: Seen, serve: Any) -> None:
    telemetry = seen.telemetry(service="stock")
    security = deployment.security("client")
    with (
        serve(telemetry) as port,
        SynchronousTCPClient("localhost", port, security=security, middleware=[telemetry.client]) as client,
        seen.tracers.get_tracer("test").start_as_current_span("whole") as whole,
    ):
        in_handler, metadata = client.send_request(5, metadata={"mine": "x"})
        (at_client,) = seen.spans(SpanKind.CLIENT, 1)
        (at_server,) = seen.spans(SpanKind.SERVER, 1)
    assert own(at_client.parent) == own(whole.get_span_context())
    assert own(at_server.parent) == own(at_client.context)
    assert at_server.context is not None
    assert in_handler == at_server.context.span_id
    assert metadata.keys() == {"mine", "traceparent"}
    assert at_client.name == at_server.name == "stock/builtins:int"
    known = {"rpc.system.name": "sealwire", "rpc.method": "stock/builtins:int"}
    assert attributes(at_client) == known | {"server.address": "localhost", "server.port": port}
    assert attributes(at_server).items() >= (known | {"network.peer.address": "127.0.0.1"}).items()
    assert at_client.status.status_code is at_server.status.status_code is StatusCode.UNSET
    assert seen.counts("client") == seen.counts("server") == {(None, None): 1}


def test_outcomes(deployment: Deployment, seen: Seen, serve: Any) -> None:
    telemetry = seen.telemetry()
    security = deployment.security("client")
    with (
        serve(telemetry) as port,
        SynchronousTCPClient("localhost", port, security=security, middleware=[telemetry.client]) as client,
    ):
        for message in (["fail"], ["refuse"]):
            with pytest.raises(RemoteError):
                client.send_request(message)
        at_server, at_client = seen.spans(SpanKind.SERVER, 2), seen.spans(SpanKind.CLIENT, 2)
    assert [each.status.status_code for each in at_client] == [StatusCode.ERROR] * 2
    assert [each.status.status_code for each in at_server] == [StatusCode.ERROR, StatusCode.UNSET]
    assert seen.counts("client") == {("19", "19"): 1, ("70", "70"): 1}
    assert seen.counts("server") == {("19", "LookupError"): 1, ("70", None): 1}
    assert SECRET not in str([each.to_json() for each in (*at_server, *at_client)])


def test_parts(deployment: Deployment, seen: Seen, serve: Any) -> None:
    telemetry = seen.telemetry()
    security = deployment.security("client")
    with (
        serve(telemetry) as port,
        SynchronousTCPClient("localhost", port, security=security, middleware=[telemetry.client]) as client,
    ):
        in_parts = list(client.stream(["parts", 3]))
        with client.stream(["parts", 1_000_000]) as stream:
            next(stream)
        assert client.send_parts(range(5)) == 10
        at_server, at_client = seen.spans(SpanKind.SERVER, 3), seen.spans(SpanKind.CLIENT, 3)
    contexts = [each.context for each in at_server]
    assert contexts[0] is not None
    assert in_parts == [contexts[0].span_id] * 3
    assert [own(each.parent) for each in at_server] == [own(each.context) for each in at_client]
    assert [attributes(each).get("rpc.response.status_code") for each in at_server] == [None, "22", None]
    assert attributes(at_server[2])["rpc.method"] == "_OTHER"
    assert {each.status.status_code for each in (*at_server, *at_client)} == {StatusCode.UNSET}


def test_clients_on_asyncio(deployment: Deployment, seen: Seen, serve: Any) -> None:
    telemetry = seen.telemetry()

    async def main(port: int) -> None:
        options: Any = {"security": deployment.security("client"), "middleware": [telemetry.client]}
        async with (
            AsyncTCPClient("localhost", port, **options) as client,
            AsyncClientPool([("localhost", port), ("localhost", port + 1)], **options) as pool,
        ):
            await asyncio.gather(*(each.send_request(5) for each in (client, pool)))
            async with client.stream(["parts", 3]) as stream:
                assert len([each async for each in stream]) == 3

    with serve(telemetry) as port:
        asyncio.run(main(port))
        at_server, at_client = seen.spans(SpanKind.SERVER, 3), seen.spans(SpanKind.CLIENT, 3)
    assert {own(each.parent) for each in at_server} == {own(each.context) for each in at_client}
    places = {attributes(each)["server.address"] for each in at_client}
    assert places == {"localhost", f"localhost:{port}, localhost:{port + 1}"}


def test_traces_that_are_not_continued(deployment: Deployment, seen: Seen, serve: Any) -> None:
    """A client cannot say whether the server's work on its requests is recorded."""
    security = deployment.security("client")
    with (
        serve(seen.telemetry(continues_traces=False)) as port,
        ClientPool([("localhost", port)], security=security) as pool,
    ):
        unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
        for metadata in ({"traceparent": unsampled}, {"traceparent": "nonsense"}, None):
            pool.send_request(5, metadata=metadata)
        spans = seen.spans(SpanKind.SERVER, 3)
    assert [each.parent for each in spans] == [None] * 3
    assert [[hex(link.context.span_id) for link in each.links] for each in spans] == [["0xb7ad6b7169203331"], [], []]


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("a.example:7443", {"server.address": "a.example", "server.port": 7443}),
        ("[::1]:7443", {"server.address": "::1", "server.port": 7443}),
        ("/run/a.socket", {"server.address": "/run/a.socket"}),
        ("unix:/run/a:1", {"server.address": "/run/a:1"}),
        ("a.example:1, b.example:2", {"server.address": "a.example:1, b.example:2"}),
    ],
)
def test_addresses(address: str, found: dict[str, Any]) -> None:
    assert _server(address) == found


def test_the_extra_is_named() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import sealwire.integrations.opentelemetry"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs the extra [otel]" in done.stderr
