"""The protocol without one of its fields: left out of the key schedule, or of what is tagged.

Each mutant is the library with a few functions of `sealwire.wire` replaced in this process, at both ends. In those of
LEFT_OUT the attacker must break a promise; those of REDUNDANT leave one of two places out, and the other one holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from sealwire.wire import frames, keys
from sealwire.wire.frames import HEAD, NONCE, Hello, Kind, Welcome
from sealwire.wire.keys import Binding, Mac, TrafficKeys

_HANDSHAKE = (Kind.HELLO, Kind.WELCOME)


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Mutant:
    """A protocol in which something is left out.

    Attributes:
        tagged: returns what is tagged of a frame without its tag.
        hashed: returns what goes into the log of a HELLO or WELCOME without its tag; by default the same.
        hello_binding, binding: return the binding that goes into the key of HELLO, and into the traffic keys.
        salt: returns the two nonces of the salt.
        secret: returns the pre-shared key that is used.
        log: False if the log is left out of the traffic keys.
        directions: False if both have the same key.
        patches: further replacements, by name.
    """

    tagged: Callable[[bytes], bytes] = _same
    hashed: Callable[[bytes], bytes] | None = None
    hello_binding: Callable[[Binding], Binding] = _same
    binding: Callable[[Binding], Binding] = _same
    salt: Callable[[bytes, bytes], tuple[bytes, bytes]] = lambda *nonces: nonces
    secret: Callable[[bytes], bytes] = _same
    log: bool = True
    directions: bool = True
    patches: tuple[tuple[str, Any], ...] = ()


class _PartMac(Mac):
    """A MAC of a part of what it is given."""

    __slots__ = ("_part",)

    def __init__(self, mac: Mac, part: Callable[[bytes], bytes]) -> None:
        self._inner, self._outer = mac.blocks
        self._part = part

    def tag(self, signed: bytes | memoryview) -> bytes:
        return super().tag(self._part(bytes(signed)))

    def begin(self) -> Any:
        return bytearray_with_update()

    def finish(self, inner: Any) -> bytes:
        return self.tag(inner)


class bytearray_with_update(bytearray):  # noqa: N801 - it takes a hash's place
    update = bytearray.extend


def _zeroed(start: int, stop: int) -> Callable[[bytes], bytes]:
    """Leave a field of the header out."""
    return lambda frame: frame[:start] + bytes(stop - start) + frame[stop:]


def _without(name: str, value: object, kinds: tuple[Kind, ...] = _HANDSHAKE) -> Callable[[bytes], bytes]:
    """Leave a field of HELLO or WELCOME out."""

    def part(frame: bytes) -> bytes:
        if frame[4] not in kinds:
            return frame
        fields = (Hello if frame[4] == Kind.HELLO else Welcome).unpack(frame[HEAD.size :])
        if name not in fields._fields:
            return frame
        return frame[4 : HEAD.size] + fields._replace(**{name: value}).pack()

    return part


_no_nonce = _zeroed(HEAD.size + 1, HEAD.size + 1 + NONCE)


def _without_nonce(kind: Kind) -> Callable[[bytes], bytes]:
    return lambda frame: _no_nonce(frame) if frame[4] == kind else frame


class _Both(int):
    """A version that counts as 1 and as 2, for peers that speak both."""

    def __eq__(self, other: object) -> bool:
        return other in (1, 2)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


_TWO_VERSIONS = (("sealwire.wire.handshake.VERSION", _Both(1)),)

LEFT_OUT = {
    "client nonce": Mutant(_without_nonce(Kind.HELLO), salt=lambda client, server: (b"", server)),
    "server nonce": Mutant(_without_nonce(Kind.WELCOME), salt=lambda client, server: (client, b"")),
    "server's certificate": Mutant(
        hello_binding=lambda binding: binding._replace(server=b""), binding=lambda binding: binding._replace(server=b"")
    ),
    "client's certificate": Mutant(
        hello_binding=lambda binding: binding._replace(client=b""), binding=lambda binding: binding._replace(client=b"")
    ),
    "certificates, in the key of HELLO": Mutant(hello_binding=lambda _: Binding()),
    "pre-shared key": Mutant(secret=lambda _: b"x" * 32),
    "identity of a key": Mutant(patches=(("sealwire.trust.key_snapshot.may_use", lambda key, identity: True),)),
    "server name": Mutant(_without("server_name", "x")),
    "key id": Mutant(_without("key_id", "x")),
    "codec": Mutant(_without("codec", "x")),
    "max_frame of HELLO": Mutant(_without("max_frame", 1184, (Kind.HELLO,))),
    "max_frame of WELCOME": Mutant(_without("max_frame", 1184, (Kind.WELCOME,))),
    "extensions of HELLO": Mutant(_without("extensions", b"", (Kind.HELLO,))),
    "extensions of WELCOME": Mutant(_without("extensions", b"", (Kind.WELCOME,))),
    "version": Mutant(_without("version", 1), patches=_TWO_VERSIONS),
    "direction": Mutant(directions=False),
    "kind": Mutant(_zeroed(4, 5)),
    "flags": Mutant(_zeroed(5, 6)),
    "wait": Mutant(_zeroed(6, 8)),
    "sequence": Mutant(_zeroed(8, 16)),
    "reply_to": Mutant(_zeroed(16, 24)),
    "payload": Mutant(lambda frame: frame if frame[4] in _HANDSHAKE else frame[: HEAD.size]),
}
"""The attacker finds the flaw in each of them."""

REDUNDANT = {
    "length, of the tag": Mutant(_zeroed(0, 4)),
    "nonces, of the salt": Mutant(salt=lambda *_: (b"", b"")),
    "nonces, of the log": Mutant(hashed=_no_nonce),
    "certificates, of the traffic keys": Mutant(binding=lambda _: Binding()),
    "log": Mutant(log=False),
    "version, while there is one": Mutant(_without("version", 1)),
}
"""The attacker finds nothing: what is left out is protected in another place, too."""


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Run the library with something left out, and without the native core, which knows the tag by itself."""

    def hello_mac(secret: bytes, binding: Binding) -> Mac:
        return _PartMac(keys.hello_mac(mutant.secret(secret), mutant.hello_binding(binding)), mutant.tagged)

    def traffic_keys(secret: bytes, *, client_nonce: bytes, server_nonce: bytes, binding: Binding, log: bytes) -> Any:
        client, server = mutant.salt(client_nonce, server_nonce)
        made = keys.traffic_keys(
            mutant.secret(secret), client_nonce=client, server_nonce=server, binding=mutant.binding(binding),
            log=log if mutant.log else b"",
        )  # fmt: skip
        c2s, s2c = (_PartMac(mac, mutant.tagged) for mac in made)
        return TrafficKeys(c2s, s2c if mutant.directions else c2s)

    def transcript(hello: bytes, untagged_welcome: bytes) -> bytes:
        part = mutant.hashed or mutant.tagged
        return keys.transcript(part(hello[: -frames.TAG]) + hello[-frames.TAG :], part(untagged_welcome))

    replaced = {each.__name__: each for each in (hello_mac, traffic_keys, transcript)}
    with ExitStack() as stack:
        for module in ("sealing", "frame_reader"):
            stack.enter_context(patch(f"sealwire.wire.{module}.NATIVE", False))
        for name, function in replaced.items():
            stack.enter_context(patch(f"sealwire.wire.handshake.{name}", function))
        for name, value in mutant.patches:
            stack.enter_context(patch(name, value))
        yield
