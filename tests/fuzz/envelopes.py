"""Envelopes: what was not sealed does not open, a holder's payload is vetted, and a context opens nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fuzz.harness import Source, refusal
from pickling.values import same
from sealwire.codec import Codec
from sealwire.envelope import Context, Envelope
from sealwire.errors import DecodeError, EnvelopeContextMismatch, EnvelopeError, EnvelopeExpired
from sealwire.limits import Limits
from sealwire.trust.keyring import Keyring
from sealwire.wire.keys import Key, envelope_key

RUNS = 4_000
SECRET = bytes(range(32))
PURPOSE = "fuzzing"
MAX_SIZE = 2000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(max_depth=20, max_nodes=5000, max_memory=1 << 22, max_expanded_nodes=20_000)


@cache
def envelope() -> Envelope:
    keys = Keyring([Key("k1", SECRET), Key("bound", SECRET, identity="dns:client.example")])
    return Envelope(keys, purpose=PURPOSE, codec=Codec(limits=LIMITS), max_size=MAX_SIZE)


def context_of(source: Source) -> Context:
    texts = [source.block(3).decode("latin-1") for _ in range(source.number(3))]
    match source.number(2):
        case 0:
            return texts
        case 1:
            return dict(zip(texts[::2], texts[1::2], strict=False))
        case _:
            return texts[0] if texts else ()


def meaning(context: Context) -> Any:
    """Return the context in a form that is equal for contexts that mean the same."""
    if isinstance(context, dict):
        return "mapping", frozenset(context.items())
    return "sequence", (context,) if isinstance(context, str) else tuple(context)


def raw(source: Source) -> None:
    """Bytes as a carrier gives them: none of them was sealed."""
    data = b"SWE\1" * source.number(1) + source.rest()
    error = refusal(EnvelopeError, of=lambda: envelope().open(data, now=NOW))
    assert error is not None, "bytes that nobody sealed were opened"


def of_holder(source: Source) -> None:
    """An envelope that a holder of the key has made, of a payload of its choice: vetted like any message."""
    end = source.number(2**64 - 1, source.choice(8, 6, 5))
    key_id = source.choice(b"k1", b"k1", b"bound", source.block(70))
    header = b"SWE\1" + end.to_bytes(8) + bytes(32) + bytes((len(key_id) % 256,)) + key_id
    # docs/envelope.md, section 3: an empty sequence of texts as the context
    parts = [PURPOSE.encode(), envelope().codec.name.encode()]
    scope = b"\0" + len(parts).to_bytes(4) + b"".join(len(part).to_bytes(4) + part for part in parts)
    binding = sha256(scope + bytes(5)).digest()
    payload = source.rest()
    data = header + AESGCM(envelope_key(SECRET, bytes(32))).encrypt(bytes(12), binding + payload, header)
    opened: list[Any] = []
    error = refusal(EnvelopeError, DecodeError, of=lambda: opened.append(envelope().open(data, now=NOW)))
    too_late = end + 30_000 < NOW.timestamp() * 1000
    if error is None:
        assert (len(data) <= MAX_SIZE, key_id, too_late) == (True, b"k1", False)
        assert same(opened[0], envelope().codec.decode(payload))
    elif isinstance(error, EnvelopeExpired):
        assert too_late
    else:
        assert not isinstance(error, DecodeError) or not too_late, "a payload was decoded after its end"


def contexts(source: Source) -> None:
    """An envelope opens in its own context, and in no other."""
    own, other = context_of(source), context_of(source)
    value = source.block().decode("latin-1")
    data = envelope().seal(value, lifetime=60, context=own, now=NOW)
    assert envelope().open(data, context=own, now=NOW) == value
    error = refusal(EnvelopeContextMismatch, of=lambda: envelope().open(data, context=other, now=NOW))
    assert (error is None) is (meaning(own) == meaning(other)), (own, other)
    changed = bytearray(data)
    changed[source.number(len(data) - 1, 2)] ^= 1 + source.number(254)
    assert refusal(EnvelopeError, of=lambda: envelope().open(changed, context=own, now=NOW)) is not None


def one(data: bytes) -> None:
    source = Source(data)
    source.choice(raw, of_holder, contexts)(source)


def SEEDS() -> list[bytes]:
    sealed = [b"\0\0" + b"SWE\1" + bytes(40) + b"\2k1" + bytes(48), b"\0\1" + bytes(100)]
    payloads = [envelope().codec.encode(value) for value in ("text", {"a": [1, 2.5, None]}, (b"x" * 50, {1, 2}))]
    later = int(NOW.timestamp() * 1000 + 1000).to_bytes(8)
    held = [b"\1\0" + later + key + payload for payload in payloads for key in (b"\0", b"\2", b"\3\2k1")]
    placed = [b"\2" + bytes(20), b"\2\2\1a\1b\1\2\1a\1b\0\1x", b"\2\1\2ab\0\2\1a\1b\0\5hello\7\x10"]
    return [*sealed, *held, *placed]
