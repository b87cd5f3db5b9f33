"""The synchronous clients."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from sealwire.channel import ClientChannel, connect, connect_unix
from sealwire.clients import RESENDABLE, AtHost, AtPath, Attempts, Client, seconds_of, unknown, was_unprocessed
from sealwire.errors import (
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    HandshakeRejected,
    RemoteError,
    RemoteProtocolError,
    TruncatedFrame,
)
from sealwire.security import Security
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.frames import Payload, VerifiedPayload

_FAREWELL = 0.1
"""Seconds for the end of a connection that the server has ended already: a round trip, for what nobody waits for."""
_MAX_WINDOW = 1024
"""Requests under way; a server refuses to have more unanswered."""
_process = object()
"""Another one in each process, for less than asking the kernel each time."""
_T = TypeVar("_T")


class _Usable(Protocol):
    def usable(self) -> bool:
        """Whether the connection can take a request, as far as is known here."""

    @property
    def peer(self) -> PeerIdentity | None:
        """Who the server is."""


_C = TypeVar("_C", bound=_Usable)


class SharedClient(Client, Generic[_C]):
    """What all synchronous clients share: one connection, made when it is first used, and again when the server has
    gone away; several threads may use it, one after the other, and a forked child gets one of its own.
    """

    def __init__(self, timeout: float, wait: float, security: Security) -> None:
        super().__init__(timeout, wait, security)
        self._channel: _C | None = None
        self._process = _process
        self._lock = threading.Lock()

    @abstractmethod
    def _connect(self, timeout: float) -> _C:
        """A new connection, in so many seconds."""

    @abstractmethod
    def _request(self, payload: Payload, seconds: float, idempotent: bool) -> VerifiedPayload:
        """The reply to a request."""

    @abstractmethod
    def _part(self, channel: _C) -> None:
        """Close a connection that cannot be used any more."""

    @abstractmethod
    def _abandon(self, channel: _C) -> None:
        """Let a connection go without a word: it belongs to the process that forked this one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _is_open(self) -> bool:
        return self._channel is not None

    @property
    def peer(self) -> PeerIdentity | None:
        """Who the server is; None while there is no connection."""
        channel = self._channel
        return None if channel is None else channel.peer

    def connect(self) -> None:
        """Connect now, if no connection is usable. Raises TransportError, DeadlineExceeded, ConfigurationError."""
        self._acquire(self.timeout)
        try:
            self._usable(self.timeout)
        finally:
            self._lock.release()

    def send_request(self, data: Any, *, wait: float | None = None, idempotent: bool = False) -> Any:
        """Send ``data`` and return the reply.

        wait: seconds instead of the client's own. idempotent: whether it does no harm if the server acts on the
        request twice; then it is sent once more where the connection broke and nobody knows what became of it. Without
        it a request is sent again, once, only where it is proved that no handler has seen it.

        Raises EncodeError, PayloadTooLarge (nothing was sent); RemoteError (the server's fault; the connection stays);
        DecodeError (a reply of a type that is not on the allowlist; the connection stays); DeadlineExceeded;
        ConnectionClosed (it is not known whether the request was processed); other TransportErrors while connecting;
        RemoteProtocolError.
        """
        seconds = self.wait if wait is None else seconds_of("wait", wait)
        payload = self.security.codec.encode_pieces(data)
        self._acquire(seconds)
        try:
            reply = self._request(payload, seconds, idempotent)
        finally:
            self._lock.release()
        del payload  # a large one is not held beside a large reply and what becomes of it
        return self.security.decode(reply)

    def close(self) -> None:
        """Close the connection, if there is one. The next request opens a new one."""
        self._see_fork()
        with self._lock:
            channel, self._channel = self._channel, None
            if channel is not None:
                self._close(channel)

    @abstractmethod
    def _close(self, channel: _C) -> None:
        """Close a connection."""

    def _acquire(self, seconds: float) -> None:
        """Take the lock, in that time."""
        self._see_fork()
        if not self._lock.acquire(timeout=seconds):
            raise DeadlineExceeded(
                "another thread's request held the connection all the time; use a client for each thread"
            )

    def _see_fork(self) -> None:
        """In a forked child the connection is the parent's, and so is whoever held the lock."""
        if self._process is not _process:
            self._process = _process
            self._lock = threading.Lock()
            channel, self._channel = self._channel, None
            if channel is not None:
                self._abandon(channel)

    def _usable(self, seconds: float) -> _C:
        channel = self._channel
        if channel is not None:
            if channel.usable():
                return channel
            self._channel = None
            self._part(channel)
        self._channel = self._open(monotonic() + seconds)
        return self._channel

    def _open(self, deadline: float) -> _C:
        attempts = Attempts(deadline)
        while True:
            try:
                return self._connect(max(0.001, deadline - monotonic()))
            except DeadlineExceeded as late:
                raise attempts.refused or late from None
            except HandshakeRejected as rejected:
                threading.Event().wait(attempts.after(rejected))


