"""Request handlers: the class that services derive from, and the forms of handlers that a server accepts."""

from __future__ import annotations

import inspect
import math
import socketserver
from collections.abc import Callable
from time import sleep
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from sealwire.codec import Codec, RawCodec
from sealwire.computing import LONG, computations
from sealwire.contract import Contract, contract_of
from sealwire.errors import (
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    PayloadTooLarge,
    RemoteProtocolError,
)
from sealwire.failures import answer_without_reply, refuse_message, refuse_reply
from sealwire.handler_parts import MessageParts, send_parts
from sealwire.pickling.signatures import Signature, read_signature
from sealwire.security import Security
from sealwire.session import misuse
from sealwire.session.call_time import time_limit
from sealwire.session.context import CancelEvent, Context
from sealwire.session.requests import RequestChannel
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.frames import Flag, Payload
from sealwire.wire.metadata import checked

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
    id. If it raises :class:`~sealwire.Refuse`, the client gets its code and text.

    ``handle()`` is given the whole connection, which ends when it returns::

        def handle(self):
            while (message := recv_msg(self.request)) is not None:  # None: the client has closed the connection
                the_goods = decode(message)
                send_msg(self.request, encode({"msg": "Goods received."}))

    ``self.request.refuse(Refuse(64, "…"))`` answers with a refusal there, and the connection goes on.

    Attributes:
        request: The sealed channel, for recv_msg and send_msg.
        client_address: The client's address, as in socketserver; behind a proxy that is listed in ``proxy_protocol``,
            the one that it tells.
        server: The server.
        peer: The client's verified identity, or None if the client has no certificate.
        key_id: The id of the key that the client proved to have.
        codec: The codec of the server's Security.
    """

    request: RequestChannel
    # Any, and not None: only a server that accepts clients without certificates has to ask.
    peer: PeerIdentity | Any
    codec: Codec | RawCodec
    _function: Any = None
    """The function that respond calls, of a handler that is one."""
    _current: Request | None = None
    _context: Context | None = None

    def setup(self) -> None:
        """Set the attributes, before the first call of handle or respond. An override must call this one."""
        self.peer = self.request.peer
        self.key_id = self.request.key_id
        self._security: Security = self.request.security
        self.codec = self._security.codec
        self._contract: Contract = contract_of(type(self), self._security)
        self._encode: Callable[[Any], Payload] = self._contract.encode
        self._encode_part: Callable[[Any], Payload] = self._contract.encode_part

    @classmethod
    def signatures(cls) -> list[Signature]:
        """Return the types of messages and replies that it declares. Raises ConfigurationError."""
        if cls._function is not None:
            return [read_signature(cls._function)]
        if cls.respond is RequestHandler.respond:
            return []
        is_static = isinstance(inspect.getattr_static(cls, "respond"), staticmethod)
        return [read_signature(cls.respond, skip=0 if is_static else 1)]

    @property
    def deadline(self) -> float | None:
        """The time (``time.monotonic()``) at which the client stops waiting for the current reply, or its next part.

        None if the client did not say.
        """
        return self.request.deadline

    @property
    def context(self) -> Context:
        """The context of the current request: metadata, cancellation, the state of the connection, and more.

        Available in ``respond`` alone. Raises InvalidState in a handler that reads its requests itself.
        """
        if self._context is None:
            if self._current is None:
                raise misuse.no_context()
            self._context = self.request.context(self._current, self.client_address)
        return self._context

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata that came with the current request."""
        return self.context.metadata

    @property
    def cancelled(self) -> CancelEvent:
        """An event that is set when the client no longer wants the current reply; see :class:`.Context`."""
        return self.context.cancelled

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
            # The next one may be long in coming, and this one's payload is large, perhaps.
            del request
            self._current = self._context = None

    def _answer(self, request: Request) -> None:
        """Decode a request, call respond, and send the reply or a FAULT."""
        channel = self.request
        message: Any
        try:
            if request.flags and request.flags & Flag.UPLOAD:
                self._contract.expect_parts()
                message = MessageParts(
                    channel, request.sequence, self._contract.decode_part, self._security.limits.max_parts
                )
            elif len(request.payload) <= LONG:
                message = self._contract.decode(request.payload)
            else:
                share, size = getattr(channel, "share", self.peer), len(request.payload)
                if pause := computations.paces.pause(share, size):
                    sleep(pause)
                with computations.one(share, size):
                    message = self._contract.decode(request.payload)
        except DecodeError as error:
            refuse_message(channel, request.sequence, error)
            return
        self._current, self._context = request, None
        deadline = channel.deadline
        token = time_limit.set(math.inf if deadline is None else deadline)
        try:
            reply = self.respond(message)  # of a Service, it also chooses how the reply is encoded
            if type(reply) is GeneratorType:
                most = self._security.limits.max_parts
                reply = send_parts(channel, request.sequence, reply, self._encode_part, most)
            payload = self._encode(reply)
            del reply
            metadata = None if self._context is None else checked(self._context.reply_metadata)
        except BaseException as error:
            if channel.ended and isinstance(error, ConnectionClosed | DeadlineExceeded | RemoteProtocolError):
                raise  # of the connection, while the handler took or gave a part
            answer_without_reply(channel, request.sequence, message, error)
            if isinstance(error, KeyboardInterrupt):
                raise  # Ctrl+C in a single-threaded server stops the server
            return
        finally:
            time_limit.reset(token)
            self._current = self._context = None  # a large request is not kept until the next one
        try:
            channel.send_reply(request.sequence, payload, metadata)
        except PayloadTooLarge as error:
            refuse_reply(channel.session, request.sequence, error)


