"""Refusals: what can be one, and the classes that a client raises for them."""

from __future__ import annotations

import copy
import enum
import logging
import pickle
import threading
from typing import Any

import pytest

from reference.peer import Fault
from sealwire import ConfigurationError, Refuse, RemoteError, RequestHandler, SealwireError, ThreadingTCPServer
from sealwire.errors import InvalidState
from sealwire.faults import FaultClasses
from sealwire.send_rcv import recv_msg, send_msg
from support.service import Deployment, running


class OutOfStock(Refuse):
    code = 64


class OnlyFewLeft(OutOfStock):
    """Has the code of its base."""


class Gone(RemoteError):
    code = 65


class Code(enum.IntEnum):
    LATE = 66


class Late(Refuse):
    code = Code.LATE


class Sold(Refuse):
    code = 67

    def __init__(self, item: str) -> None:
        super().__init__(f"{item} is sold")
        self.item = item


@pytest.mark.parametrize(
    ("refusal", "code", "text"),
    [
        (Refuse(64, ""), 64, ""),
        (Refuse(255, "ü" * 512), 255, "ü" * 512),
        (OutOfStock("none"), 64, "none"),
        (OutOfStock(64, "none"), 64, "none"),
        (OnlyFewLeft("two"), 64, "two"),
        (Late("x"), 66, "x"),
        (Sold("a nail"), 67, "a nail is sold"),
    ],
    ids=repr,
)
def test_code_and_text(refusal: Refuse, code: int, text: str) -> None:
    assert (refusal.code, refusal.text, refusal.received) == (code, text, False)
    assert str(refusal) == f"fault {code}: {text}"
    for same in (copy.copy(refusal), pickle.loads(pickle.dumps(refusal))):
        assert (type(same), same.args, vars(same)) == (type(refusal), refusal.args, vars(refusal))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (
            lambda: Refuse(63, "x"),
            "the code of Refuse must be a number from 64 to 255, not 63; the others are Sealwire's",
        ),
        (lambda: Refuse(256, "x"), "not 256"),
        (lambda: Refuse(19, "x"), "not 19"),
        (lambda: Refuse(-1, "x"), "not -1"),
        (lambda: Refuse(True, "x"), "not True"),
        (lambda: Refuse(64.0, "x"), "not a value of type float"),
        (lambda: Refuse("x"), r"Refuse needs a code and a text: Refuse\(64, 'why'\), or a class with a code"),
        (lambda: OutOfStock(65, "x"), "OutOfStock has the code 64; raise it with a text alone"),
        (lambda: Refuse(64, b"x"), "the text of Refuse must be a str, not a value of type bytes"),
        (lambda: OutOfStock(5), "the text of OutOfStock must be a str"),
        (lambda: Refuse(64, "x" * 1025), "has 1025 bytes of UTF-8, and at most 1024 can be sent; shorten it"),
        (lambda: Refuse(64, "ü" * 513), "has 1026 bytes"),
        (lambda: Refuse(64, "\ud800"), "half of a surrogate pair"),
        (lambda: type("Odd", (Refuse,), {"code": 63}), "Odd.code must be a number from 64 to 255, not 63"),
        (lambda: type("Odd", (Refuse,), {"code": "64"}), "Odd.code .* not a value of type str"),
        (lambda: type("Odd", (Refuse,), {"code": property(int)}), "Odd.code .* not a value of type property"),
    ],
)
def test_what_cannot_be_sent(made: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        made()


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        ([Refuse], "faults: Refuse.code must be a number from 64 to 255, not a value of type NoneType"),
        ([ValueError], "faults: ValueError is not derived from sealwire.Refuse"),
        ([SealwireError], "faults: SealwireError is not"),
        ([64], "faults: a value of type int is not"),
        (OutOfStock, "faults must be a list of classes"),
        (64, "faults must be a list of classes"),
        ([OutOfStock, OnlyFewLeft], "faults: OutOfStock and OnlyFewLeft both have code 64"),
        ([Sold], "faults: Sold has a constructor of its own, and a FAULT has no more than code and text"),
        ([type("Low", (RemoteError,), {"code": 20})], "faults: Low.code must be a number from 64 to 255, not 20"),
        ([type("New", (Refuse,), {"code": 64, "__new__": lambda cls, *_: None})], "New has a constructor of its own"),
    ],
)
def test_classes_that_stand_for_no_fault(classes: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        FaultClasses(classes)


def test_exceptions_of_faults() -> None:
    faults = FaultClasses([OutOfStock, OutOfStock, Gone, Late])
    found = [faults.error(code, "why") for code in (64, 65, 66, 67, 19)]
    assert [type(each) for each in found] == [OutOfStock, Gone, Late, RemoteError, RemoteError]
    assert [(each.code, each.text) for each in found] == [(code, "why") for code in (64, 65, 66, 67, 19)]
    assert str(found[0]) == "the server answered fault 64: why"
    longer = faults.error(64, "\\x00" * 1024)  # escaped
    assert vars(pickle.loads(pickle.dumps(longer))) == vars(longer)


def raising(error: BaseException) -> Any:
    def respond(message: Any) -> Any:
        raise error

    return respond


def test_a_refusal_of_another_server_is_a_failure_of_the_handler(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    """Another server's answer to this one is not meant for this one's clients."""
    received = FaultClasses([OutOfStock]).error(64, "Hunter2")
    server = ThreadingTCPServer(("127.0.0.1", 0), raising(received), deployment.server_security())
    with running(server) as port, deployment.client(port) as client, pytest.raises(RemoteError) as caught:
        client.send_request(1)
    assert caught.value.code == 19
    assert "Hunter2" not in caught.value.text + caplog.text
    assert "handler failed" in caplog.text


def test_a_refusal_by_hand(deployment: Deployment) -> None:
    unasked: list[str] = []

    class Handler(RequestHandler):
        def handle(self) -> None:
            while recv_msg(self.request) is not None:
                self.request.refuse(OutOfStock("none"))
                try:
                    self.request.refuse(OutOfStock("none"))
                except InvalidState as error:
                    unasked.append(str(error))
                if recv_msg(self.request) is None:
                    return
                send_msg(self.request, b"x")

    server = ThreadingTCPServer(("127.0.0.1", 0), Handler, deployment.server_security(raw=True))
    with running(server) as port, deployment.client(port, raw=True) as client:
        for _ in range(2):
            with pytest.raises(RemoteError, match="fault 64: none"):
                client.send_request(b"")
            assert client.send_request(b"") == b"x"
    assert unasked == ["there is no unanswered request; a server sends nothing unasked"] * 2


def test_a_refusal_that_leaves_handle_ends_the_connection(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ended = threading.Event()

    class Handler(RequestHandler):
        def handle(self) -> None:
            recv_msg(self.request)
            raise OutOfStock("none")

        def finish(self) -> None:
            ended.set()

    server = ThreadingTCPServer(("127.0.0.1", 0), Handler, deployment.server_security(raw=True))
    with running(server) as port, deployment.client(port, raw=True) as client:
        with pytest.raises(RemoteError, match="fault 64: none"):
            client.send_request(b"")
        assert ended.wait(10)
    assert [record.levelname for record in caplog.records if record.name == "sealwire.server"] == ["INFO"]


@pytest.mark.parametrize("code", [0, 15, 24, 63, 256, 320, 65535])
def test_codes_out_of_the_range_from_a_hostile_server(deployment: Deployment, code: int) -> None:
    with (
        deployment.ref_server(handler=lambda payload: Fault(code, "because")) as server,
        deployment.client(server.port, raw=True, faults=[OutOfStock]) as client,
        pytest.raises(RemoteError) as caught,
    ):
        client.send_request(b"ask")
    assert (type(caught.value), caught.value.code) == (RemoteError, 19)


def test_the_text_of_a_hostile_server_is_escaped(deployment: Deployment) -> None:
    text = "\x1b[31m\n" * 170
    with (
        deployment.ref_server(handler=lambda payload: Fault(64, text)) as server,
        deployment.client(server.port, raw=True, faults=[OutOfStock]) as client,
        pytest.raises(OutOfStock) as caught,
    ):
        client.send_request(b"ask")
    assert caught.value.text == "\\x1b[31m\\n" * 170
