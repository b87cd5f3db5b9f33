"""Request handlers: the class that services derive from, and the treatment of errors that handlers raise.

A client learns that its request failed and an id; the log has the type and place of the error under that id. The
exception's text is kept out of both, because it is often made of data that the client sent.
"""

from __future__ import annotations

import inspect
import logging
import os
import secrets
import socketserver
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import PurePath
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from sealwire.codec import Codec, RawCodec
from sealwire.computing import LONG, computations
from sealwire.errors import (
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    EncodeError,
    LimitExceeded,
    PayloadTooLarge,
    RemoteProtocolError,
    SealwireError,
    TypeNotAllowed,
)
from sealwire.listeners import address_text
from sealwire.security import Security
from sealwire.session.explain import FAULT_TEXTS
from sealwire.session.requests import AnswerChannel, RequestChannel
from sealwire.session.validity import Termination
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.frames import CloseCode, FaultCode, escaped

logger = logging.getLogger("sealwire.server")

_LONGEST: Final = 80
"""Characters of a name in an error's place."""
_SEALWIRE: Final = os.path.dirname(__file__) + os.sep
_PACKAGES: Final = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
"""Directories of code that is not the user's own."""


if TYPE_CHECKING:

    class _BaseRequestHandler:
        """socketserver's, as far as type checkers see: theirs lets no coroutine function override ``handle``."""

        client_address: Any
        server: Any

        def __init__(self, request: Any, client_address: Any, server: Any) -> None: ...

        def finish(self) -> None: ...
else:
    _BaseRequestHandler = socketserver.BaseRequestHandler


class RequestHandler(_BaseRequestHandler):
    """The base class of handlers. A derived class defines one of two methods.

    ``respond(message)`` is called with each decoded message of a connection and returns the reply. If it raises, the
    client gets a RemoteError with code 19 and an id; the server's log has the type and place of the error under that
    id.

    ``handle()`` has the whole connection, which ends when it returns::

        def handle(self):
            while (message := recv_msg(self.request)) is not None:  # None: the client has closed the connection
                the_goods = decode(message)
                send_msg(self.request, encode({"msg": "Goods received."}))

    Attributes:
        request: The sealed channel, for recv_msg and send_msg.
        client_address: The client's address, as in socketserver.
        server: The server.
        peer: The client's verified identity, or None if the client has no certificate.
        key_id: The id of the key that the client proved to have.
        codec: The codec of the server's Security.
    """

    request: RequestChannel
    # Any, and not None: only a server that accepts clients without certificates has to ask.
    peer: PeerIdentity | Any
    codec: Codec | RawCodec

    def setup(self) -> None:
        """Set the attributes, before the first call of handle or respond. An override must call this one."""
        self.peer = self.request.peer
        self.key_id = self.request.key_id
        self._security: Security = self.server.security
        self.codec = self._security.codec

    @property
    def deadline(self) -> float | None:
        """The moment of ``time.monotonic()`` at which the client stops waiting for the current reply.

        None if the client did not say.
        """
        return self.request.deadline

    def respond(self, message: Any) -> Any:
        """Return the reply to a message. A derived class defines this, or handle.

        Args:
            message: The decoded message.

        Returns:
            The reply, of types that the codec accepts.
        """
        raise NotImplementedError

    def handle(self) -> Any:
        """Answer every message of the connection with the result of respond.

        A derived class that overrides this reads and answers requests itself; the connection ends when it returns.
        """
        while (request := self.request.next_request()) is not None:
            self._answer(request)

    def _answer(self, request: Request) -> None:
        """Decode a request, call respond, and send the reply or a FAULT."""
        channel = self.request
        try:
            if len(request.payload) <= LONG:
                message = self._security.decode(request.payload)
            else:
                with computations.one(getattr(channel, "share", self.peer), len(request.payload)):
                    message = self._security.decode(request.payload)
        except DecodeError as error:
            refuse_message(channel, request.sequence, self.client_address, self.peer, error)
            return
        try:
            payload = self.codec.encode_pieces(self.respond(message))
        except BaseException as error:
            report_failure(channel, request.sequence, self.client_address, error)
            if isinstance(error, KeyboardInterrupt):
                raise  # Ctrl+C in a single-threaded server stops the server
            return
        try:
            channel.send_reply(request.sequence, payload)
        except PayloadTooLarge as error:
            logger.warning("%s: a reply was not sent: %s", address_text(self.client_address), error)


def handler_class(handler: object, *, coroutines: bool = False) -> type[RequestHandler]:
    """Return the handler class for a server's argument.

    Args:
        handler: A class derived from RequestHandler, or a function from message to reply.
        coroutines: Whether the server runs coroutine functions.

    Raises:
        ConfigurationError: The handler is neither, takes other arguments, or needs a server that runs coroutines.
    """
    if isinstance(handler, type):
        if not issubclass(handler, RequestHandler):
            raise ConfigurationError(f"{handler.__qualname__} must be derived from sealwire.RequestHandler")
        if handler.respond is RequestHandler.respond and handler.handle is RequestHandler.handle:
            raise ConfigurationError(f"{handler.__qualname__} needs a method respond(message) or handle()")
        is_coroutine = inspect.iscoroutinefunction(handler.respond) or inspect.iscoroutinefunction(handler.handle)
        if is_coroutine and not coroutines:
            raise ConfigurationError(
                f"{handler.__qualname__}: this server runs no coroutines; remove `async`, or use AsyncTCPServer"
            )
        for name, arguments in (("respond", (handler, None)), ("handle", (handler,))):
            method = inspect.getattr_static(handler, name)
            if inspect.isfunction(method) and not _takes(method, *arguments):
                form = "handle(self)" if name == "handle" else "respond(self, message)"
                raise ConfigurationError(f"{handler.__qualname__}: its {name} must take what {form} takes")
        return handler
    if not callable(handler):
        raise ConfigurationError("a handler must be a class derived from sealwire.RequestHandler or a function")
    if not _takes(handler, None):
        raise ConfigurationError("a handler that is a function must take one argument, the message")
    function: Callable[[Any], Any] = handler
    if not inspect.iscoroutinefunction(handler):

        class FunctionHandler(RequestHandler):
            def respond(self, message: Any) -> Any:
                return function(message)

        return FunctionHandler
    if not coroutines:
        raise ConfigurationError(
            "a handler must be an ordinary function; this server runs no coroutines, unlike AsyncTCPServer"
        )

    class CoroutineHandler(RequestHandler):
        async def respond(self, message: Any) -> Any:
            return await function(message)

    return CoroutineHandler


