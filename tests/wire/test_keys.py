import hmac
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import ConfigurationError
from sealwire.wire.keys import Binding, Key, Mac, envelope_key

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_repr_has_no_secret():
    key = Key("k1", b"\x01secret" * 8, not_after=NOW, identity="dns:a.example")
    assert "secret" not in repr(key).replace("secret redacted", "")
    assert "k1" in repr(key)
    assert "dns:a.example" in repr(key)


def test_immutable_and_a_copy():
    secret = bytearray(b"x" * 32)
    key = Key("k1", secret)
    secret[0] = 0
    assert key.secret == b"x" * 32
    with pytest.raises(AttributeError):
        key.id = "k2"


@pytest.mark.parametrize("id_", ["", "a b", "ä", "x" * 65, "a\n", 7])
def test_bad_id(id_):
    with pytest.raises(ConfigurationError, match="id must be"):
        Key(id_, b"x" * 32)


def test_short_secret():
    with pytest.raises(ConfigurationError, match="31 bytes and needs at least 32"):
        Key("k1", b"x" * 31)


def test_a_passphrase_is_not_a_secret():
    with pytest.raises(ConfigurationError, match="must be bytes, not str"):
        Key("k1", "correct horse battery staple, correct horse")


def test_naive_time():
    with pytest.raises(ConfigurationError, match="not_before must be a date and time with an offset from UTC"):
        Key("k1", b"x" * 32, not_before=datetime(2026, 1, 1))


def test_life_must_not_be_empty():
    with pytest.raises(ConfigurationError, match="later than not_before"):
        Key("k1", b"x" * 32, not_before=NOW, not_after=NOW)


@pytest.mark.parametrize("identity", ["", 7])
def test_bad_identity(identity):
    with pytest.raises(ConfigurationError, match="identity must be"):
        Key("k1", b"x" * 32, identity=identity)


def test_valid_at():
    key = Key("k1", b"x" * 32, not_before=NOW, not_after=NOW + timedelta(days=1))
    assert [key.valid_at(NOW + timedelta(hours=h)) for h in (-1, 0, 24, 25)] == [False, True, True, False]
    assert Key("k2", b"x" * 32).valid_at(NOW)


def test_binding_of_nobody_is_zero():
    assert Binding.of(server=None, client=None) == Binding() == (bytes(32), bytes(32))


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300), st.integers(0, 300))
def test_mac_is_the_standard_librarys(key, message, cut):
    mac = Mac(key)
    expected = hmac.digest(key, message, "sha256")
    assert mac.tag(message) == expected
    running = mac.begin()
    running.update(message[:cut])
    running.update(message[cut:])
    assert mac.finish(running) == expected


def test_mac_cannot_be_pickled():
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(Mac(b"x" * 32))


def test_key_cannot_be_pickled():
    with pytest.raises(TypeError, match="holds a secret"):
        pickle.dumps(Key("k1", b"x" * 32))


def test_the_key_of_an_envelope_is_none_of_a_connection():
    """docs/envelope.md, section Key; RFC 5869 with one block of output."""
    psk, salt = bytes(range(32)), bytes(range(32, 64))
    extracted = hmac.digest(salt, psk, "sha256")
    assert envelope_key(psk, salt) == hmac.digest(extracted, b"sealwire/1 envelope\x01", "sha256")
