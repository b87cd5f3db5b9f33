"""Requests and replies in parts, for synchronous clients. Each has a connection of its own until its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from inspect import currentframe
from threading import get_ident
from typing import Any, Protocol, Self

from sealwire.closing import Closing
from sealwire.errors import ConnectionClosed, LimitExceeded, RemoteError, SealwireError
from sealwire.fork import this_process
from sealwire.retry import Resend, outcome_unknown
from sealwire.session import explain, misuse
from sealwire.session.call_time import end_of
from sealwire.session.client import ConnectionLost
from sealwire.session.parts import Done, Ending, PartsOfReply
from sealwire.sync.call_turns import Turn, Turns
from sealwire.sync.client_connection import ClientChannel
from sealwire.wire.events import Part, Reply
from sealwire.wire.frames import Flag, Payload, VerifiedPayload


class Own(Protocol):
    """The client, for what has a connection of its own."""

    def _loop_channel(self, loop: Any, deadline: float) -> None:
        """Set ``loop.channel``."""

    def _end_loop(self, loop: Any, error: BaseException | None) -> None:
        """Take ``loop.channel`` back. Does nothing when called again."""

    def _remaining(self, resend: Resend, lost: ConnectionLost, call: Any) -> float:
        """Return the seconds for sending a lost request again, or raise."""

    def _decode(self, reply: VerifiedPayload) -> Any:
        """Return the value of a reply or part."""


class Exchange:
    """A request or reply in parts, with a connection of its own.

    Attributes:
        channel: The connection; None if there is none.
        place: The place of the connection in a pool, if it is one's.
        closed: True if the client was closed meanwhile.
        in_order: True while no step on the connection is half done.
        process: The process that made it.
    """

    is_paused_here = False
    """No call in the body of a loop over parts borrows its connection."""

    def __init__(self, client: Own, *, timeout: float, wait: float, metadata: Mapping[str, str] | None) -> None:
        self._client = client
        self._timeout = timeout
        self._wait = wait
        self._sent_metadata = metadata
        self._sequence: int | None = None
        self.channel: ClientChannel | None = None
        self.place: Any = None
        self.closed = False
        self.in_order = True
        self.process = this_process()

    def discard(self, linger: float) -> None:
        """Close the connection, which must not be used any more."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close(linger=linger)

    def interrupt(self) -> None:
        """End it, since it or the client is closed, in whatever thread: its next step raises ConnectionClosed."""
        self.closed = True
        channel = self.channel
        if channel is not None:
            channel.interrupt()

    def _begin(self, payload: Payload, flags: Flag) -> ClientChannel:
        """Connect and send the request."""
        self._client._loop_channel(self, end_of(self._timeout))
        channel = self._own
        self._sequence = channel.begin(payload, end_of(self._wait), self._sent_metadata, flags)
        return channel

    @property
    def _own(self) -> ClientChannel:
        if self.channel is None or self.closed:
            raise explain.closed_here()
        return self.channel

    def _leave(self, error: BaseException | None) -> None:
        """Cancel the request if it is unanswered, and give the connection back."""
        # No half done step raises one of these.
        self.in_order = self.in_order or isinstance(error, SealwireError)
        if self.in_order and self._sequence is not None and self.channel is not None:
            self.channel.cancel(self._sequence)
        self._client._end_loop(self, error)


