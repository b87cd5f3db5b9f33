"""Messages and replies in parts, for handlers that are ordinary functions.

A handler that is a generator function yields the parts of its reply; what it returns is the reply itself. For a request
in parts, its message is an iterator over them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Self

from sealwire.errors import DecodeError, LimitExceeded
from sealwire.session.requests import RequestChannel
from sealwire.wire.frames import Payload, VerifiedPayload


class AnswersInParts(Exception):
    """The handler has nothing but parts to send, and the client did not ask for parts."""


class PartsOfMessage:
    """The message of a request in parts.

    Args:
        most: Number of parts, at most.

    Attributes:
        error: The DecodeError of a part that was refused.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self.error: DecodeError | None = None

    def _count_part(self) -> None:
        """Count a part. Raises LimitExceeded if there are too many."""
        self._count += 1
        if self._count > self._most:
            self.error = LimitExceeded(f"max_parts: the message has more than {self._most} parts")
            raise self.error


class MessageParts(PartsOfMessage, Iterator[Any]):
    """The message of a request in parts: an iterator over them, each decoded.

    Args:
        channel: The connection.
        request: The number of the request.
        decode: Returns the value of a part, or raises DecodeError.
        most: Number of parts, at most.
    """

    def __init__(
        self, channel: RequestChannel, request: int, decode: Callable[[VerifiedPayload], Any], most: int
    ) -> None:
        super().__init__(most)
        self._channel = channel
        self._request = request
        self._decode = decode

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self.error is not None:
            raise self.error
        payload = self._channel.next_part(self._request)
        if payload is None:
            raise StopIteration
        self._count_part()
        try:
            return self._decode(payload)
        except DecodeError as error:
            self.error = error
            raise


def send_parts(
    channel: RequestChannel,
    request: int,
    generator: Generator[Any, None, Any],
    encode: Callable[[Any], Payload],
    most: int,
) -> Any:
    """Send the values of a generator as the parts of a reply, and return the reply itself.

    To a client that did not ask for parts, only the reply is sent.

    Args:
        channel: The connection.
        request: The number of the request.
        generator: The handler's generator.
        encode: Returns the payload of a part, or raises EncodeError.
        most: Number of parts, at most.

    Raises:
        AnswersInParts: The client did not ask for parts, and there is no reply but the parts.
        RequestCancelled: The client does not want the rest, or the server drains.
        RuntimeError: The handler yields more than ``most`` parts.
        Exception: Any of the handler, EncodeError, and any of :meth:`RequestChannel.send_part`.
    """
    accepted = channel.accepts_parts(request)
    count = 0
    try:
        while True:
            try:
                part = next(generator)
            except StopIteration as stop:
                reply = stop.value
                break
            count += 1
            if count > most:
                raise RuntimeError(f"max_parts: the handler yields more than {most} parts")
            if accepted:
                channel.send_part(request, encode(part))
            else:
                channel.check_wanted(request)
    finally:
        generator.close()
    if count and not accepted and reply is None:
        raise AnswersInParts
    return reply
