"""Envelopes by the vectors, by an independent implementation, and by what each defence is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwire
from pickling import shop
from reference import envelopes
from sealwire import (
    Allowlist,
    Codec,
    ConfigurationError,
    EncodeError,
    EnvelopeContextMismatch,
    EnvelopeError,
    EnvelopeExpired,
    EnvelopeForged,
    EnvelopeKeyUnknown,
    EnvelopeTooLarge,
    Key,
    Keyring,
    TypeNotAllowed,
)
from sealwire.codec import RawCodec
from sealwire.envelope import Envelope, open, seal  # noqa: A004 - its name

VECTORS = json.loads(envelopes.PATH.read_text(encoding="utf-8"))
SECOND = timedelta(seconds=1)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
SECRET = bytes(range(32))
KEYS = Keyring([Key("k1", SECRET)])
CODECS = {"raw": RawCodec(), "pickle-5": Codec()}
CONTEXTS = st.lists(st.text(max_size=3), max_size=3) | st.dictionaries(
    st.text(max_size=3), st.text(max_size=3), max_size=3
)
named = {"ids": lambda case: case["name"]}


def vector_envelope(codec: str, **options: Any) -> Envelope:
    keys = Keyring([Key(VECTORS["key_id"], bytes.fromhex(VECTORS["psk"]))])
    return Envelope(keys, purpose=VECTORS["purpose"], codec=CODECS[codec], **options)


def moment(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


class TestVectors:
    def test_file_is_what_the_generator_writes(self) -> None:
        assert envelopes.PATH.read_text(encoding="utf-8") == envelopes.rendered()

    @pytest.mark.parametrize("case", VECTORS["opened"], **named)
    def test_opens(self, case: dict[str, Any]) -> None:
        found = vector_envelope(case["codec"]).open(
            bytes.fromhex(case["envelope"]), context=case["context"], now=moment(case["not_after"])
        )
        assert found == CODECS[case["codec"]].decode(bytes.fromhex(case["payload"]))

    @pytest.mark.parametrize("case", VECTORS["refused"], **named)
    def test_is_refused(self, case: dict[str, Any]) -> None:
        first = VECTORS["opened"][0]
        with pytest.raises(EnvelopeError) as caught:
            vector_envelope("raw", max_size=1024).open(
                bytes.fromhex(case["envelope"]), context=first["context"], now=moment(first["not_after"])
            )
        assert type(caught.value) is getattr(sealwire, case["error"])

    def test_every_error_has_a_vector(self) -> None:
        kinds = {kind.__name__ for kind in EnvelopeError.__subclasses__()}
        assert kinds == {case["error"] for case in VECTORS["refused"]}

    @given(payload=st.binary(max_size=40), context=CONTEXTS)
    def test_an_independent_implementation_opens_what_is_sealed(
        self, payload: bytes, context: list[str] | dict[str, str]
    ) -> None:
        sealed = Envelope(KEYS, purpose="p", codec=RawCodec()).seal(payload, lifetime=1, context=context, now=NOW)
        now = int(NOW.timestamp() * 1000) + 1000
        assert envelopes.opened(sealed, {"k1": SECRET}, "p", "raw", context, now) == payload


class TestWhatIsBound:
    @given(one=CONTEXTS, other=CONTEXTS, purposes=st.tuples(st.sampled_from("ab"), st.sampled_from("ab")))
    def test_only_the_same_context_and_purpose_open(self, one: Any, other: Any, purposes: tuple[str, str]) -> None:
        sealed = seal(1, KEYS, purpose=purposes[0], lifetime=60, context=one)
        if (purposes[0], one) == (purposes[1], other):
            assert open(sealed, KEYS, purpose=purposes[1], context=other) == 1
        else:
            with pytest.raises(EnvelopeContextMismatch):
                open(sealed, KEYS, purpose=purposes[1], context=other)

    def test_a_string_is_a_list_of_one_and_mappings_have_no_order(self) -> None:
        envelope = Envelope(KEYS, purpose="p")
        assert envelope.open(envelope.seal(1, lifetime=9, context="ab"), context=["ab"]) == 1
        data = envelope.seal(1, lifetime=9, context={"a": "1", "b": "2"})
        assert envelope.open(data, context=OrderedDict(b="2", a="1")) == 1

    def test_a_pickle_is_not_opened_as_raw_bytes(self) -> None:
        with pytest.raises(EnvelopeContextMismatch):
            open(seal(b"x", KEYS, purpose="p", lifetime=9), KEYS, purpose="p", codec=RawCodec())

    def test_every_bit_is_authenticated(self) -> None:
        envelope = Envelope(KEYS, purpose="p")
        good = envelope.seal("tea", lifetime=9)
        for bit in range(len(good) * 8):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            with pytest.raises(EnvelopeError):
                envelope.open(bad)
        for size in range(len(good)):
            with pytest.raises(EnvelopeError):
                envelope.open(good[:size])

    def test_no_two_envelopes_are_alike(self) -> None:
        envelope = Envelope(KEYS, purpose="p")
        sealed = [envelope.seal("tea", lifetime=9, now=NOW) for _ in range(100)]
        assert len({data[12:44] for data in sealed}) == 100
        assert len({data[-16:] for data in sealed}) == 100

    def test_frames_keys_open_no_envelope(self) -> None:
        """Domain separation: the labels of all keys that are derived from one secret differ."""
        source = (Path(sealwire.__file__).parent / "wire" / "keys.py").read_text()
        labels = [part.split('"')[0] for part in source.split('b"sealwire/1 ')[1:]]
        assert sorted(labels) == ["client to server", "envelope", "hello", "server to client"]


class TestTime:
    def test_an_envelope_ends_30_seconds_after_its_end_at_the_latest(self) -> None:
        envelope = Envelope(KEYS, purpose="p")
        data = envelope.seal(1, lifetime=10.0004, now=NOW)  # rounded up
        assert envelope.open(data, now=NOW + 40.001 * SECOND) == 1
        with pytest.raises(EnvelopeExpired):
            envelope.open(data, now=NOW + 40.002 * SECOND)

    def test_the_clock_is_the_default(self) -> None:
        envelope = Envelope(KEYS, purpose="p")
        assert envelope.open(envelope.seal(1, lifetime=9)) == 1
        with pytest.raises(EnvelopeExpired):
            envelope.open(envelope.seal(1, lifetime=9, now=datetime.now(UTC) - 60 * SECOND))

    @pytest.mark.parametrize("lifetime", [0, -1, True, "60", None, float("nan"), float("inf"), 36_525 * 86_400 + 1])
    def test_lifetimes_that_are_none(self, lifetime: Any) -> None:
        with pytest.raises(ConfigurationError, match="lifetime must be a number of seconds above 0"):
            seal(1, KEYS, purpose="p", lifetime=lifetime)

    @pytest.mark.parametrize("now", [datetime(2026, 1, 1), 5])
    def test_moments_that_are_none(self, now: Any) -> None:
        with pytest.raises(ConfigurationError, match="UTC offset"):
            Envelope(KEYS, purpose="p").seal(1, lifetime=1, now=now)


class TestKeys:
    def test_rotation(self) -> None:
        old = Key("old", SECRET, not_after=NOW + 100 * SECOND)
        new = Key("new", bytes(32), not_before=NOW + 50 * SECOND)
        before, both, after = (Envelope(Keyring(keys), purpose="p") for keys in ([old], [old, new], [new]))
        assert both.open(before.seal(1, lifetime=50, now=NOW), now=NOW + 50 * SECOND) == 1
        sealed = both.seal(2, lifetime=9, now=NOW + 50 * SECOND)
        assert after.open(sealed, now=NOW + 50 * SECOND) == 2, "the newest valid key seals"
        assert both.open(sealed, now=NOW + 20 * SECOND) == 2, "by a clock that is 30 seconds behind"
        for now in (NOW + 19 * SECOND, NOW - 9 * SECOND):
            with pytest.raises(EnvelopeKeyUnknown, match="not valid now"):
                both.open(sealed, now=now)

    def test_an_expired_key_opens_nothing(self) -> None:
        envelope = Envelope(Keyring([Key("old", SECRET, not_after=NOW)]), purpose="p")
        data = envelope.seal(1, lifetime=1, now=NOW - SECOND)
        assert envelope.open(data, now=NOW) == 1
        with pytest.raises(EnvelopeKeyUnknown, match=r"<Key 'old'.*not valid now"):
            envelope.open(data, now=NOW + SECOND)

    def test_no_envelope_outlives_its_key(self) -> None:
        envelope = Envelope(Keyring([Key("old", SECRET, not_after=NOW + 60 * SECOND)]), purpose="p")
        envelope.seal(1, lifetime=60, now=NOW)
        with pytest.raises(ConfigurationError, match=r"key 'old' ends at .* before the envelope would"):
            envelope.seal(1, lifetime=60.001, now=NOW)

    def test_another_key_of_the_same_id_opens_nothing(self) -> None:
        with pytest.raises(EnvelopeForged):
            open(seal(1, KEYS, purpose="p", lifetime=9), Keyring([Key("k1", bytes(32))]), purpose="p")

    def test_a_key_that_is_bound_to_an_identity_is_not_used(self) -> None:
        bound = Key("k1", SECRET, identity="dns:client.example")
        with pytest.raises(EnvelopeKeyUnknown, match=r"'k1' is bound to dns:client\.example"):
            open(seal(1, KEYS, purpose="p", lifetime=9), Keyring([bound]), purpose="p")
        with pytest.raises(ConfigurationError, match="every key of the keyring is bound to an identity"):
            seal(1, Keyring([bound]), purpose="p", lifetime=9)
        both = Envelope(Keyring([Key("k0", bytes(32)), bound]), purpose="p")
        assert both.open(both.seal(1, lifetime=9)) == 1, "under the other key"

    def test_files_are_followed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when an envelope under a key that is not known yet comes within the second between two looks."""
        path = tmp_path / "keyring.toml"

        def write(*lines: str) -> None:
            text = "".join(f"[[key]]\n{line}\n" for line in lines)
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").chmod(0o600)
            os.utime(tmp_path / "new", (1, 1))  # long complete
            (tmp_path / "new").replace(path)

        monkeypatch.setattr("sealwire.trust.reloading._settled", lambda contents: True)
        first, second = (f'id = "{name}"\nsecret = "{letter * 43}="' for name, letter in (("k1", "A"), ("k2", "I")))
        write(first)
        envelope = Envelope(Keyring.from_file(path), purpose="p")
        data = envelope.seal(1, lifetime=9)
        newer = Envelope(Keyring.from_toml(f"[[key]]\n{second}"), purpose="p").seal(2, lifetime=9)
        write(first, second)
        assert envelope.open(newer) == 2
        write('id = "k1"\nrevoked = true', second)
        envelope._keys.reload()
        with pytest.raises(EnvelopeKeyUnknown, match="not in the keyring, or is revoked"):
            envelope.open(data)


