"""UDP: the records that are read without keys, sealed frames in any order, and a whole server before strangers.

The server's DTLS is OpenSSL's, with its random numbers and clock; the network and all other clocks are the target's.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from fuzz.harness import Source, refusal
from sealwire.dtls.flight import FACTOR
from sealwire.dtls.records import HANDSHAKE, MTU, announced, client_offer, client_random, is_encrypted, is_forged
from sealwire.errors import RemoteProtocolError
from sealwire.security import Security
from sealwire.wire.datagram import ClientDatagrams, DatagramProtocol, ServerDatagrams
from sealwire.wire.events import Part, Request
from sealwire.wire.features import Features
from sealwire.wire.frames import HEAD, Kind
from sealwire.wire.protocol import State
from sealwire.wire.server import ServerParameters
from support.datagrams import Client, Network
from support.service import Deployment
from support.wire import BINDING, KEY

RUNS = 400
FEATURES = Features(metadata=True, cancel=True)
CLIENT, STRANGERS = 1, (1, 2, 3)
"""The port of the client, and those that a stranger writes from, the client's among them."""


_COOKIE = 2
"""The client's second datagram has the cookie, and the third its certificate."""


def records(source: Source) -> None:
    """The fields of records and handshake messages, in any bytes."""
    data = source.rest()
    is_forged(data, 24)
    offer, random = client_offer(data), client_random(data)
    assert random is None or (len(random) == 32 and data[0] == HANDSHAKE and not is_encrypted(data))
    assert offer is None or (random is not None and random in offer and len(offer) < len(data))
    sizes = list(announced(data))
    assert len(sizes) <= len(data) // 12
    assert all(0 <= number < 65_536 and 0 <= size < 1 << 24 for number, size in sizes)


def carried(sender: DatagramProtocol, receiver: DatagramProtocol) -> None:
    for pieces in sender.frames_to_send():
        receiver.datagram_received(b"".join(pieces))


def frames(source: Source) -> None:
    """Frames of a client with the key: late, early, twice, cut or changed. Each is seen once at most."""
    client = ClientDatagrams(
        0.0, key=KEY, binding=BINDING, codec="raw", server_name="localhost", max_frame=MTU, features=FEATURES
    )
    server = ServerDatagrams(
        ServerParameters(
            find_key={KEY.id: KEY}.get, accepts_name=lambda _: True, binding=BINDING, codec="raw", max_frame=MTU,
            features=FEATURES,
        )
    )  # fmt: skip
    carried(client, server)
    carried(server, client)
    assert client._sealer is not None
    made, genuine, seen = [], set[bytes](), Counter[int]()
    for _ in range(40):
        if not source:
            break
        what = source.number(3)
        if what == 0 and made:
            datagram = made[source.number(len(made) - 1)]
        elif what == 1:
            datagram = source.block()
        else:
            client._sealer.sequence = source.choice(
                client._sealer.sequence, source.number(200), source.number(2**63, 8)
            )
            kind, flags = (
                source.choice(Kind.MESSAGE, Kind.MESSAGE, source.number(13)),
                source.choice(0, 1, source.number(255)),
            )
            reply_to, wait = source.choice(0, source.number(200)), source.choice(0, source.number(0xFFFF, 2))
            payload = source.block()
            datagram = b"".join(client._sealer.seal(kind, payload, wait=wait, reply_to=reply_to, flags=flags))
            made.append(datagram)
            genuine.add(datagram)
            if what == 3:
                datagram = changed(datagram, source)
        events: list[object] = []
        before = server.state
        error = refusal(RemoteProtocolError, of=lambda: events.append(server.datagram_received(datagram)))  # noqa: B023 - it is called at once
        assert error is None or server.state is State.ENDED
        (event,) = events or (None,)
        if datagram not in genuine:
            assert (event, error) == (None, None), "a datagram that nobody sealed had an effect"
        assert before is not State.ENDED or (event is None and error is None)
        if isinstance(event, Request | Part):
            seen[HEAD.unpack_from(datagram)[4]] += 1
    assert all(count == 1 for count in seen.values()), "a frame was seen twice"


