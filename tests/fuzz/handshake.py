"""HELLO, WELCOME and what follows, at both ends: protocol and session, driven by a stranger and by a holder of the key.

The peer of an established connection seals frames of any kind, order and content.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from fuzz.harness import Source, refusal
from sealwire.errors import ConnectionClosed, RemoteError, RemoteProtocolError, TransportError
from sealwire.security import Security
from sealwire.wire.events import (
    Closed,
    Doubted,
    Established,
    Event,
    Faulted,
    Part,
    Ponged,
    Rejected,
    Reply,
    Request,
)
from sealwire.wire.features import Features, extension_types
from sealwire.wire.frames import HEAD, MAX_FAULT_TEXT, MIN_LENGTH, TAG, Flag, Hello, Kind, Welcome
from sealwire.wire.keys import Binding, hello_mac, traffic_keys, transcript
from sealwire.wire.metadata import MAX_ENTRIES, MAX_SIZE, pack
from sealwire.wire.protocol import State
from sealwire.wire.stream import StreamProtocol
from support.constants import KEY_ID, SECRET
from support.service import Deployment
from support.session import Clock, Connection
from support.wire import feed, frames_of, sent

RUNS = 1_500
OFFERED = Features(metadata=True, cancel=True, window=1000, at_once=8)
NONCE = bytes(range(32))


@cache
def ends() -> tuple[Security, Security]:
    made = Deployment(Path(tempfile.mkdtemp(prefix="sealwire-fuzz-")))
    return made.server_security(raw=True, limits={"max_frame": 20_000}), made.security("client", raw=True)


def binding() -> Binding:
    server, client = ends()
    return Binding.of(server=server.credentials.current.leaf, client=client.credentials.current.leaf)


def connection(*, established: bool = True, features: Features = OFFERED) -> Connection:
    made = Connection(*ends(), Clock(), features=features)
    if established:
        made.shake_hands()
    return made


def put(protocol: StreamProtocol, data: bytes, events: list[Event], *, step: int = 1 << 30) -> Exception | None:
    """Put bytes into a protocol. After an error it has ended, and nothing more comes out of it."""
    before = protocol.state
    error = refusal(RemoteProtocolError, of=lambda: feed(protocol, data, step=step, into=events))
    if error is not None:
        assert protocol.state is State.ENDED
        known = len(events)
        answer = frames_of(sent(protocol))
        assert all(frame[4] in (Kind.CLOSE, Kind.REJECT) for frame in answer[-1:])
        assert answer or before is State.HANDSHAKE, "an established connection ended without CLOSE"
        assert put(protocol, data, events) is None
        assert len(events) == known
    return error


def a_stranger(source: Source) -> None:
    """Any bytes, and their end, to either side, before anything else."""
    made = connection(established=False)
    protocol = source.choice(made.server, made.client)
    step, events = 1 + source.number(255), list[Event]()
    sent(protocol)
    error = put(protocol, source.rest(), events, step=step)
    assert not events or (len(events) == 1 and isinstance(events[0], Rejected)), "a stranger got somewhere"
    assert protocol.buffered == 0
    protocol.eof_received()
    ended = refusal(RemoteProtocolError, ConnectionClosed, of=protocol.next_event)
    assert error or events or ended
    assert protocol.state is State.ENDED


def frame(kind: int, payload: bytes) -> bytes:
    return HEAD.pack(len(payload) + MIN_LENGTH, kind, 0, 0, 0, 0) + payload


def extensions(source: Source) -> bytes:
    """Extensions, in order or not."""
    found = b""
    for _ in range(source.number(4)):
        kind, value = source.choice(16, 17, 18, source.number(0xFFFF, 2)), source.block(12)
        found += kind.to_bytes(2) + len(value).to_bytes(2) + value
    return found


def kinds_of(found: bytes) -> list[int]:
    """Return the types of extensions, as they come."""
    kinds = []
    while found:
        kinds.append(int.from_bytes(found[:2]))
        found = found[4 + int.from_bytes(found[2:4]) :]
    return kinds


def hello_of(source: Source) -> bytes:
    """The content of a HELLO: bytes as they are, or fields of any content."""
    if source.number(1):
        return source.rest()
    names = [source.choice(own, own, source.block(80)) for own in (KEY_ID.encode(), b"raw", b"localhost")]
    head = bytes((source.choice(1, 1, 1, source.number(255)),)) + NONCE + source.choice(b"\0\0\x80\0", source.bytes(4))
    return head + b"".join(bytes((len(name),)) + name for name in names) + extensions(source) + source.rest()


def a_hello(source: Source) -> None:
    """HELLO of a client that has the key, or of one that has not."""
    features = source.choice(OFFERED, Features(), OFFERED._replace(metadata=False))
    made = connection(established=False, features=features)
    genuine = source.choice(True, True, False)
    payload = hello_of(source)
    unsigned = frame(Kind.HELLO, payload)
    events: list[Event] = []
    error = put(made.server, unsigned + (hello_mac(SECRET, binding()).tag(unsigned) if genuine else bytes(TAG)), events)
    event = events[0] if events else None
    if isinstance(event, Doubted):
        error = error or refusal(RemoteProtocolError, of=lambda: events.append(made.session.answer_hello()))
        event = events[-1]
    refused = refusal(TransportError, of=lambda: made.session.establish(event)) if error is None else error
    assert not made.server.authenticated
    if refused is not None:
        assert not isinstance(event, Established)
        return
    hello = Hello.unpack(payload)
    assert genuine
    assert hello.pack() == payload
    assert (hello.version, hello.key_id, hello.codec) == (1, KEY_ID, "raw")
    assert hello.server_name in ("localhost", "127.0.0.1", "")  # docs/protocol.md, section 3
    kinds = kinds_of(hello.extensions)
    assert kinds == sorted(set(kinds)), "extensions out of order, or one twice"
    (answer,) = frames_of(sent(made.server))
    welcome = Welcome.unpack(answer[HEAD.size : -TAG])
    assert welcome.pack() == answer[HEAD.size : -TAG]
    assert extension_types(welcome.extensions) <= extension_types(hello.extensions) & {16, 17, 18}
    agreed = made.server.features
    offered = features.metadata, features.cancel, features.parts
    for ours, theirs in zip((agreed.metadata, agreed.cancel, agreed.parts), offered, strict=True):
        assert ours <= theirs


def a_welcome(source: Source) -> None:
    """WELCOME, or whatever a server with the key answers in its place."""
    made = connection(established=False)
    hello = sent(made.client)
    if source.number(1):
        payload = source.rest()
    else:
        codec = source.choice(b"raw", b"raw", source.block(80))
        head = bytes((source.choice(1, 1, 1, source.number(255)),)) + NONCE
        payload = head + source.choice(b"\0\0\x80\0", source.bytes(4)) + bytes((len(codec),)) + codec
        payload += extensions(source) + source.rest()
    unsigned = frame(source.choice(Kind.WELCOME, Kind.WELCOME, source.number(12)), payload)
    keys = traffic_keys(
        SECRET,
        client_nonce=hello[HEAD.size + 1 :][:32],
        server_nonce=payload[1:33],
        binding=binding(),
        log=transcript(hello, unsigned),
    )
    genuine = source.choice(True, True, False)
    events: list[Event] = []
    error = put(made.client, unsigned + (keys.server_to_client.tag(unsigned) if genuine else bytes(TAG)), events)
    event = events[0] if events else None
    if error is None and refusal(TransportError, of=lambda: made.asking.establish(event)) is None:
        welcome = Welcome.unpack(payload)
        assert genuine
        assert welcome.pack() == payload
        assert (welcome.version, welcome.codec) == (1, "raw")
        assert made.client.state is State.OPEN
        assert extension_types(welcome.extensions) <= extension_types(Hello.unpack(hello[HEAD.size : -TAG]).extensions)


def a_frame(source: Source, protocol: StreamProtocol) -> bytes:
    """A frame that the peer seals, with the next number or another one."""
    kind = source.choice(*(int(each) for each in Kind), source.number(255))
    flags, wait = source.choice(0, 0, source.number(255)), source.choice(0, source.number(0xFFFF, 2))
    reply_to = source.choice(0, 1, 2, 3, 4, source.number(2**64 - 1, 8))
    sealer = protocol._sealer
    assert sealer is not None
    if source.number(15) == 15:
        sealer.sequence = source.number(2**64 - 2, 8)
    payload = source.choice(b"", source.block(), source.block() * 9)
    return b"".join(sealer.seal(kind, payload, wait=wait, reply_to=reply_to, flags=flags))


def requests(source: Source) -> None:
    """A client with the key, which sends what it likes; some requests are answered."""
    features = source.choice(OFFERED, Features())
    made = connection(features=features)
    server, session = made.server, made.session
    seen: set[int] = set()
    for _ in range(30):
        data = b"".join(a_frame(source, made.client) for _ in range(1 + source.number(2))) if source else b""
        events: list[Event] = []
        error = put(server, data, events)
        for event in events:
            request = session.receive(event, made.clock.now)
            if isinstance(event, Request):
                assert event.sequence not in seen, "a request twice"
                seen.add(event.sequence)
                judge(event.metadata, server.request_id(event.sequence))
            if isinstance(event, Part) and server.state is State.OPEN:
                server.note_processed(event.request, len(event.payload))
            if request is None or server.state is not State.OPEN or not made.take(request):
                continue
            answer = source.choice("reply", "fault", "nothing")
            if answer == "reply":
                session.reply(request.sequence, b"!", made.clock.now, {"k": "v"})
            elif answer == "fault":
                session.fault(request.sequence, 64, "no")
            if answer != "nothing":
                session.finish_handling(made.clock.now)
        assert 0 <= session.working <= session.unanswered <= len(seen)
        if error is not None or not source:
            return


def replies(source: Source) -> None:
    """A server with the key, which answers what it likes."""
    made = connection(features=source.choice(OFFERED, Features()))
    client = made.client
    flags = Flag.PARTS if client.features.parts else 0
    open_requests = {client.send_request(b"?", flags=flags if number == 1 else 0) for number in range(3)}
    pings = {client.send_ping(b"?")}
    sent(client)
    for _ in range(30):
        events: list[Event] = []
        error = put(client, a_frame(source, made.server) if source else b"", events)
        for event in events:
            if isinstance(event, Reply | Faulted):
                assert event.request in open_requests, "an answer to nothing, or a second one"
                open_requests.remove(event.request)
            elif isinstance(event, Part):
                assert event.request in open_requests
                if client.state is State.OPEN:
                    client.note_processed(event.request, len(event.payload))
            elif isinstance(event, Ponged):
                pings.remove(event.request)
            if isinstance(event, Reply):
                judge(event.metadata, client.request_id(event.request))
            receive(made, event)
        if error is not None or not source:
            return


def receive(made: Connection, event: Event) -> None:
    """Pass an event to the client's session."""
    found: list[object] = []
    error = refusal(ConnectionClosed, of=lambda: found.append(made.asking.receive(event)))
    assert (error is not None) is isinstance(event, Closed)
    if isinstance(event, Faulted):
        (answer,) = found
        assert isinstance(answer, tuple)
        assert isinstance(answer[1], RemoteError)
        assert str(answer[1]).isprintable()
        assert len(answer[1].text) <= 10 * MAX_FAULT_TEXT