class _StreamClient(SharedClient[ClientChannel]):
    """What the clients of streams share."""

    def send_requests(
        self,
        requests: Iterable[Any],
        *,
        wait: float | None = None,
        window: int = 32,
        idempotent: bool = False,
        return_errors: bool = False,
    ) -> Iterator[Any]:
        """Send requests one after the other without waiting for the replies; yields these in the same order.

        window: how many may be under way. wait: seconds for each of them. idempotent: as for send_request, of all of
        them. return_errors: yield a RemoteError or DecodeError in its place among the replies, and go on; by default it
        is raised, and the requests after it that are under way are given up (the server may act on them all the same).
        ``requests`` is consumed as replies come. The client is in use until the last one.

        Raises like send_request.
        """
        seconds = self.wait if wait is None else seconds_of("wait", wait)
        if type(window) is not int or not 1 <= window <= _MAX_WINDOW:
            raise ConfigurationError(f"window must be a whole number from 1 to {_MAX_WINDOW}")
        return self._pipeline(iter(requests), seconds, window, idempotent=idempotent, return_errors=return_errors)

    def _pipeline(
        self, requests: Iterator[Any], seconds: float, window: int, *, idempotent: bool, return_errors: bool
    ) -> Iterator[Any]:
        payloads = map(self.security.codec.encode_pieces, requests)
        under_way: dict[int, Payload] = {}
        self._acquire(seconds)
        channel: ClientChannel | None = None
        try:
            again: list[Payload] = []
            while True:
                channel = self._usable(self.timeout)
                under_way.clear()
                replies = channel.pipeline(chain(again, payloads), window=window, wait=seconds, unanswered=under_way)
                answered = 0
                try:
                    for reply in replies:
                        answered += 1
                        yield self._judged(reply, return_errors=return_errors)
                    return  # noqa: TRY300 - of a generator, and not of what is tried
                except (ConnectionClosed, TruncatedFrame) as closed:
                    self._channel = None
                    channel.close(linger=_FAREWELL)
                    # Again once at most for each request: those that went before have their answers.
                    if (again and not answered) or not _may_go_again(channel, closed, under_way, idempotent=idempotent):
                        raise unknown(closed) from None
                    again = list(under_way.values())
        finally:
            if channel is not None and not channel.idle and self._channel is channel:
                self._channel = None
                channel.close(linger=0)
            self._lock.release()

    def _judged(self, reply: VerifiedPayload | RemoteError, *, return_errors: bool) -> Any:
        try:
            if isinstance(reply, RemoteError):
                raise reply
            return self.security.decode(reply)
        except (RemoteError, DecodeError) as error:
            if return_errors:
                return error
            raise

    def ping(self) -> float:
        """Seconds that the server takes to answer. Raises DeadlineExceeded, TransportError, RemoteProtocolError."""

        self._acquire(self.wait)
        try:
            channel = self._usable(self.timeout)
            try:
                return self._exchange(channel, monotonic() + self.wait, channel.ping)
            except ConnectionClosed as closed:
                if closed.code not in RESENDABLE:
                    raise
                channel = self._usable(self.timeout)
                return self._exchange(channel, monotonic() + self.wait, channel.ping)
        finally:
            self._lock.release()

    def _request(self, payload: Payload, seconds: float, idempotent: bool) -> VerifiedPayload:
        channel = self._usable(self.timeout)
        deadline = monotonic() + seconds
        try:
            return self._exchange(channel, deadline, channel.request, payload)
        except ConnectionClosed as closed:
            if closed.code not in RESENDABLE or not (idempotent or _unprocessed(channel, closed)):
                raise unknown(closed) from None
        channel = self._usable(min(deadline - monotonic(), self.timeout))
        return self._exchange(channel, deadline, channel.request, payload)

    def _exchange(self, channel: ClientChannel, deadline: float, exchange: Callable[..., _T], *payload: Payload) -> _T:
        """Let the connection go unless ``exchange`` left it without anything unanswered."""
        try:
            return exchange(*payload, deadline)
        except RemoteError:
            raise
        except (ConnectionClosed, RemoteProtocolError) as error:
            self._channel = None
            # Nothing of ours is on the way that could be lost, but CLOSE; and the caller's time goes on.
            channel.close(linger=min(_FAREWELL, max(0.0, deadline - monotonic())))
            if isinstance(error, TruncatedFrame):
                raise ConnectionClosed("the connection ended inside a frame of the server") from error
            raise
        except BaseException:
            if not channel.idle:
                # A reply that came late would otherwise be the next request's, and a handler that takes too long would
                # hold that up as well. The caller's time is over, so there is no lingering.
                self._channel = None
                channel.close(linger=0)
            raise

    def _close(self, channel: ClientChannel) -> None:
        channel.close()

    def _part(self, channel: ClientChannel) -> None:
        channel.close(linger=_FAREWELL)

    def _abandon(self, channel: ClientChannel) -> None:
        channel.abandon()


