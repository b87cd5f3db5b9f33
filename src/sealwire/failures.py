"""Reports requests that failed and connections that ended, and tells their clients.

A client learns that its request failed and an id; the log has the type and place of the error under that id. The
exception's text is kept out of both, because it is often made of data that the client sent.
"""

from __future__ import annotations

import logging
import os
import secrets
import sysconfig
import traceback
from pathlib import PurePath
from types import FrameType
from typing import Any, Final

from sealwire.contract import UndeclaredMessage
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    EncodeError,
    LimitExceeded,
    RemoteProtocolError,
    SealwireError,
    TypeNotAllowed,
)
from sealwire.faults import Refuse
from sealwire.handler_parts import AnswersInParts, PartsOfMessage
from sealwire.server_events import ServerEvents, Source
from sealwire.session.explain import FAULT_TEXTS
from sealwire.session.parts import PartOverdue, RequestCancelled
from sealwire.session.requests import AnswerChannel
from sealwire.session.server import ServerSession
from sealwire.wire.frames import CloseCode, FaultCode, escaped

_OWN_FAULTS: Final = 64
"""The first code of a handler's own faults."""
_LONGEST: Final = 80
"""Characters of a name in an error's place."""
_SEALWIRE: Final = os.path.dirname(__file__) + os.sep
_PACKAGES: Final = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
"""Directories of code that is not the user's own."""
_INSTALLED: Final = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")})


def fault_code(error: DecodeError) -> FaultCode:
    """Return the code of the FAULT for a message that could not be decoded."""
    if isinstance(error, TypeNotAllowed):
        return FaultCode.TYPE_NOT_ALLOWED
    return FaultCode.TOO_LARGE if isinstance(error, LimitExceeded) else FaultCode.MALFORMED_PAYLOAD


def refuse_message(channel: AnswerChannel, request: int, error: DecodeError) -> None:
    """Report why a message could not be decoded, and send FAULT. It tells the client no name but one that it sent."""
    session, code = channel.session, fault_code(error)
    name = error.name if isinstance(error, TypeNotAllowed) else ""
    report_message(session, request, error.reason, str(error), name)
    if isinstance(error, LimitExceeded):
        session.events.count("limit_hits", "message")
    text = f"{FAULT_TEXTS[code]}: {name}" if name else None
    channel.send_fault(request, code, error.told if isinstance(error, UndeclaredMessage) else text)


def report_message(session: ServerSession, request: int, reason: str, why: str, name: str = "") -> None:
    """Report a message that was refused, and the name of its type if that is why."""
    source = session.source(request)
    session.events.count("messages_refused", reason)
    session.events.report("message.refused", source, f"refused message: {why}", reason=reason, why=why, type=name)


def answer_without_reply(channel: AnswerChannel, request: int, message: Any, error: BaseException) -> None:
    """Send the FAULT for an error that a handler raised, or that ended it; ``message`` is the one it was given."""
    if isinstance(error, RequestCancelled):
        text = "the server is shutting down, or the connection is too old" if error.draining else None
        channel.send_fault(request, FaultCode.OVERLOADED if error.draining else FaultCode.CANCELLED, text)
    elif isinstance(error, PartOverdue):
        session = channel.session
        session.events.report("request.overdue", session.source(request), str(error))
        channel.send_fault(request, FaultCode.DEADLINE_EXCEEDED, "the client sent, or took, no part in time")
    elif isinstance(error, AnswersInParts):
        channel.send_fault(request, FaultCode.IN_PARTS)
    elif isinstance(message, PartsOfMessage) and error is message.error:
        refuse_message(channel, request, message.error)
    else:
        report_failure(channel, request, error)


def refuse_reply(session: ServerSession, request: int, error: Exception) -> None:
    """Report a reply that was not sent, because it is over a limit."""
    session.events.count("limit_hits", "reply")
    session.events.report(
        "reply.refused", session.source(request), f"a reply was not sent: {error}", reason="limit", why=str(error)
    )


def report_connection_error(channel: AnswerChannel, error: BaseException) -> None:
    """Report an exception that left a handler's ``handle``, and send a FAULT if the client still waits for a reply.

    The exception may be the handler's own or one that the connection raised in it.
    """
    session = channel.session
    source = session.source()
    if isinstance(error, ConnectionClosed | DeadlineExceeded) and channel.ended:
        session.events.ended("lost", source, str(error), error.reason)
    elif isinstance(error, RemoteProtocolError) and channel.ended:
        report_broken(session, error)
    elif channel.ended:
        session.events.ended("lost", source, f"disconnected; its handler ended with {error_location(error)}", "handler")
    else:
        request = channel.oldest_unanswered
        try:
            if isinstance(error, DecodeError) and request is not None:
                refuse_message(channel, request, error)
            else:
                report_failure(channel, request, error)
        except SealwireError as broken:
            session.events.ended("lost", source, str(broken), broken.reason)


