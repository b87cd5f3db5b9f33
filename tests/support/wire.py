"""Two protocols back to back, without any carrier."""

from __future__ import annotations

from typing import Any

from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Event
from sealwire.wire.features import Features
from sealwire.wire.frame_reader import STAGING
from sealwire.wire.keys import Binding, Key
from sealwire.wire.protocol import State
from sealwire.wire.server import ServerParameters, ServerProtocol
from sealwire.wire.stream import StreamProtocol

KEY = Key("k1", b"s" * 32)
BINDING = Binding.of(server=b"server leaf", client=b"client leaf")
MAX_FRAME = 1 << 20


def client(**changes: Any) -> ClientProtocol:
    arguments = {
        "key": KEY,
        "binding": BINDING,
        "codec": "raw",
        "server_name": "localhost",
        "max_frame": MAX_FRAME,
        "nonce": b"c" * 32,
    }
    return ClientProtocol(**(arguments | changes))


def server(**changes: Any) -> ServerProtocol:
    arguments = {
        "find_key": {"k1": KEY}.get,
        "accepts_name": lambda name: name == "localhost",
        "binding": BINDING,
        "codec": "raw",
        "max_frame": MAX_FRAME,
        "nonce": b"s" * 32,
    }
    return ServerProtocol(ServerParameters(**(arguments | changes)))


def sent(protocol: StreamProtocol) -> bytes:
    return b"".join(protocol.data_to_send())


def feed(protocol: StreamProtocol, data: bytes, *, step: int = 1 << 30, into: list[Event] | None = None) -> list[Event]:
    """Put bytes in, in pieces of at most ``step``; returns the events. Raises what next_event raises.

    ``into``: the list to add the events to, where those before an error are wanted.
    """
    events = [] if into is None else into
    view = memoryview(data)
    while True:
        while (event := protocol.next_event()) is not None:
            events.append(event)
        if not view:
            return events
        reader = protocol.reader
        is_open = protocol.state is not State.ENDED
        if is_open and len(view) <= min(step, STAGING) and reader.opener is not None and reader.empty:
            reader.reads += 1  # as the native core does
            reader.opener.feed(bytes(view))
            view = view[:0]
            continue
        buffer = protocol.get_buffer()
        count = min(len(buffer), len(view), step)
        buffer[:count] = view[:count]
        del buffer
        protocol.buffer_updated(count)
        view = view[count:]


def frames_of(data: bytes) -> list[bytes]:
    """Return the frames of a stream, each whole."""
    frames = []
    while data:
        size = 4 + int.from_bytes(data[:4], "big")
        frames.append(data[:size])
        data = data[size:]
    return frames


def feed_to_end(protocol: StreamProtocol, data: bytes, *, into: list[Event] | None = None) -> None:
    """Put bytes in, then the end of the stream, which is never clean without CLOSE."""
    feed(protocol, data, into=into)
    protocol.eof_received()
    protocol.next_event()


def established(**changes: Any) -> tuple[ClientProtocol, ServerProtocol]:
    """Two protocols after their handshake. Changes with the prefix server_ or client_ are one side's."""
    ours = {name[7:]: value for name, value in changes.items() if name.startswith("client_")}
    theirs = {name[7:]: value for name, value in changes.items() if name.startswith("server_")}
    c, s = client(**ours), server(**theirs)
    feed(s, sent(c))
    feed(c, sent(s))
    return c, s


WINDOW = 1000
"""The window for parts of both sides of :func:`featured`."""


def featured(**changes: Any) -> tuple[ClientProtocol, ServerProtocol]:
    """Two protocols that have agreed on all features."""
    offered = Features(metadata=True, cancel=True, window=WINDOW)
    return established(**({"client_features": offered, "server_features": offered._replace(at_once=8)} | changes))