class TestValues:
    def test_only_types_on_the_allowlist(self) -> None:
        mine = Envelope(KEYS, purpose="p", codec=Codec(Allowlist(shop.Money)))
        money = shop.Money(Decimal("1.50"))
        data = mine.seal(money, lifetime=9)
        assert mine.open(data) == money
        with pytest.raises(TypeNotAllowed):
            open(data, KEYS, purpose="p")
        with pytest.raises(EncodeError):
            seal(money, KEYS, purpose="p", lifetime=9)

    def test_nothing_is_decoded_before_all_else_is_right(self) -> None:
        seen: list[object] = []

        class Watched(Codec):
            def decode(self, data: Any) -> Any:
                seen.append(data)
                return super().decode(data)

        envelope = Envelope(KEYS, purpose="p", codec=Watched())
        good = envelope.seal(1, lifetime=9, context="a")
        late = envelope.seal(1, lifetime=9, context="a", now=NOW)
        attempts: list[Callable[[], Any]] = [
            lambda: envelope.open(good[:-1] + bytes((good[-1] ^ 1,)), context="a"),
            lambda: envelope.open(good, context="b"),
            lambda: envelope.open(late, context="a", now=NOW + 90 * SECOND),
        ]
        for attempt in attempts:
            with pytest.raises(EnvelopeError):
                attempt()
        assert not seen
        assert envelope.open(good, context="a") == 1
        assert len(seen) == 1

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_buffers(self, kind: Any) -> None:
        assert open(kind(seal([1], KEYS, purpose="p", lifetime=9)), KEYS, purpose="p") == [1]

    def test_size(self) -> None:
        envelope = Envelope(KEYS, purpose="p", codec=RawCodec(), max_size=93 + 2 + 5)
        assert envelope.open(envelope.seal(b"hello", lifetime=9)) == b"hello"
        with pytest.raises(EnvelopeTooLarge, match="101 bytes; max_size is 100"):
            envelope.seal(b"hello!", lifetime=9)
        with pytest.raises(EnvelopeTooLarge):
            envelope.open(bytes(101))

    def test_size_by_default_is_that_of_the_codec(self) -> None:
        small = Envelope(KEYS, purpose="p", codec=Codec(limits=sealwire.Limits(max_frame=2000)))
        with pytest.raises(EnvelopeTooLarge, match="max_size is 2000"):
            small.open(bytes(2001))


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"keys": [Key("k1", SECRET)]}, "an envelope takes a Keyring"),
            ({"purpose": ""}, "needs a purpose"),
            ({"purpose": None}, "needs a purpose"),
            ({"purpose": "\ud800"}, "the purpose has a lone surrogate"),
            ({"codec": Codec}, "codec must be"),
            ({"max_size": 0}, "max_size must be a whole number"),
            ({"max_size": True}, "max_size must be a whole number"),
            ({"max_size": 2**31}, "max_size must be a whole number"),
        ],
    )
    def test_what_an_envelope_is_made_of(self, options: dict[str, Any], why: str) -> None:
        arguments = {"keys": KEYS, "purpose": "p"} | options
        with pytest.raises(ConfigurationError, match=why):
            Envelope(arguments.pop("keys"), **arguments)

    @pytest.mark.parametrize("context", [None, 5, b"x", [b"x"], {"a": 1}, {1: "a"}, {"a"}, iter("ab"), [("a", "b")]])
    def test_contexts_that_are_none(self, context: Any) -> None:
        for attempt in (
            lambda: seal(1, KEYS, purpose="p", lifetime=9, context=context),
            lambda: open(b"", KEYS, purpose="p", context=context),
        ):
            with pytest.raises(ConfigurationError, match="the context must be a str, a list or tuple of str"):
                attempt()
        with pytest.raises(ConfigurationError, match="the context has a lone surrogate"):
            seal(1, KEYS, purpose="p", lifetime=9, context="\ud800")

    @pytest.mark.parametrize("data", ["SWE", None, 5, [b"SWE"]])
    def test_what_is_not_data(self, data: Any) -> None:
        with pytest.raises(TypeError, match="must be bytes, bytearray or memoryview"):
            open(data, KEYS, purpose="p")

    def test_nothing_secret_is_shown(self) -> None:
        envelope = Envelope(KEYS, purpose="p")
        assert repr(envelope) == "<Envelope for 'p', <Keyring 'k1', secrets redacted>, Codec(Allowlist())>"

    def test_it_is_light(self) -> None:
        code = "import sys, sealwire.envelope; assert not {'asyncio', 'celery', 'redis'} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)