def _takes(function: Callable[..., Any], *arguments: object) -> bool:
    """Return True if a function can be called with these arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # some functions in C say nothing of their arguments
        pass
    return True


def fault_code(error: DecodeError) -> FaultCode:
    """Return the code of the FAULT for a message that could not be decoded."""
    if isinstance(error, TypeNotAllowed):
        return FaultCode.TYPE_NOT_ALLOWED
    return FaultCode.TOO_LARGE if isinstance(error, LimitExceeded) else FaultCode.MALFORMED_PAYLOAD


def refuse_message(
    channel: AnswerChannel, request: int, client_address: Any, peer: PeerIdentity | None, error: DecodeError
) -> None:
    """Log why a message could not be decoded, and send FAULT. It tells the client no name but one that it sent."""
    logger.warning("%s%s: refused a message: %s", address_text(client_address), _in_brackets(peer), str(error))
    code = fault_code(error)
    name = error.name if isinstance(error, TypeNotAllowed) else ""
    channel.send_fault(request, code, f"{FAULT_TEXTS[code]}: {name}" if name else None)


def _in_brackets(peer: PeerIdentity | None) -> str:
    return f" ({peer})" if peer is not None else ""


def report_connection_error(channel: AnswerChannel, client_address: Any, error: BaseException) -> None:
    """Log an exception that left a handler's ``handle``, and send a FAULT if the client still waits for a reply.

    The exception may be the handler's own or one that the connection raised in it.
    """
    address = address_text(client_address)
    if isinstance(error, ConnectionClosed | DeadlineExceeded) and channel.ended:
        logger.info("%s: %s", address, str(error))
    elif isinstance(error, RemoteProtocolError) and channel.ended:
        logger.warning("%s: ended: %s", address, str(error))
    elif channel.ended:
        logger.info("%s: disconnected; its handler ended with %s", address, error_location(error))
    else:
        request = channel.oldest_unanswered
        try:
            if isinstance(error, DecodeError) and request is not None:
                refuse_message(channel, request, client_address, getattr(channel, "peer", None), error)
            else:
                report_failure(channel, request, client_address, error)
        except SealwireError as broken:
            logger.info("%s: %s", address, str(broken))


def log_refusal(
    client_address: Any, peer: PeerIdentity | None, error: SealwireError, *, evicted: bool, counted: bool = False
) -> None:
    """Log why a client was not served; at level DEBUG if another line counts it."""
    why = "evicted to make room for newer connections" if evicted else str(error)
    level = logging.DEBUG if counted else logging.WARNING
    logger.log(level, "%s%s: refused: %s", address_text(client_address), _in_brackets(peer), why)


def log_turned_away(client_address: Any) -> None:
    """Log that a connection was closed at once, because its address has too many that have not authenticated."""
    logger.info("%s: refused: its address has most of max_handshakes, or max_handshakes_per_source", client_address[0])


def log_termination(client_address: Any, peer: PeerIdentity | None, termination: Termination) -> None:
    """Log that a connection ended because a certificate, the key or its age no longer allows it."""
    level = logging.WARNING if termination.code == CloseCode.CREDENTIAL else logging.DEBUG
    logger.log(level, "%s (%s): ended: %s", address_text(client_address), peer, termination.reason)


def report_failure(channel: AnswerChannel, request: int | None, client_address: Any, error: BaseException) -> None:
    """Log an exception of a handler under an id, and send the id to the client if ``request`` is not None.

    Only at level DEBUG does the log have the exception's text and traceback. A reply over a limit is no failure of the
    handler; the client gets FAULT 18.
    """
    if isinstance(error, EncodeError) and error.over_limit:
        logger.warning("%s: a reply was not sent: %s", address_text(client_address), error)
        if request is not None:
            channel.send_fault(request, FaultCode.TOO_LARGE)
        return
    number = secrets.token_hex(8)
    own = f": {error}" if isinstance(error, EncodeError) else ""
    logger.error("%s: handler failed (id %s): %s%s", address_text(client_address), number, error_location(error), own)
    logger.debug("handler failed (id %s)", number, exc_info=error)
    if request is not None:
        channel.send_fault(request, FaultCode.HANDLER_FAILED, f"the handler failed (id {number})")


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
    """Return those of the frames that are the user's own, or of the package that the handler is installed with."""
    foreign = [each for each in frames if not each[0].f_code.co_filename.startswith(_SEALWIRE)]
    own = [each for each in foreign if not each[0].f_code.co_filename.startswith(("<", *_PACKAGES))]
    return own or [each for each in foreign if _package(each[0]) == _package(foreign[0][0])]


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
