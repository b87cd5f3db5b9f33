"""The client on NATS for asyncio: a pool with sessions as its servers.

Each session is what a server is to :class:`~sealwire.pool.AsyncClientPool`: requests go to the least busy one, one that
fails is left out until it can be opened again, and a request that was lost goes to another if it may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from sealwire.aio.client_connection import AsyncClientChannel
from sealwire.aio.connecting import establish, within
from sealwire.aio.threads import refresh
from sealwire.client_base import check_seconds
from sealwire.errors import ConfigurationError, NoServerAvailable, SealwireError
from sealwire.middleware.chain import Middleware
from sealwire.nats.link import Link
from sealwire.nats.session import Session
from sealwire.nats.urls import address_of, check_options, check_subject, parse_urls
from sealwire.pool.addresses import Address
from sealwire.pool.async_client import AsyncClientPool
from sealwire.pool.loop_roster import AsyncCall, LoopRoster
from sealwire.pool.servers import Server
from sealwire.security import Security
from sealwire.session import explain
from sealwire.session.terms import check_client

_MOST: Final = 256


@dataclass(frozen=True)
class _Place(Address):
    """One of the sessions, as a pool sees it: a server."""

    number: int = 0

    def __str__(self) -> str:
        return f"{self.path} (session {self.number})"


class AsyncNATSClient(AsyncClientPool):
    """A client of the workers that serve a subject of NATS, for asyncio.

    It has several sessions, each with one of the workers, which proves its identity and verifies the client's as on
    TCP. NATS chooses the worker when a session is opened. Up to 256 requests are in flight on a session; a request goes
    to the least busy one. As an asynchronous context manager it closes them at the end::

        async with AsyncNATSClient("tls://nats.example", "orders", security=security) as client:
            reply = await client.send_request(data)

    If nothing serves the subject, a request fails at once with TransportError, and has not been sent. If a worker ends,
    its requests are lost with ConnectionClosed; those with ``idempotent=True`` are sent to another.

    Args:
        url: URL of a NATS server, ``nats://HOST:PORT`` or ``tls://HOST:PORT``, or a list of those of a cluster. With
            ``tls://`` the connection is refused without TLS.
        subject: The subject.
        sessions: Sessions, at most. Default: 4.
        timeout: Seconds for connecting, shared by all attempts. Default: 10.
        wait: Seconds for one request, until the reply's last byte; see :meth:`send_request`. Default: 10.
        security: The client's security configuration. It needs ``peers``, the names of the workers, as in
            ``spiffe://example/orders``: there is no host name to verify.
        keepalive: Seconds without a message of a worker after which it is probed. One that has lost its connection to
            NATS is noticed then, and one that does not answer after three times as long. Default: 1.
        retry_budget: Share of the requests that may be repeated although a worker may have acted on them; see
            ClientPool. Default: 0.2.
        options: Further arguments of ``nats.connect``; see NATSServer. Default: none.
        middleware: Functions around each ``send_request``, the outermost first; see :mod:`sealwire.middleware`.
            They may be coroutine functions. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        subject: str,
        *,
        sessions: int = 4,
        timeout: float = 10.0,
        wait: float = 10.0,
        security: Security,
        keepalive: float = 1.0,
        retry_budget: float = 0.2,
        options: Mapping[str, Any] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._urls = parse_urls(url)
        check_subject("subject", subject)
        if type(sessions) is not int or not 1 <= sessions <= _MOST:
            raise ConfigurationError(f"sessions must be a whole number from 1 to {_MOST}")
        self.subject = subject
        self._options = check_options(options)
        self._interval = check_seconds("keepalive", keepalive)
        self._where = address_of(self._urls, subject)
        check_client(security)
        super().__init__(
            [self._where] * sessions, size=1, timeout=timeout, wait=wait, security=security,
            retry_budget=retry_budget, middleware=middleware,
        )  # fmt: skip
        if security.peers is None:
            form = 'peers = ["{}"]' if security.is_from_file else "peers=['{}']"
            spiffe, dns = form.format("spiffe://example/orders"), form.format("dns:orders.example")
            raise ConfigurationError(
                f"on NATS there is no host name to verify: list the workers' names, as in {spiffe} or {dns}"
            )

    def _parse(self, addresses: Iterable[Any]) -> tuple[Address, ...]:
        return tuple(_Place("", 0, path, number) for number, path in enumerate(addresses, 1))

    @property
    def _address(self) -> str:
        return self._where

    def _new_shared(self) -> LoopRoster:
        return _Sessions(self)


class _Sessions(LoopRoster):
    """The sessions of a client in one event loop, and their connection to NATS."""

    def __init__(self, client: AsyncNATSClient) -> None:
        super().__init__(client._new_roster(), client.security, 1, client.timeout, None)
        self._client_address = client._where
        self._subject = client.subject
        self._urls = client._urls
        self._options = client._options
        self._interval = client._interval
        self._link: Link | None = None
        self._linking = asyncio.Lock()

    async def connection(self, call: AsyncCall) -> AsyncClientChannel:
        """Give a call a place and a connection; see LoopRoster. If no session can be opened, raises the error of
        one."""
        try:
            return await super().connection(call)
        except NoServerAvailable as none:
            raise next(iter(none.failures.values())) from None

    async def open(self, _server: Server[Any], deadline: float) -> AsyncClientChannel:  # NATS chooses
        """Open a session with a worker. Raises TransportError, DeadlineExceeded, ConfigurationError."""
        address, seconds = self._client_address, max(0.001, deadline - monotonic())
        await refresh(self._security, seconds / 2)
        link = await within(self._linked(seconds), seconds, address)
        security = self._security.pinned()
        channel = AsyncClientChannel(security, security.credentials.current, host="", address=address)
        session = Session(link, link.new_inbox(), self._subject, interval=self._interval, is_client=True)
        await link.join(session)
        session.begin(channel)
        try:
            return await within(establish(channel, deadline), max(0.001, deadline - monotonic()), address)
        except SealwireError:
            if session.unanswered:
                raise explain.unreachable(address, "nothing serves this subject") from None
            if link.refusal and session.is_new:
                raise explain.unreachable(address, link.refusal) from None
            raise

    async def _linked(self, seconds: float) -> Link:
        """Return the connection to NATS, which all sessions share."""
        async with self._linking:
            if self._link is None or not self._link.is_open:
                self._link = await Link.open(self._urls, self._client_address, self._security, self._options, seconds)
            return self._link

    async def close(self) -> None:
        """Close all sessions, and the connection to NATS."""
        await super().close()
        if self._link is not None and self.is_here:
            await self._link.close()

    def drop(self) -> None:
        """Drop everything without telling the workers."""
        super().drop()
        if self._link is not None:
            self._link.drop()

    def drop_soon(self) -> bool:
        """Drop everything, in the loop if it runs; return True if there was an open connection."""
        was_open = super().drop_soon()
        self.call_soon(self.drop)
        if not self._loop.is_running():
            self.drop()
        return was_open
