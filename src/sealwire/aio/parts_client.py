"""Requests and replies in parts, for clients and pools on asyncio."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, Iterable
from functools import partial
from time import monotonic
from typing import Any

from sealwire.aio.part_stream import AsyncPartStream, Borrowed, Lender, send_parts
from sealwire.client_base import BaseClient, check_seconds
from sealwire.middleware.calling import CallContext
from sealwire.middleware.chain import chained_on_loop
from sealwire.session.call_time import CallTime
from sealwire.wire.metadata import Metadata, checked


class AsyncPartsClient(BaseClient):
    """The methods ``stream`` and ``send_parts``."""

    @abstractmethod
    def _lender(self, *, idempotent: bool) -> Lender:
        """Return the lender of connections, which takes them back."""

    def stream(
        self,
        request: Any,
        *,
        wait: float | None = None,
        metadata: Metadata | None = None,
        idempotent: bool = False,
    ) -> AsyncPartStream:
        """Send a request for a reply in parts, and return an async iterator over the parts.

        Each part is decoded as it is asked for; the server sends no more ahead than Limits.part_window. After the last
        part, ``result`` of the iterator is the reply itself. Other requests go on meanwhile. The request is sent when
        the first part is asked for; a pool goes on to another server until one has come. To end early, use ``async
        with``, or call ``aclose``: the server is told then::

            async with client.stream(["prices", "EUR"]) as parts:
                async for price in parts:
                    ...

        Args:
            request: The message, of types that the codec accepts.
            wait: Seconds for each next part, and for the reply after the last one. Default: the client's ``wait``.
            metadata: As for :meth:`send_request`. Default: none.
            idempotent: True if the request may be sent again if the connection ends before the first part. Default:
                False.

        Returns:
            The iterator. It raises the errors of :meth:`send_request`; the stream is over then.

        Raises:
            ConfigurationError: ``wait`` is not a number of seconds, or the metadata is not acceptable.
            FeatureNotSupported: The server gives no replies in parts, or takes no metadata; raised at the first part.
        """
        seconds = self.wait if wait is None else check_seconds("wait", wait)
        around = None
        if self._middleware:
            context = CallContext(self._address, seconds, idempotent, metadata, None)
            around = partial(context.begin_on_loop, self._middleware, message=request)
        return AsyncPartStream(
            lambda again: self._lender(idempotent=again),
            request,
            wait=seconds,
            metadata=None if metadata is None else checked(metadata),
            idempotent=idempotent,
            most=self.security.limits.max_parts,
            around=around,
        )

    async def send_parts(
        self,
        parts: Iterable[Any] | AsyncIterable[Any],
        *,
        wait: float | None = None,
        metadata: Metadata | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> Any:
        """Send a request in parts and return the reply. The handler gets an iterator over the parts.

        No more is sent ahead than the server has room for. If the server answers before the end, the rest is not sent.
        An exception of the iterable cancels the request. The iterable is iterated on the event loop. The request is
        not sent again if the connection ends.

        Args:
            parts: The parts, each of types that the codec accepts.
            wait: Seconds for each part to be taken, and for the reply after the last one. Default: the client's
                ``wait``.
            metadata: As for :meth:`send_request`. Default: none.
            reply_metadata: A dict to fill with the metadata of the reply. Default: none.

        Returns:
            The decoded reply.

        Raises:
            SealwireError: Any error of :meth:`send_request`.
            FeatureNotSupported: The server takes no requests in parts, or no metadata.
        """
        seconds = self.wait if wait is None else check_seconds("wait", wait)
        if self._middleware:
            context = CallContext(self._address, seconds, False, metadata, reply_metadata)
            send = partial(context.send, partial(self._send_parts, seconds))
            return await chained_on_loop(self._middleware, send)(context, parts)
        return await self._send_parts(seconds, parts, seconds, False, metadata, reply_metadata)

    async def _send_parts(
        self,
        wait: float,
        parts: Iterable[Any] | AsyncIterable[Any],
        _: float,
        __: bool,
        metadata: Metadata | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        """Send a request in parts and return the reply, within all middleware."""
        time = CallTime(timeout=self.timeout, wait=wait, now=monotonic())
        lender = self._lender(idempotent=False)
        borrowed = Borrowed(lender, wait, None if metadata is None else checked(metadata))
        reply, found = await send_parts(borrowed, parts, time)
        if reply_metadata is not None:
            reply_metadata.update(found)
        return await borrowed.decoded(reply)
