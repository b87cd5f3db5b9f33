"""Requests and replies in parts, for synchronous clients and pools."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from sealwire.client_base import BaseClient, check_seconds
from sealwire.errors import ConfigurationError
from sealwire.middleware.calling import CallContext
from sealwire.middleware.chain import chained
from sealwire.session.call_metadata import CallMetadata
from sealwire.sync.part_stream import Download, Own, PartStream, Upload
from sealwire.wire.metadata import checked


class PartsClient(BaseClient):
    """The methods ``stream`` and ``send_parts``."""

    @abstractmethod
    def _place(self) -> Own:
        """Return the lender of connections, which takes them back."""

    def stream(
        self,
        data: Any,
        *,
        wait: float | None = None,
        idempotent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> PartStream:
        """Send a request for a reply in parts: the values that its handler yields.

        The request is sent when the first part is asked for. The iterator has a connection of its own until it is
        exhausted or closed, so the body of a loop over it can use the client. Leaving the loop closes the iterator,
        which tells the server that the rest is not wanted. While the caller works on a part, the server sends
        ``Limits.part_window`` bytes ahead, and then waits.

        Args:
            data: The message, of types that the codec accepts.
            wait: Seconds for the next part, or the end, each time. The time of the loop's body does not count. Default:
                the client's ``wait``.
            idempotent: True if the server may act on the request twice without harm. After the first part it is not
                sent again in any case. Default: False.
            metadata: Up to 32 entries that travel with the request. Default: None.

        Returns:
            An iterator over the decoded parts, which is a context manager as well. After the last part its ``result``
            is what the handler returned, usually None, and ``metadata`` the metadata of the reply.

        Raises:
            EncodeError: The data cannot be encoded; raised at once.
            ConfigurationError: An argument cannot be used; raised at once.
            FeatureNotSupported: The server does not support parts; raised by the iterator, like all errors below.
            DeadlineExceeded: There was no part in time. The server was told to stop.
            RemoteError: The handler failed, possibly after some parts.
            DecodeError: A part is not acceptable. The server was told to stop.
            SealwireError: Any other error of :meth:`send_request`.
        """
        seconds = self.wait if wait is None else check_seconds("wait", wait)
        if self._middleware:
            context = CallContext(self._address, seconds, idempotent, metadata, None)
            stream = context.begin(self._middleware, partial(self._stream, seconds), data)
            assert isinstance(stream, PartStream)  # another client's must be streamed through its own
            return stream
        return self._stream(seconds, data, seconds, idempotent, metadata, {})

    def _stream(
        self,
        wait: float,
        data: Any,
        _: float,
        idempotent: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str],
    ) -> PartStream:
        """Return a stream, within all middleware."""
        download = Download(
            self._place(),
            self.security.codec.encode_pieces(data),
            timeout=self.timeout,
            wait=wait,
            metadata=None if metadata is None else checked(metadata),
            reply_metadata=reply_metadata,
            idempotent=idempotent,
            most=self.security.limits.max_parts,
        )
        return PartStream(download)

    def send_parts(
        self,
        parts: Iterable[Any],
        *,
        wait: float | None = None,
        metadata: Mapping[str, str] | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> Any:
        """Send a request in parts, each a message of its own, and return the reply.

        The handler's message is an iterator over the parts. The client sends ``Limits.part_window`` bytes more than the
        handler has taken, and then waits. If the handler answers before the last part, the rest is not sent.

        Args:
            parts: The parts. They are taken from the iterable as the server makes room for them.
            wait: Seconds for the server to take each part, and for the reply after the last one. The time of the
                iterable does not count. Default: the client's ``wait``.
            metadata: Up to 32 entries that travel with the request, for its handler's ``context``. Default: None.
            reply_metadata: A dict to fill with the metadata that the handler sends with its reply. Default: None.

        Returns:
            The decoded reply.

        Raises:
            FeatureNotSupported: The server does not support parts, or the metadata to be sent.
            ConnectionClosed: The connection ended. The server may have acted on what it had; nothing is sent again.
            SealwireError: Any other error of :meth:`send_request`.
            Exception: Any exception of the iterable. The server is told that the request is cancelled.
        """
        seconds = self.wait if wait is None else check_seconds("wait", wait)
        if not isinstance(parts, Iterable):
            raise ConfigurationError(f"parts must be an iterable of messages, not a {type(parts).__name__}")
        if self._middleware:
            context = CallContext(self._address, seconds, False, metadata, reply_metadata)
            return chained(self._middleware, partial(context.send, partial(self._send_parts, seconds)))(context, parts)
        return self._send_parts(seconds, parts, seconds, False, metadata, reply_metadata)

    def _send_parts(
        self,
        wait: float,
        parts: Iterable[Any],
        _: float,
        __: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        """Send a request in parts and return the reply, within all middleware."""
        call_metadata = CallMetadata(metadata, reply_metadata)
        place = self._place()
        upload = Upload(place, timeout=self.timeout, wait=wait, metadata=call_metadata.metadata)
        payload, received = upload.run(parts, self.security.codec.encode_pieces)
        call_metadata.receive(received)
        return place._decode(payload)
