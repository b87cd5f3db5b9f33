"""The attacks of ``sealwire demo``, each in a process of its own: ``python -m sealwire.demo.attacks NAME HOST PORT``.

The attackers are insiders: each has everything that a good client has, except for the one thing in its title. It
speaks the protocol through the library's own parts, and alters the bytes between those and the socket. The process
prints how the server ended the attack.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from sealwire.errors import RemoteProtocolError
from sealwire.security import Security
from sealwire.send_rcv import BYTE_COUNT, len_frombytes, recvall
from sealwire.session import terms
from sealwire.trust.identity import PeerIdentity, canonical_host
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Established
from sealwire.wire.frames import HEAD, TAG, CloseCode, FaultCode, Kind, RejectCode, kind_name

ORDER = {"item": "tea", "count": 2}
HOSTILE = Path("hostile.pickle")
REPLY = "a reply"
PATIENCE = 5.0
"""Seconds that an attacker waits for an answer."""

_CODES = {Kind.REJECT: RejectCode, Kind.CLOSE: CloseCode, Kind.FAULT: FaultCode}


class Ended(Exception):
    """The server ended the attack; the text says how."""


class Insider:
    """A connection to the server that can send any bytes."""

    def __init__(self, host: str, port: int, security: Security) -> None:
        name = canonical_host(host)
        certificates = security.credentials.current
        self._sock = terms.client_tls(security, certificates).wrap_socket(
            socket.create_connection((host, port), PATIENCE), server_hostname=name, suppress_ragged_eofs=False
        )
        leaf = self._sock.getpeercert(binary_form=True)
        assert leaf is not None  # a server always shows one
        peer = PeerIdentity.from_der(leaf)
        self._protocol = ClientProtocol(
            **terms.client_parameters(security, certificates, host=name, peer=peer, leaf=leaf)
        )
        self._order = security.codec.encode(ORDER)
        self.hello = self._sealed()
        self.cap = 0
        """The longest frame that the server accepts, from its WELCOME."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def open(self) -> None:
        """Complete the handshake. Raises Ended if the server refuses it."""
        self.send(self.hello)
        frame = self.receive()
        if _kind(frame) != Kind.WELCOME:
            raise Ended(describe(frame))
        self._protocol.get_buffer()[: len(frame)] = frame
        self._protocol.buffer_updated(len(frame))
        try:
            event = self._protocol.next_event()
        except RemoteProtocolError as error:
            raise Ended(f"WELCOME, but {error}") from None
        assert isinstance(event, Established)  # a WELCOME gives no other event
        self.cap = event.max_frame

    def request(self, payload: bytes | None = None) -> bytearray:
        """Return the sealed frame of a request, by default of an order, without sending it."""
        self._protocol.send_request(self._order if payload is None else payload)
        return bytearray(self._sealed())

    def send(self, data: bytes | bytearray) -> None:
        """Write bytes as they are. An error is ignored here: reading tells how the connection ended."""
        with suppress(OSError):
            self._sock.sendall(data)

    def receive(self) -> bytes:
        """Return the server's next frame, not verified. Raises Ended if none comes."""
        try:
            length = recvall(self._sock, BYTE_COUNT)
            return length + recvall(self._sock, len_frombytes(length))
        except TimeoutError:
            raise Ended(f"no answer in {PATIENCE:.0f} s") from None
        except ssl.SSLError as error:
            _, alert, name = (error.reason or "").partition("ALERT_")
            raise Ended(f"TLS alert: {name.lower().replace('_', ' ')}" if alert else "TLS broke") from None
        except (OSError, RemoteProtocolError):
            raise Ended("the connection ended without a frame") from None

    def _sealed(self) -> bytes:
        return b"".join(self._protocol.data_to_send())


Connect = Callable[[], Insider]


def ask(connect: Connect) -> str:
    """Send an order, as a good client would."""
    with connect() as insider:
        insider.open()
        insider.send(insider.request())
        return describe(insider.receive())