class Download(Exchange, Ending):
    """A reply in parts.

    Attributes:
        has_ended: True after the last part, an error, or :meth:`end`.
        result: The reply itself, after the last part.
        metadata: Its metadata, after the last part.
    """

    def __init__(
        self,
        client: Own,
        payload: Payload,
        *,
        timeout: float,
        wait: float,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str],
        idempotent: bool,
        most: int,
    ) -> None:
        Exchange.__init__(self, client, timeout=timeout, wait=wait, metadata=metadata)
        Ending.__init__(self)
        self._payload = payload
        self._idempotent = idempotent
        self._most = most
        self._count = 0
        self._turns = Turns(Turn(None))
        """The thread that uses the connection: it takes the next part, or closes the stream."""
        self._untaken = 0
        """Bytes of the part that the caller is working on."""
        self.has_ended = False
        self.result: Any = None
        self.metadata = reply_metadata

    def next(self) -> Any:
        """Return the next part. Raises StopIteration after the last one, InvalidState if it is being taken already."""
        if self.has_ended:
            raise StopIteration
        if self.process is not this_process():
            raise misuse.of_parent()
        turn = Turn(currentframe())
        if not self._turns.take(turn, 0.0):
            raise explain.closed_here() if self.closed else misuse.part_is_awaited()
        try:
            return self._take()
        except StopIteration:
            self.end(None)
            self._done(None)
            raise
        except BaseException as error:
            self.end(error)
            self._done(error)
            if isinstance(error, ConnectionLost) and self.closed:
                raise explain.closed_here() from None
            raise
        finally:
            self._turns.end(turn)

    def _take(self) -> Any:
        if self.has_ended:
            raise StopIteration
        self.in_order = False
        answer = self._next_answer()
        if isinstance(answer, RemoteError):
            raise answer
        if isinstance(answer, Part):
            self._note_part(len(answer.payload))
            value = self._client._decode(answer.payload)
            self.in_order = True
            return value
        self.result = self._client._decode(answer.payload)
        self.metadata.update(answer.metadata or {})
        self.in_order = True
        raise StopIteration

    def close(self) -> None:
        """End it from outside, and give up a part that a thread waits for."""
        if self.has_ended or self.process is not this_process():
            return
        self.closed = True
        turn = Turn(currentframe())
        if not self._turns.take(turn, 0.0):
            super().interrupt()
            return
        try:
            self.end(None)
            self._done(GeneratorExit())
        finally:
            self._turns.end(turn)

    def interrupt(self) -> None:
        """End it, since the client is closed: its next step raises ConnectionClosed."""
        self.closed = True
        turn = Turn(currentframe())
        if not self._turns.take(turn, 0.0):
            super().interrupt()
            return
        try:
            self.discard(0.0)
        finally:
            self._turns.end(turn)

    def end(self, error: BaseException | None) -> None:
        """Cancel the request if it is unanswered, and give the connection back, in the thread that uses it."""
        if not self.has_ended and self.process is this_process():
            self._leave(error)
            self.has_ended = True  # last, so that an end that was interrupted is made up for

    def _note_part(self, size: int) -> None:
        self._count += 1
        if self._count > self._most:
            raise LimitExceeded(f"max_parts: the reply has more than {self._most} parts")
        self._untaken = size

    def _next_answer(self) -> Part | Reply | RemoteError:
        deadline = end_of(self._wait)
        if self._sequence is not None:
            self._own.note_processed(self._sequence, self._untaken, deadline)
            return self._own.next_answer(self._sequence, deadline)
        resend: Resend | None = None
        while True:
            try:
                channel = self._begin(self._payload, Flag.PARTS)
                assert self._sequence is not None  # it was sent
                return channel.next_answer(self._sequence, end_of(self._wait))
            except ConnectionLost as lost:
                resend = resend or Resend(end_of(self._wait), idempotent=self._idempotent)
                self._client._remaining(resend, lost, self)
                self.discard(0.0)
                self._sequence = None


class PartStream(Closing, PartsOfReply, Iterator[Any]):
    """The parts of a reply: an iterator, and a context manager that closes it. Made by a client's ``stream``."""

    def __init__(self, download: Download) -> None:
        self._download = download  # apart from this object, so that the client does not keep this object alive
        self._thread = get_ident()

    @property
    def result(self) -> Any:
        """The reply itself, which is what the handler returned; None before the end of the parts."""
        return self._download.result

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the reply; empty before the end of the parts."""
        return self._download.metadata

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._download.next()

    def add_done_callback(self, function: Done) -> None:
        """Call a function once when the stream has ended, in the thread that ends it; never if it has ended already.

        Args:
            function: Called with None after the last part, with the exception that ended the stream, or with
                GeneratorExit if it was closed before. It must not raise.
        """
        self._download.add_done_callback(function)

    def close(self) -> None:
        """Tell the server that the rest is not wanted, and end the iteration. Does nothing after its end.

        Any thread and any signal handler may call it. A call that is waiting for a part raises ConnectionClosed.
        """
        self._download.close()

    def __del__(self) -> None:
        download = getattr(self, "_download", None)
        if download is None or download.has_ended:
            return
        if self._thread == get_ident():
            with suppress(Exception):
                self.close()
        elif download.channel is not None:  # garbage, collected while another thread may use the client
            download.channel.abandon()


class Upload(Exchange):
    """A request in parts."""

    def run(
        self, parts: Iterable[Any], encode: Callable[[Any], Payload]
    ) -> tuple[VerifiedPayload, dict[str, str] | None]:
        """Send the parts, and return the payload of the reply and its metadata.

        Raises RemoteError, any other error of a request, and any exception of the iterable.
        """
        error: BaseException | None = None
        items = iter(parts)
        try:
            self.in_order = False
            channel = self._begin(b"", Flag.UPLOAD)
            answer = self._send(channel, items, encode)
            if answer is None:
                answer = self._reply(channel)
            self.in_order = True
        except ConnectionLost as lost:
            unknown = ConnectionClosed(str(lost)) if lost.unprocessed else outcome_unknown(lost)
            error = explain.closed_here() if self.closed else unknown
            raise error from None
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                self._leave(error)
            finally:
                error = None  # whose traceback has this frame: what an interrupt leaves must vanish without a collector
        if isinstance(answer, RemoteError):
            raise answer
        return answer.payload, answer.metadata

    def _send(
        self, channel: ClientChannel, items: Iterator[Any], encode: Callable[[Any], Payload]
    ) -> Reply | RemoteError | None:
        """Send all parts; return the answer if that comes before the last one."""
        assert self._sequence is not None  # the request was sent
        answer = None
        self.in_order = True
        for item in items:
            payload = encode(item)
            self.in_order = False
            answer = channel.send_part(self._sequence, payload, end_of(self._wait))
            self.in_order = True
            if answer is not None:
                break
        self.in_order = False
        channel.end_parts(self._sequence, end_of(self._wait))
        return answer

    def _reply(self, channel: ClientChannel) -> Reply | RemoteError:
        assert self._sequence is not None  # the request was sent
        while isinstance(answer := channel.next_answer(self._sequence, end_of(self._wait)), Part):
            pass  # the protocol refuses it: the request did not ask for parts
        return answer
