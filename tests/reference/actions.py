"""The actions of a script of the reference server: how it misbehaves, and at which point.

A script has one mapping for each connection, in order of acceptance; later connections are served properly. Its keys
are points, its values actions that replace what a proper server does there:

    "accept"    TCP is up               default: nothing (TLS is next)
    "tls"       TLS is up               default: nothing (HELLO is read next)
    "hello"     HELLO was right         default: welcome()
    "welcomed"  the handshake is done   default: nothing
    1, 2, ...   the n-th MESSAGE came   default: answer()
    "message"   any other MESSAGE       default: answer()
    "ping"      PING came               default: pong()
    "close"     CLOSE came              default: close(0)
    "part"      PART came               default: grant()
    "credit"    CREDIT came             default: nothing
    "end"       END came                default: answer()
    "cancel"    CANCEL came             default: fault(22)

A MESSAGE with the flag UPLOAD is answered by default at its END, where the frame at hand is that MESSAGE with all its
parts for a payload; at "cancel" it is the MESSAGE as well. These points and "part" are left out once the request was
answered.

An action is any callable of the connection and the frame at hand (None before HELLO). Those below cover what
docs/protocol.md forbids; do() runs several at one point. For example::

    with RefServer(..., script=[{"hello": reject(4)}, {1: answer(reply_to=9)}, {2: do(answer(), close(2))}]) as server:
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reference import protocol as p
from reference.protocol import Frame

if TYPE_CHECKING:
    from reference.connection import Connection

Action = Callable[["Connection", Any], Any]


def nothing(connection: Connection, frame: Frame | None) -> None:
    """Let it pass. In place of an answer: never give one."""


def do(*actions: Action) -> Action:
    """One after the other."""

    def act(connection: Connection, frame: Frame | None) -> None:
        for action in actions:
            action(connection, frame)

    return act


def welcome(**fields: Any) -> Action:
    """WELCOME, with version, nonce, max_frame, codec or extensions replaced, or tagged with ``tag_key``."""
    return lambda connection, frame: connection.welcome(frame, **fields)


def answer(payload: bytes | None = None, *, kind: int | None = None, **header: Any) -> Action:
    """The handler's answer, with kind, payload, reply_to, sequence, flags, wait or key (of the tag) replaced."""

    def act(connection: Connection, frame: Frame) -> None:
        made_kind, made = connection.hand_over(frame)
        sent = {"reply_to": frame.request} | header
        connection.answered(frame.request)
        connection.send(made_kind if kind is None else kind, made if payload is None else payload, **sent)

    return act


def answer_partly(size: int, payload: bytes | None = None) -> Action:
    """The first ``size`` bytes of the answer's frame; combine it with drop(), or with nothing more to stall."""

    def act(connection: Connection, frame: Frame) -> None:
        kind, made = connection.hand_over(frame)
        body = made if payload is None else payload
        whole = p.frame(kind, body, connection.next_sequence, frame.request, connection.key_out)
        connection.next_sequence += 1
        connection.send_raw(whole[:size])

    return act


def fault(code: int, text: str = "") -> Action:
    """FAULT, without the handler."""

    def act(connection: Connection, frame: Frame) -> None:
        connection.handed = max(connection.handed, frame.request)
        connection.answered(frame.request)
        connection.send(p.FAULT, p.fault_payload(code, text), reply_to=frame.request)

    return act


def parts(*payloads: bytes) -> Action:
    """A PART with each payload, each as soon as there is credit; the answer is another action."""

    def act(connection: Connection, frame: Frame) -> None:
        for payload in payloads:
            if not connection.send_part(frame.request, payload):
                break

    return act


def part(payload: bytes = b"", **header: Any) -> Action:
    """A PART at once, with or without credit, and with anything replaced."""
    return lambda connection, frame: connection.send(p.PART, payload, **({"reply_to": frame.request} | header))


def credit(amount: int, **header: Any) -> Action:
    """CREDIT of any amount, with anything replaced."""
    return lambda connection, frame: connection.send(p.CREDIT, p.u(amount, 4), **({"reply_to": frame.request} | header))


def grant() -> Action:
    """CREDIT for the PART at hand as it ought to be: in steps of half a window, for an unanswered request."""
    return lambda connection, frame: connection.grant(frame)


def pong(payload: bytes | None = None, **header: Any) -> Action:
    """PONG, with anything replaced."""

    def act(connection: Connection, frame: Frame) -> None:
        connection.answered(frame.request)
        sent = {"reply_to": frame.request} | header
        connection.send(p.PONG, frame.payload if payload is None else payload, **sent)

    return act


def send(kind: int, payload: bytes = b"", **header: Any) -> Action:
    """Any frame."""
    return lambda connection, frame: connection.send(kind, payload, **header)


def raw(data: bytes) -> Action:
    """Any bytes, inside TLS if that is up: a length over the cap, say."""
    return lambda connection, frame: connection.send_raw(data)


def reject(code: int) -> Action:
    """REJECT in place of WELCOME."""
    return lambda connection, frame: connection.reject(code)


def close(code: int, last: int | None = None) -> Action:
    """CLOSE, by default with the true ``last``: the highest MESSAGE that answer() was used for."""
    return lambda connection, frame: connection.send_close(code, last)


def drop(how: str = "fin") -> Action:
    """End TCP without CLOSE: "fin", "reset", or "notify" for close_notify and then FIN."""
    return lambda connection, frame: connection.drop(how)


def silent(seconds: float) -> Action:
    """Violation where the client sends anything within that time."""
    return lambda connection, frame: connection.silent(seconds)


def hold(event: threading.Event) -> Action:
    """Do not go on before the test says so."""
    return lambda connection, frame: event.wait(connection.timeout)
