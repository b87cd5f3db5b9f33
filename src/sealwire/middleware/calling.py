"""The context of one call of a client, for the middleware around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

from sealwire.errors import ConfigurationError, DeadlineExceeded
from sealwire.middleware.audit import audit
from sealwire.middleware.authorise import Authorise
from sealwire.middleware.chain import Middleware, chained, chained_on_loop, check_middleware
from sealwire.session.call_time import end_of
from sealwire.session.parts import PartsOfReply
from sealwire.wire.metadata import checked


def check_clients(middleware: Sequence[Middleware], *, coroutines: bool) -> tuple[Middleware, ...]:
    """Return the middleware of a client. Raises ConfigurationError, also for one that only a server can have."""
    remedy = "use a client on asyncio, or remove `async`"
    found = check_middleware(middleware, coroutines=coroutines, remedy=remedy)
    if any(each is audit or isinstance(each, Authorise) for each in found):
        raise ConfigurationError("audit and authorise are for servers; the context of a client's call has no peer")
    return found


def _the_stream(reply: Any) -> PartsOfReply:
    if not isinstance(reply, PartsOfReply):
        raise TypeError(
            "middleware around stream() returns the stream that call_next returned; observe() tells it of the end"
        )
    return reply


class CallContext:
    """The context of one call of a client, for its middleware.

    Changes that a middleware makes here before it passes the message on apply to the request.

    Attributes:
        address: The server's address; for a pool, those of its servers.
        metadata: The metadata that goes with the request: a dict, at first with the caller's entries.
        reply_metadata: The metadata that came with the reply, once there is one. It is the caller's dict, if the caller
            gave one.
        idempotent: True if the server may act on the request twice without harm.
        deadline: The time (``time.monotonic()``) at which the caller stops waiting, in parts for the first of them;
            making a connection may take the client's ``timeout`` longer.
    """

    __slots__ = ("address", "deadline", "idempotent", "metadata", "reply_metadata")

    def __init__(
        self,
        address: str,
        wait: float,
        idempotent: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str] | None,
    ) -> None:
        self.address = address
        self.deadline = end_of(wait)
        self.idempotent = idempotent
        self.metadata: dict[str, str] = dict(checked(metadata or {}) or {})
        self.reply_metadata = {} if reply_metadata is None else reply_metadata

    @property
    def request_id(self) -> str | None:
        """The ``request-id`` in the metadata, which the logs of both ends show; None without one."""
        return self.metadata.get("request-id")

    def send(self, exchange: Callable[..., Any], context: object, message: Any) -> Any:
        """Send a message: the innermost ``call_next``.

        Args:
            exchange: Called with the message, the seconds for it, ``idempotent``, the metadata and the dict for that of
                the reply.
            context: This context.
            message: The message.

        Raises:
            DeadlineExceeded: The time was over before the request was sent.
            TypeError: ``context`` is another one.
        """
        if context is not self:
            raise TypeError("call_next takes the context that the middleware was given")
        seconds = self.deadline - monotonic()
        if seconds <= 0:
            raise DeadlineExceeded(
                "the time for the request was over before the middleware of this client passed it on"
            )
        return exchange(message, seconds, self.idempotent, self.metadata or None, self.reply_metadata)

    def begin(
        self, middleware: tuple[Middleware, ...], stream: Callable[..., PartsOfReply], message: Any
    ) -> PartsOfReply:
        """Return a stream that was made within middleware.

        Args:
            middleware: The middleware.
            stream: Makes the stream, with the arguments of ``exchange`` in :meth:`send`.
            message: The message.

        Raises:
            TypeError: A middleware returned something other than the stream.
        """
        return _the_stream(chained(middleware, partial(self.send, stream))(self, message))

    async def begin_on_loop(
        self, middleware: tuple[Middleware, ...], stream: Callable[..., Awaitable[PartsOfReply]], message: Any
    ) -> None:
        """Do the same for a stream on asyncio, which is there already; ``stream`` takes the arguments for it."""
        _the_stream(await chained_on_loop(middleware, partial(self.send, stream))(self, message))

    def __repr__(self) -> str:
        return f"<CallContext of a request to {self.address}>"