def handler_class(handler: object, *, coroutines: bool = False) -> type[RequestHandler]:
    """Return the handler class for a server's argument.

    Args:
        handler: A class derived from RequestHandler, or a function from message to reply.
        coroutines: True if the server runs coroutine functions.

    Raises:
        ConfigurationError: The handler is neither, takes other arguments, or needs a server that runs coroutines.
    """
    if isinstance(handler, type):
        if not issubclass(handler, RequestHandler):
            raise ConfigurationError(f"{handler.__qualname__} must be derived from sealwire.RequestHandler")
        if handler.respond is RequestHandler.respond and handler.handle is RequestHandler.handle:
            raise ConfigurationError(f"{handler.__qualname__} needs a method respond(message) or handle()")
        if (runs_on_loop(handler.respond) or runs_on_loop(handler.handle)) and not coroutines:
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
    made = _of_function(handler, coroutines=coroutines)
    made._function = staticmethod(handler)
    return made


def _of_function(handler: Callable[..., Any], *, coroutines: bool) -> type[RequestHandler]:
    if not _takes(handler, None) and not _takes(handler, None, None):
        raise ConfigurationError(
            "a handler that is a function must take one argument, the message, or two: the message and its context"
        )
    function: Callable[..., Any] = handler
    if _takes_context(handler):
        return _with_context(function, coroutines=coroutines)
    if not runs_on_loop(handler):

        class FunctionHandler(RequestHandler):
            def respond(self, message: Any) -> Any:
                return function(message)

        return FunctionHandler
    if not coroutines:
        raise ConfigurationError(
            "a handler must be an ordinary function; this server runs no coroutines, unlike AsyncTCPServer"
        )
    yields = inspect.isasyncgenfunction(handler)

    class CoroutineHandler(RequestHandler):
        async def respond(self, message: Any) -> Any:
            return function(message) if yields else await function(message)

    return CoroutineHandler


def _takes_context(function: Callable[..., Any]) -> bool:
    """Return True if a function wants the context beside the message."""
    if not _takes(function, None, None):
        return False
    try:
        second = list(inspect.signature(function).parameters.values())[1]
    except (IndexError, ValueError):
        return False
    return second.name == "context" or not _takes(function, None)


def _with_context(function: Callable[..., Any], *, coroutines: bool) -> type[RequestHandler]:
    if not runs_on_loop(function):

        class ContextHandler(RequestHandler):
            def respond(self, message: Any) -> Any:
                return function(message, self.context)

        return ContextHandler
    if not coroutines:
        raise ConfigurationError(
            "a handler must be an ordinary function; this server runs no coroutines, unlike AsyncTCPServer"
        )
    yields = inspect.isasyncgenfunction(function)

    class ContextCoroutineHandler(RequestHandler):
        async def respond(self, message: Any) -> Any:
            return function(message, self.context) if yields else await function(message, self.context)

    return ContextCoroutineHandler


def runs_on_loop(function: Any) -> bool:
    """Return True for coroutine functions and async generator functions."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _takes(function: Callable[..., Any], *arguments: object) -> bool:
    """Return True if a function can be called with these arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # some functions in C say nothing of their arguments
        pass
    return True
