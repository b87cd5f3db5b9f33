"""A worker: the asyncio server, with sessions on NATS as its connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from sealwire.admission import Admission
from sealwire.aio.server import AsyncTCPServer
from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.middleware.chain import Middleware
from sealwire.nats.listener import Listener
from sealwire.nats.session import Session
from sealwire.nats.urls import address_of, check_options, check_subject, parse_urls
from sealwire.security import Security
from sealwire.session.terms import check_unproxied


class NATSServer(AsyncTCPServer):
    """A worker on one event loop that serves a subject of NATS, otherwise like AsyncTCPServer.

    Any number of workers may serve a subject; each new session of a client goes to one of them. TLS, identity and
    sealed frames are those of TCP, from end to end, so the NATS server can delay and drop, and nothing else
    (docs/nats.md)::

        async with NATSServer("tls://nats.example", respond, security, subject="orders") as server:
            await server.serve_forever()

    If the connection to NATS ends, all sessions end, and it is made again as soon as possible.

    Args:
        url: URL of a NATS server, ``nats://HOST:PORT`` or ``tls://HOST:PORT``, or a list of those of a cluster. With
            ``tls://`` the connection is refused without TLS.
        RequestHandlerClass: A class derived from RequestHandler, or a function from message to reply; see
            AsyncTCPServer.
        security: The worker's security configuration, with ``peers``. Its certificate is shown to the NATS server as
            well, if that speaks TLS.
        subject: The subject to serve, without wildcards.
        queue: The queue group, the same for all workers of the subject. Default: the subject.
        workers: Number of threads for handlers that are not coroutine functions, 1 to 1024. Default: 32.
        options: Further arguments of ``nats.connect``, such as ``user``, ``password``, ``user_credentials``, ``tls``,
            ``inbox_prefix`` and ``name``. Default: none.
        middleware: As for AsyncTCPServer. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.

    ``async with`` raises TransportError if no NATS server can be reached, or it does not permit the subject.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        RequestHandlerClass: Any,
        security: Security,
        *,
        subject: str,
        queue: str | None = None,
        workers: int = 32,
        options: Mapping[str, Any] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        urls = parse_urls(url)
        check_subject("subject", subject)
        check_subject("queue", subject if queue is None else queue)
        chosen = check_options(options)
        self._listener = Listener(urls, subject, queue or subject, address_of(urls, subject), security, chosen)
        super().__init__(None, RequestHandlerClass, security, workers=workers, middleware=middleware)

    def _check_security(self, security: Security) -> None:
        check_unproxied(security, "NATS", "has no addresses of clients that a proxy could tell")
        super()._check_security(security)

    def _listen(self, _server_address: Any) -> Any:  # self._listener has it
        return self._listener

    async def __aenter__(self) -> Self:
        if not self._stopped and self._finished is None:
            await self._listener.open()
        return await super().__aenter__()

    def _make_acceptor(self) -> Any:
        return _Acceptor(self._listener, self._admission)

    async def _connect(self, channel: AsyncServerChannel, sock: Any) -> None:
        session: Session = sock
        session.begin(channel)

    async def _drain(self) -> None:
        """Leave the queue group, drain, and close the connection to NATS."""
        await self._listener.leave()
        await super()._drain()
        await self._listener.end()


class _Acceptor:
    """Accepts the sessions of a server."""

    def __init__(self, listener: Listener, admission: Admission) -> None:
        self._listener = listener
        self._admission = admission

    async def accept(self) -> tuple[Session, str]:
        """Return the next session, and its client's address."""
        return await self._listener.accept(self._admission)