def changed(datagram: bytes, source: Source) -> bytes:
    """Return a datagram with some bytes changed, cut, or with others behind it."""
    data = bytearray(datagram)
    for _ in range(source.number(2)):
        if data:
            data[source.number(len(data) - 1, 2)] ^= source.number(255)
    return bytes(data[: source.choice(len(data), source.number(len(data), 2))]) + source.block() * source.number(1)


@cache
def ends() -> tuple[Security, Security]:
    made = Deployment(Path(tempfile.mkdtemp(prefix="sealwire-fuzz-")))
    limits = {"max_handshakes": 4, "max_handshakes_per_source": 3, "idle_timeout": 1000.0}
    return made.server_security(raw=True, limits=limits), made.security("client", raw=True)


def a_server(source: Source) -> None:
    """A server, its client, and a stranger who sees what they send, and writes from the client's address, too."""
    with pytest.MonkeyPatch.context() as patch:
        network = Network(ends()[0], patch)
        client = network.client(ends()[1], CLIENT, established=False)
        stages, late = source.number(4), source.number(3) == 3
        heard = [datagram for _ in range(stages) for datagram in carry_once(network, client)]
        received = Counter[object]({client.address: sum(map(len, heard))})
        for _ in range(20):
            if not source:
                break
            datagram = source.block() if source.number(1) else b""
            if not datagram and heard:
                datagram = changed(heard[source.number(len(heard) - 1)], source)
            address = ("127.0.0.1", source.choice(*STRANGERS))
            received[address] += len(datagram)
            network.server.datagram_received(datagram, address, network.now)
            network.now += source.number(3) / 8
            network.server.handle_timeouts()
            assert network.server.peers <= 5
        for address, size in received.items():
            if address != client.address or stages <= _COOKIE:
                answered = sum(len(datagram) for datagram, target in network.sent if target == address)
                assert answered <= FACTOR * size, "an address that proved nothing is sent more than it may be"
        assert not network.in_hand, "a request that nobody sent"
        if client.association.open:
            serves(network, client)
        if late:
            network.clients.clear()
            network.forward(60.0)
            serves(network, newcomer(network))
        network.server.close()


def newcomer(network: Network) -> Client:
    """A client that comes now. It may begin again, as OpenSSL's timer may be due where the machine is busy."""
    for port in range(10, 14):
        client = network.client(ends()[1], port, established=False)
        network.carry()
        if client.association.open:
            return client
    raise AssertionError(f"nobody can connect any more: {client.error}")


def carry_once(network: Network, client: Client) -> list[bytes]:
    """Carry what the client has to send, and the answers; return what it was."""
    sent = client.association.datagrams_to_send()
    for datagram in sent:
        network.server.datagram_received(datagram, client.address, network.now)
    while network._to_clients:
        datagram, address = network._to_clients.popleft()
        if address == client.address:
            client.receive(datagram)
    return sent


def serves(network: Network, client: Client) -> None:
    """A client is served, whatever the stranger has done."""
    exchange = client.ask(b"?")
    assert [request.payload for _, request, _ in network.in_hand] == [b"?"]
    network.answer(b"!")
    assert exchange.result == b"!"


def one(data: bytes) -> None:
    source = Source(data)
    source.choice(records, frames, a_server)(source)


def SEEDS() -> list[bytes]:
    with pytest.MonkeyPatch.context() as patch:
        network = Network(ends()[0], patch)
        client = network.client(ends()[1], CLIENT, established=False)
        heard = [datagram for _ in range(5) for datagram in carry_once(network, client)]
    sealed = b"\2" + bytes(24) + b"\5hello"
    return [
        *(b"\0" + datagram[:900] for datagram in heard),
        b"\1" + sealed * 3,
        b"\1" + sealed + b"\0\0" * 3 + sealed + b"\0\1" + b"\3" + sealed[1:] + b"\1\0\5\xff\0\0",
        *(b"\2" + bytes((stage, 3)) + bytes((0, 0, 0, 0, 0, 0, 0, 2)) * 4 for stage in range(5)),
        *(b"\2" + bytes((stage, 0)) + bytes((0, 1, 2, 0, 30, 9, 0, 60, 1, 0, 3, 1)) * 3 for stage in range(5)),
    ]
