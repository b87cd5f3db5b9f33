"""Servers that are given middleware or rules: what is refused when they are made, and what hot reload changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from sealwire import (
    AsyncTCPServer,
    ConfigurationError,
    PreforkTCPServer,
    RemoteError,
    RequestHandler,
    Security,
    Service,
    SynchronousTCPClient,
    TCPServer,
    ThreadingTCPServer,
    ThreadingUnixStreamServer,
    recv_msg,
    serve,
)
from sealwire.dtls import ThreadingUDPServer, UDPServer
from sealwire.middleware import Rule, audit, authorise
from sealwire.middleware.serving import served_class
from sealwire.testing import Throwaway
from support.events import audited
from support.service import running

WHERE = ("127.0.0.1", 0)


@dataclass
class Order:
    number: int


def echo(message: Any) -> Any:
    return message


async def echo_on_loop(message: Any) -> Any:
    return message


class Handle(RequestHandler):
    def handle(self) -> None:
        recv_msg(self.request)


def around(context: Any, message: Any, call_next: Any) -> Any:
    return call_next(context, message)


async def around_on_loop(context: Any, message: Any, call_next: Any) -> Any:
    return await call_next(context, message)


@pytest.fixture(scope="module")
def place() -> Iterator[Throwaway]:
    with Throwaway() as made:
        yield made


@pytest.fixture(scope="module")
def plain(place: Throwaway) -> Security:
    return place.security("server", "localhost", peers=["dns:*.example", "uid:0"], service="orders")


def guarded(place: Throwaway, **options: Any) -> Security:
    rules = [Rule([str], ["dns:client.example"])]
    given = {"peers": ["dns:*.example", "uid:0"], "service": "orders", "authorise": rules}
    return place.security("server", "localhost", **(given | options))


@contextmanager
def client_of(
    place: Throwaway, security: Security, handler: Any = echo, *middleware: Any, **options: Any
) -> Iterator[SynchronousTCPClient]:
    """A client of a server; options of its Security."""
    own = place.security("client", "client.example", service="orders", **options)
    with (
        running(ThreadingTCPServer(WHERE, handler, security, middleware=middleware)) as port,
        SynchronousTCPClient("localhost", port, security=own) as client,
    ):
        yield client


SYNCHRONOUS: list[Any] = [
    lambda *given, **options: TCPServer(WHERE, *given, **options),
    lambda *given, **options: ThreadingUnixStreamServer("/nowhere/socket", *given, **options),
    lambda *given, **options: PreforkTCPServer(WHERE, *given, **options),
    lambda *given, **options: UDPServer(WHERE, *given, **options),
    lambda *given, **options: ThreadingUDPServer(WHERE, *given, **options),
    lambda handler, security, **options: serve(handler, *WHERE, security, **options),
]
ON_LOOP: list[Any] = [
    lambda *given, **options: AsyncTCPServer(WHERE, *given, **options),
    lambda *given, **options: PreforkTCPServer(WHERE, *given, loop="asyncio", **options),
]


@pytest.mark.parametrize("server", SYNCHRONOUS, ids=range(len(SYNCHRONOUS)))
def test_no_coroutines_on_synchronous_servers(plain: Security, server: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"middleware around_on_loop is a coroutine function.*AsyncTCPServer"):
        server(echo, plain, middleware=[around, around_on_loop])


@pytest.mark.parametrize("server", ON_LOOP, ids=range(len(ON_LOOP)))
def test_no_coroutines_around_ordinary_handlers(plain: Security, server: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot run here; make the handler a coroutine function, too"):
        server(echo, plain, middleware=[around_on_loop])


@pytest.mark.parametrize("server", [*SYNCHRONOUS, *ON_LOOP], ids=range(len(SYNCHRONOUS + ON_LOOP)))
def test_not_around_handlers_that_read_their_requests(place: Throwaway, plain: Security, server: Any) -> None:
    message = r"Handle reads its requests itself, in handle\(\), so that neither middleware nor rules"
    with pytest.raises(ConfigurationError, match=message):
        server(Handle, plain, middleware=[around])
    with pytest.raises(ConfigurationError, match=message):
        server(Handle, guarded(place))


def test_the_handler_class_stays_the_same_without_any(plain: Security) -> None:
    class Mine(RequestHandler):
        def respond(self, message: Any) -> Any:
            return message

    assert served_class(Mine, plain) is Mine


@pytest.mark.parametrize("handler", [echo, echo_on_loop], ids=["function", "coroutine"])
def test_what_a_handler_declares_is_its_own(plain: Security, handler: Any) -> None:
    class Orders(Service):
        def place(self, message: str) -> int:
            return len(message)

    inner = served_class(Orders, plain)
    outer = served_class(Orders, plain, [around])
    assert [each.name for each in outer.signatures()] == [each.name for each in inner.signatures()]
    assert (outer.__qualname__, outer.__module__) == (inner.__qualname__, inner.__module__)
    assert len(served_class(handler, plain, [around], coroutines=True).signatures()) == 1


def test_a_static_respond(place: Throwaway, plain: Security) -> None:
    class Static(RequestHandler):
        @staticmethod
        def respond(message: str) -> str:
            return message * 2

    with client_of(place, plain, Static, around) as client:
        assert client.send_request("ab") == "abab"


def refused(client: SynchronousTCPClient, message: Any) -> str:
    with pytest.raises(RemoteError) as caught:
        client.send_request(message)
    assert caught.value.code == 17
    return caught.value.text


def test_rules_come_before_all_middleware(place: Throwaway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sealwire.audit")
    with client_of(place, guarded(place), echo, audit) as client:
        refused(client, 5)
    assert audited(caplog, "request.ended") == []


def test_rules_have_a_place_in_the_list(place: Throwaway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sealwire.audit")
    security = guarded(place)
    assert security.authorisation is not None
    with client_of(place, security, echo, audit, authorise(security.authorisation)) as client:
        refused(client, 5)
        assert client.send_request("a str") == "a str"
    found = audited(caplog, "request.ended")
    assert [(each["type"], each["outcome"]) for each in found] == [
        ("builtins:int", "refused with fault 17"),
        ("builtins:str", "answered"),
    ]
    assert len(audited(caplog, "message.refused")) == 1


def test_other_rules_do_not_take_the_place_of_the_configuration(place: Throwaway) -> None:
    wider = authorise(Rule([str, int], ["dns:client.example"]))
    with client_of(place, guarded(place), echo, wider) as client:
        assert client.send_request("a str") == "a str"
        refused(client, 5)


def test_rules_as_an_argument_of_one_server(place: Throwaway, plain: Security) -> None:
    rules = authorise(Rule([str], ["dns:client.example"]), Rule([int], ["dns:other.example"]))
    with client_of(place, plain, echo, rules) as client:
        assert client.send_request("a str") == "a str"
        assert refused(client, 5) == "this client may not send messages of this type"
    with pytest.raises(ConfigurationError, match="Order cannot be the type of a message"):
        ThreadingTCPServer(WHERE, echo, plain, middleware=[authorise(Rule([Order], ["dns:client.example"]))])


@pytest.mark.parametrize(
    ("rules", "message"),
    [((), "authorise is empty"), ((None,), "this Security has no rules"), ((5,), "not a int")],
    ids=range(3),
)
def test_what_are_not_rules(rules: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        authorise(*rules)


def test_rules_hold_through_reloads_and_follow_the_names_of_a_renewed_certificate(place: Throwaway) -> None:
    rules = [Rule([str], ["dns:client.example"]), Rule([int], ["dns:other.example"])]
    security = guarded(place, authorise=rules)
    before = security.authorisation
    with client_of(place, security) as client:
        assert client.send_request("a str") == "a str"
        refused(client, 5)
        place.leaf("server", "localhost")
        place.leaf("client", "client.example", "other.example")
        assert security.reload()
        assert client.security.reload()
        assert security.authorisation is before
        client.close()
        assert [client.send_request(message) for message in ("a str", 5)] == ["a str", 5]
        refused(client, 5.0)


def test_what_is_nested_is_judged_by_what_it_is_nested_in(place: Throwaway) -> None:
    security = guarded(place, allow=[Order], authorise=[Rule([list], ["dns:client.example"])])
    with client_of(place, security, allow=[Order]) as client:
        refused(client, Order(1))
        assert client.send_request([Order(1)]) == [Order(1)]