class SynchronousTCPClient(AtHost, _StreamClient):
    """A client for one server, to be shared by threads; one request is under way at a time.

    host, port: the server; the host is verified against its certificate (or see Security.peers). timeout: seconds for
    connecting (TCP, TLS and handshake together). wait: seconds for one request, from its first byte out to the
    reply's last byte in; before that, at most as long for other threads' requests. security: a Security.

    It connects when first used and again when the server has gone away between requests. A context manager: at the end
    the connection is closed. Raises ConfigurationError.
    """

    def _connect(self, timeout: float) -> ClientChannel:
        return connect(self.host, self.port, self.security, timeout=timeout)


class SynchronousUnixClient(AtPath, _StreamClient):
    """The same for a server on this machine that listens on a Unix socket.

    path: the socket. security: a Security with ``peers``, who the server may be, and a ``service``, since there is no
    host name to verify. ``peer`` has the server's uid, gid and pid. Raises ConfigurationError.
    """

    def _connect(self, timeout: float) -> ClientChannel:
        return connect_unix(self.path, self.security, timeout=timeout)


def _may_go_again(
    channel: ClientChannel, closed: Exception, under_way: dict[int, Payload], *, idempotent: bool
) -> bool:
    """Whether all requests that are unanswered can be sent again: the first one is, and so are those after it."""
    if not isinstance(closed, ConnectionClosed) or closed.code not in RESENDABLE:
        return idempotent and not isinstance(closed, ConnectionClosed)
    if idempotent or not under_way:
        return True
    return was_unprocessed(closed, next(iter(under_way)), renewed=channel.renewed)


def _unprocessed(channel: ClientChannel, closed: ConnectionClosed) -> bool:
    """Whether no handler can have seen the request (docs/protocol.md, section 5)."""
    return not channel.sent or was_unprocessed(closed, channel.sequence, renewed=channel.renewed)


def _forked() -> None:
    global _process
    _process = object()


os.register_at_fork(after_in_child=_forked)