def report_broken(session: ServerSession, error: RemoteProtocolError) -> None:
    """Report a client that broke the protocol after its handshake."""
    session.events.ended("broken", session.source(), f"ended: {error}", error.reason)


def report_termination(session: ServerSession) -> None:
    """Report a connection that ended because a certificate, the key or its age no longer allows it, if it did."""
    termination = session.termination
    if termination is not None:
        reason = "revoked" if termination.immediate else "expired"
        if termination.code != CloseCode.CREDENTIAL:
            reason = "aged"
        session.events.ended(reason, session.source(), f"ended: {termination.reason}", termination.reason)


def report_failure(channel: AnswerChannel, request: int | None, error: BaseException) -> None:
    """Report an exception of a handler under an id, and send the id to the client if ``request`` is not None.

    Only at level DEBUG does the log have the exception's text and traceback. A refusal is not a failure of the handler,
    and neither is a reply over a limit; the client gets its code and text, or FAULT 18.
    """
    session = channel.session
    source, events = session.source(request), session.events
    if isinstance(error, Refuse) and not error.received:
        place = error_location(error)
        text = f"refused with fault {error.code}: {place}"
        if error.code >= _OWN_FAULTS:  # else a rule of the configuration has refused it, and reported that
            events.report("request.refused", source, text, reason=f"fault {error.code}", place=place)
        if request is not None:
            channel.send_fault(request, error.code, error.text)
        return
    if isinstance(error, EncodeError) and error.over_limit:
        refuse_reply(session, 0 if request is None else request, error)
        if request is not None:
            channel.send_fault(request, FaultCode.TOO_LARGE)
        return
    number = source.request or secrets.token_hex(8)
    own = f": {error}" if isinstance(error, EncodeError) else ""
    place = error_location(error)
    events.report("request.failed", source, f"handler failed (id {number}): {place}{own}", place=place, id=number)
    events.report("request.failed", source, f"handler failed (id {number})", level=logging.DEBUG, error=error)
    if request is not None:
        channel.send_fault(request, FaultCode.HANDLER_FAILED, f"the handler failed (id {number})")


def report_unserved(events: ServerEvents, source: Source, error: BaseException) -> None:
    """Report an error outside of any handler: a bug of this package, or no more threads."""
    place = error_location(error)
    events.ended("failed", source, f"not served: {place}", place)
    events.report("connection.failed", source, "not served", level=logging.DEBUG, error=error)


def error_location(error: BaseException) -> str:
    """Return the type and place of an exception, without its text.

    The place is the innermost one in the user's own code: not in the standard library or an installed package, unless
    the handler is in one. For a group of exceptions the first of them follows.
    """
    # A handler may create a class with a name from a message.
    name = type(error).__name__ if type(error).__name__.isidentifier() else "an exception"
    frames = list(traceback.walk_tb(error.__traceback__))
    if frames:
        frame, line = (_users(frames) or frames)[-1]
        code = frame.f_code
        place = f"{PurePath(code.co_filename).name[:_LONGEST]}:{line} in {code.co_name[:_LONGEST]}"
        name = f"{name[:_LONGEST]} at {escaped(place)}"
    if isinstance(error, BaseExceptionGroup):
        return f"{name} (first of {len(error.exceptions)}: {error_location(error.exceptions[0])})"
    return name


def _users(frames: list[tuple[FrameType, int]]) -> list[tuple[FrameType, int]]:
    """Return those of the frames that are the user's own, or of the package that the handler is installed with.

    There are none if only this package and the standard library, which calls it, are at fault.
    """
    foreign = [each for each in frames if not each[0].f_code.co_filename.startswith(_SEALWIRE)]
    own = [each for each in foreign if not each[0].f_code.co_filename.startswith(("<", *_PACKAGES))]
    first = next((each[0] for each in foreign if each[0].f_code.co_filename.startswith(_INSTALLED)), None)
    return own or [each for each in foreign if first is not None and _package(each[0]) == _package(first)]


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