def judge(metadata: dict[str, str] | None, request_id: str) -> None:
    assert request_id.isprintable()
    assert 0 < len(request_id) <= 640
    if metadata:
        assert len(metadata) <= MAX_ENTRIES
        assert len(pack(metadata)) <= MAX_SIZE


def one(data: bytes) -> None:
    source = Source(data)
    source.choice(a_stranger, a_hello, a_welcome, requests, replies)(source)


_EXTENSIONS = bytes.fromhex("0010 0000 0011 0000 0012 0006 000003e8 0000")
_FIELDS = b"\1" + NONCE + b"\0\0\x80\0"
SEEDS = [
    b"\0\0\7" + frame(1, _FIELDS + b"\2k1\3raw\x09localhost") + bytes(32),
    b"\0\1\xff" + frame(8, b"\0\3") + bytes(32),
    b"\0\1\0" + frame(2, _FIELDS + b"\3raw") + bytes(32),
    b"\1\0\0\1" + _FIELDS + b"\2k1\3raw\x09localhost" + _EXTENSIONS,
    b"\1\0\0\1" + _FIELDS + b"\2k1\3raw\x09localhost" + bytes.fromhex("0010 0000 0010 0000"),
    b"\1\1\2\1" + _FIELDS + b"\2k1\3raw\x09localhost",
    b"\1\0\1\0\0\0\0\0\0\3\0\0\1\0\2\6\0\0\3\xe8\0\0",
    b"\1\2\0\0\0\0\1\3raw\0\0\1\3\xff\xff\1x",
    b"\2\1" + _FIELDS + b"\3raw" + bytes.fromhex("0010 0000 0011 0000 0012 0006 000003e8 0008"),
    b"\2\0\0\0\0\3\0\0\1\0\2\6\0\0\3\xe8\0\x08\0\0",
    b"\2\0\0\0\0\0",
    *(
        start + body
        for start in (b"\3\0\0", b"\3\1\1", b"\4\0", b"\4\1")
        for body in (
            (b"\2\0\0\0\0\0\1\5hello" * 3),
            (b"\2\2\1\0\0\0\1\x0a\1\1k\0\1vtext" + b"\2\2\3\0\0\0\0" + b"\x09\0\0\2\0\1\3abc" + b"\x0b\0\0\2\0\0"),
            (b"\4\0\0\0\0\1\1?" + b"\2\0\0\1\0\1\1!" + b"\x08\0\0\1\0\0" + b"\6\0\0\0\0\1\x0a" + bytes(10)),
            (
                b"\3\0\0\1\0\1\4\0\x40no"
                + b"\5\0\0\4\0\1\1?"
                + b"\x0a\0\0\2\0\1\4\0\0\1\0"
                + b"\x09\0\0\2\0\2\x64"
                + bytes(100)
            ),
        )
    ),
]
