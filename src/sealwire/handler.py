"""What a service does with a connection or, simpler, with each message."""

from __future__ import annotations

import inspect
import logging
import secrets
import socketserver
import traceback
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Protocol

from sealwire.channel import Requests
from sealwire.encoding import Codec, RawCodec
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
from sealwire.listening import address_text
from sealwire.security import Security
from sealwire.standing import Lapse
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.frames import CloseCode, FaultCode

logger = logging.getLogger("sealwire.server")


class Answering(Protocol):
    """What of a channel reports a failure."""

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""

    @property
    def oldest_unanswered(self) -> int | None:
        """The request that has waited longest for its answer."""

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT."""


class RequestHandler(socketserver.BaseRequestHandler):
    """Derive from this, and give it one of two methods.

    ``respond(message)`` is called with each decoded message of a connection; what it returns is the reply. What it
    raises reaches the client as FAULT 19 with an id under which the server's log has the type and place of the error.

    ``handle()`` is the article's: it owns the connection, and its return ends it::

        def handle(self):
            the_goods = decode(recv_msg(self.request))
            send_msg(self.request, encode({"msg": "Goods received."}))

    request: the sealed channel. client_address, server: as in socketserver. peer: who asks (None without a
    certificate). key_id: the key that it proved to hold. codec: of the server's Security.
    """

    request: Requests
    peer: PeerIdentity | None
    codec: Codec | RawCodec

    def setup(self) -> None:
        """Called before handle; a derived class calls it too."""
        self.peer = self.request.peer
        self.key_id = self.request.key_id
        self._security: Security = self.server.security  # type: ignore[attr-defined]  # typeshed's BaseServer, not ours
        self.codec = self._security.codec

    @property
    def deadline(self) -> float | None:
        """Until which moment of ``time.monotonic()`` the client waits for the reply in hand; None: it did not say."""
        return self.request.deadline

    def respond(self, message: Any) -> Any:
        """The reply to ``message``, both of types that the codec accepts."""
        raise NotImplementedError

    def handle(self) -> None:
        """Answer every message of the connection with what respond returns."""
        while (request := self.request.next_request()) is not None:
            self._answer(request)

    def _answer(self, request: Request) -> None:
        channel = self.request
        try:
            message = self._security.decode(request.payload)
        except DecodeError as error:
            logger.warning("%s: refused a message: %s", address_text(self.client_address), error)
            channel.send_fault(request.sequence, fault_code(error))
            return
        try:
            payload = self.codec.encode_pieces(self.respond(message))
        except BaseException as error:
            report_failure(channel, request.sequence, self.client_address, error)
            if isinstance(error, KeyboardInterrupt):
                raise  # ^C in a server of one thread ends the server
            return
        try:
            channel.send_reply(request.sequence, payload)
        except PayloadTooLarge as error:
            logger.warning("%s: a reply was not sent: %s", address_text(self.client_address), error)


def handler_class(handler: object, *, coroutines: bool = False) -> type[RequestHandler]:
    """A handler class from what the user gave: a class derived from RequestHandler, or a function of the message.

    coroutines: whether its methods may be coroutine functions. Raises ConfigurationError.
    """
    if isinstance(handler, type):
        if not issubclass(handler, RequestHandler):
            raise ConfigurationError(f"{handler.__qualname__} must be derived from sealwire.RequestHandler")
        if handler.respond is RequestHandler.respond and handler.handle is RequestHandler.handle:
            raise ConfigurationError(f"{handler.__qualname__} needs a method respond(message) or handle()")
        is_coroutine = inspect.iscoroutinefunction(handler.respond) or inspect.iscoroutinefunction(handler.handle)
        if is_coroutine and not coroutines:
            raise ConfigurationError(
                f"{handler.__qualname__}: this server runs no coroutines; take `async` away, or use AsyncTCPServer"
            )
        return handler
    if not callable(handler):
        raise ConfigurationError("a handler must be a class derived from sealwire.RequestHandler or a function")
    function: Callable[[Any], Any] = handler
    if not inspect.iscoroutinefunction(handler):

        class FunctionHandler(RequestHandler):
            def respond(self, message: Any) -> Any:
                return function(message)

        return FunctionHandler
    if not coroutines:
        raise ConfigurationError(
            "a handler must be an ordinary function; this server runs no coroutines, and AsyncTCPServer does"
        )

    class CoroutineHandler(RequestHandler):
        async def respond(self, message: Any) -> Any:
            return await function(message)

    return CoroutineHandler


def fault_code(error: DecodeError) -> int:
    """What a client is told whose message could not be decoded."""
    if isinstance(error, TypeNotAllowed):
        return FaultCode.TYPE_NOT_ALLOWED
    return FaultCode.TOO_LARGE if isinstance(error, LimitExceeded) else FaultCode.MALFORMED_PAYLOAD


def report_end(channel: Answering, client_address: Any, error: BaseException) -> None:
    """Log what ended a connection, and tell the client if it still waits for a reply.

    error: what came out of a handler, be it its own or the connection's.
    """
    where = address_text(client_address)
    if isinstance(error, ConnectionClosed | DeadlineExceeded) and channel.ended:
        logger.info("%s: %s", where, error)
    elif isinstance(error, RemoteProtocolError) and channel.ended:
        logger.warning("%s: ended: %s", where, error)
    elif channel.ended:
        logger.info("%s: has left; its handler ended with %s", where, place_of(error))
    else:
        request = channel.oldest_unanswered
        try:
            if isinstance(error, DecodeError) and request is not None:
                logger.warning("%s: refused a message: %s", where, error)
                channel.send_fault(request, fault_code(error))
            else:
                report_failure(channel, request, client_address, error)
        except SealwireError as broken:
            logger.info("%s: %s", where, broken)


def log_refusal(client_address: Any, peer: PeerIdentity | None, error: SealwireError, *, dropped: bool) -> None:
    """Log why a client was not served."""
    why = "it made room for newer connections" if dropped else str(error)
    who = f" ({peer})" if peer is not None else ""
    logger.warning("%s%s: refused: %s", address_text(client_address), who, why)


def log_lapse(client_address: Any, peer: PeerIdentity | None, lapse: Lapse) -> None:
    """Log that a connection ended since what it was made by does not hold any more."""
    level = logging.WARNING if lapse.code == CloseCode.CREDENTIAL else logging.DEBUG
    logger.log(level, "%s (%s): ended: %s", address_text(client_address), peer, lapse.reason)


def report_failure(channel: Answering, request: int | None, client_address: Any, error: BaseException) -> None:
    """Log what a handler raised, under an id; tell the client the id, if a request of its is unanswered.

    An exception's text is often made of what the client sent, so the log has its type and place; at level DEBUG all.
    """
    number = secrets.token_hex(8)
    own = f": {error}" if isinstance(error, EncodeError) else ""
    logger.error("%s: handler failed (id %s): %s%s", address_text(client_address), number, place_of(error), own)
    logger.debug("handler failed (id %s)", number, exc_info=error)
    if request is not None:
        channel.send_fault(request, FaultCode.HANDLER_FAILED, f"the handler failed (id {number})")


def place_of(error: BaseException) -> str:
    """Type and place of an exception, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    # A handler can make classes, and give them names, out of what a client sent.
    name = type(error).__name__ if type(error).__name__.isidentifier() else "an exception"
    if not frames:
        return name
    return f"{name} at {PurePath(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}"
