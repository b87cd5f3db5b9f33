"""The metadata of one call of a client: sent with the request, and received with the reply."""

from __future__ import annotations

from collections.abc import Mapping

from sealwire.errors import ConfigurationError
from sealwire.session import misuse
from sealwire.wire.features import Features
from sealwire.wire.metadata import TRACE_CONTEXT, Metadata, checked


class CallMetadata:
    """The metadata of one call.

    Args:
        metadata: The metadata to send.
        reply_metadata: The dict to fill with the metadata of the reply.

    Raises:
        ConfigurationError: The metadata is not acceptable.
    """

    __slots__ = ("_reply_metadata", "metadata")

    def __init__(self, metadata: Mapping[str, str] | None, reply_metadata: dict[str, str] | None) -> None:
        if not isinstance(reply_metadata, dict | None):
            raise ConfigurationError("reply_metadata must be a dict, which is filled with the metadata of the reply")
        self.metadata = checked(metadata or {})
        self._reply_metadata = reply_metadata

    def receive(self, metadata: dict[str, str] | None) -> None:
        """Take the metadata of the reply."""
        if self._reply_metadata is not None:
            self._reply_metadata.clear()
            self._reply_metadata.update(metadata or {})


def call_metadata_of(metadata: Mapping[str, str] | None, reply_metadata: dict[str, str] | None) -> CallMetadata | None:
    """Return the metadata of a call; None if the caller has nothing to do with metadata. Raises ConfigurationError."""
    return None if metadata is None and reply_metadata is None else CallMetadata(metadata, reply_metadata)


def sendable(metadata: Metadata | None, features: Features, address: str) -> Metadata | None:
    """Return the metadata that a server can be sent: a server without the feature gets no trace context.

    Raises:
        FeatureNotSupported: The server does not have the feature, and there is other metadata.
    """
    if not metadata or features.metadata:
        return metadata
    if metadata.keys() <= TRACE_CONTEXT:
        return None
    raise misuse.no_metadata(address)