def flip_bit(connect: Connect) -> str:
    """Flip one bit of an order after TLS, which no cipher can notice."""
    with connect() as insider:
        insider.open()
        frame = insider.request()
        frame[frame.index(b"tea")] ^= 1
        insider.send(frame)
        return describe(insider.receive())


def send_twice(connect: Connect) -> str:
    """Send a good order, and after the reply the same bytes again."""
    with connect() as insider:
        insider.open()
        frame = insider.request()
        insider.send(frame)
        insider.receive()
        insider.send(frame)
        return describe(insider.receive())


def play_again(connect: Connect) -> str:
    """Record a good session after TLS, and send its bytes on a new connection between the same parties."""
    with connect() as recorded:
        recorded.open()
        frame = recorded.request()
        recorded.send(frame)
        recorded.receive()
    with connect() as insider:
        insider.send(recorded.hello + frame)
        answer = insider.receive()
        return describe(insider.receive() if _kind(answer) == Kind.WELCOME else answer)


def exceed_cap(connect: Connect) -> str:
    """Announce a frame that is one byte too long, without sending it."""
    with connect() as insider:
        insider.open()
        insider.send((insider.cap + 1).to_bytes(BYTE_COUNT, "big"))
        return describe(insider.receive())


def send_hostile_pickle(connect: Connect) -> str:
    """Send a correctly sealed pickle that runs a command when it is loaded."""
    with connect() as insider:
        insider.open()
        insider.send(insider.request(HOSTILE.read_bytes()))
        return describe(insider.receive())


@dataclass(frozen=True, kw_only=True)
class Attack:
    """An attack and its expected end."""

    title: str
    run: Callable[[Connect], str]
    """Attacks, and returns how it ended, or raises Ended."""
    config: str = "client"
    """The attacker's configuration file, without its ending."""
    ends: str
    """The beginning of the expected end."""
    good: int = 0
    """The number of good requests in it, which the server must answer."""


ATTACKS = {
    "no-certificate": Attack(
        title="no client certificate", run=ask, config="no-certificate", ends="TLS alert: certificate required"
    ),
    "other-ca": Attack(title="a certificate of another CA", run=ask, config="other-ca", ends="TLS alert: "),
    "stranger": Attack(title="an identity not on the list", run=ask, config="stranger", ends="REJECT 3"),
    "wrong-key": Attack(title="another HMAC key of that id", run=ask, config="wrong-key", ends="REJECT 3"),
    "flipped-bit": Attack(title="a flipped bit behind TLS", run=flip_bit, ends="CLOSE 4"),
    "replayed-frame": Attack(title="a frame sent again", run=send_twice, ends="CLOSE 4", good=1),
    "replayed-session": Attack(title="a recorded session, replayed", run=play_again, ends="CLOSE 4", good=1),
    "over-cap": Attack(title="a frame over the cap", run=exceed_cap, ends="CLOSE 4"),
    "hostile-pickle": Attack(title="a hostile pickle", run=send_hostile_pickle, ends="FAULT 17"),
}


def describe(frame: bytes) -> str:
    """Return a server's frame in words."""
    kind = _kind(frame)
    if kind == Kind.MESSAGE:
        return REPLY
    codes = _CODES.get(Kind(kind))
    if codes is None:
        return kind_name(kind)
    code = int.from_bytes(frame[HEAD.size : -TAG][:2], "big")
    return f"{kind_name(kind)} {code}: {codes(code).name.lower().replace('_', ' ')}"


def main(name: str, host: str, port: str) -> None:
    """Run an attack, and print how it ended."""
    attack = ATTACKS[name]
    try:
        end = attack.run(partial(Insider, host, int(port), Security.from_toml(f"{attack.config}.toml")))
    except Ended as ended:
        end = str(ended)
    print(end)


def _kind(frame: bytes) -> int:
    kind: int = HEAD.unpack_from(frame)[1]
    return kind


if __name__ == "__main__":
    main(*sys.argv[1:])
