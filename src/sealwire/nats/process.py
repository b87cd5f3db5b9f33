"""A worker that has a thread, or the main thread of a process, to itself, with the methods of a synchronous server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from sealwire.middleware.chain import Middleware
from sealwire.nats.server import NATSServer
from sealwire.prefork.asyncio_worker import loop_factory
from sealwire.report import Statistics
from sealwire.security import Security


class WorkerProcess:
    """A NATSServer with a ``serve_forever`` that runs an event loop: uvloop's if that is installed.

    Args:
        url: URL of a NATS server, or a list.
        handler: The handler.
        security: The worker's security configuration.
        subject: The subject to serve.
        middleware: As for NATSServer. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.

    Attributes:
        security: As given.
        server_address: The URL of the subject.
        on_ready: Called when the worker serves; None to call nothing.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        handler: Any,
        security: Security,
        *,
        subject: str,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._server = NATSServer(url, handler, security, subject=subject, middleware=middleware)
        self.security = security
        self.server_address: Any = self._server.server_address
        self.on_ready: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    @property
    def state(self) -> str:
        """``starting``, ``serving`` or ``draining``, for reports."""
        return self._server.state

    def statistics(self) -> Statistics:
        """Return counts of sessions and requests since the start, for reports."""
        return self._server.statistics()

    def serve_forever(self) -> None:
        """Serve until :meth:`shutdown`. Raises TransportError if NATS cannot be reached, or refuses the subject."""
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with self._server:
            if self.on_ready is not None:
                self.on_ready()
            await self._server.serve_forever()

    def reload(self) -> bool:
        """Reload the configuration, certificates and keys now; see Security.reload."""
        return self._server.reload()

    def shutdown(self) -> None:
        """Begin to shut down; ``serve_forever`` returns when the worker has drained."""
        self._server.start_shutdown()
