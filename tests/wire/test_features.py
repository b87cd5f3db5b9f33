"""The extensions that offer features and take them up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import RemoteProtocolError
from sealwire.wire.features import NO_FEATURES, Features, extension_types
from sealwire.wire.frames import Flag
from support.wire import client, established, feed, sent, server

ALL = Features(metadata=True, cancel=True, window=65_536)
SERVERS = ALL._replace(window=32_768, at_once=8)
FEATURES = st.builds(Features, st.booleans(), st.booleans(), st.just(0) | st.integers(1, 2**32 - 1), st.just(0))


def extension(kind: int, value: bytes = b"") -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def test_no_features_take_no_bytes() -> None:
    assert NO_FEATURES.pack() == b""
    assert Features.unpack(b"", from_client=True) == Features.unpack(b"", from_client=False) == NO_FEATURES


def test_the_bytes_of_all_features() -> None:
    packed = extension(16) + extension(17) + extension(18, b"\0\0\x80\0\0\x08")
    assert SERVERS.pack() == packed
    assert Features.unpack(packed, from_client=False) == SERVERS
    assert extension_types(packed) == {16, 17, 18}


@given(FEATURES, st.integers(1, 65_535))
def test_they_come_back(features: Features, at_once: int) -> None:
    assert Features.unpack(features.pack(), from_client=True) == features
    if features.parts:
        features = features._replace(at_once=at_once)
    assert Features.unpack(features.pack(), from_client=False) == features


def test_other_types_are_ignored() -> None:
    packed = extension(1, b"one") + extension(15) + extension(17) + extension(19, b"x" * 300)
    assert Features.unpack(packed, from_client=True) == Features(cancel=True)


WRONG = {
    "metadata with a value": extension(16, b"x"),
    "cancel with a value": extension(17, b"x"),
    "parts without a value": extension(18),
    "parts of 5 bytes": extension(18, bytes(3) + b"\1\0"),
    "parts of 7 bytes": extension(18, bytes(3) + b"\1\0\0\0"),
    "window of 0": extension(18, bytes(6)),
}


@pytest.mark.parametrize("packed", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("from_client", [True, False])
def test_values_out_of_range(packed: bytes, from_client: bool) -> None:
    with pytest.raises(RemoteProtocolError, match="out of range"):
        Features.unpack(packed, from_client=from_client)


def test_at_once_is_the_servers_alone() -> None:
    for from_client, at_once in ((True, 1), (False, 0)):
        with pytest.raises(RemoteProtocolError, match="out of range"):
            Features.unpack(ALL._replace(at_once=at_once).pack(), from_client=from_client)


def test_agreed_is_what_both_have_with_the_parameters_of_one() -> None:
    assert SERVERS.agreed(ALL) == SERVERS
    assert ALL.agreed(SERVERS) == ALL
    assert SERVERS.agreed(NO_FEATURES) == NO_FEATURES.agreed(SERVERS) == NO_FEATURES
    assert SERVERS.agreed(Features(metadata=True)) == Features(metadata=True)
    assert SERVERS.without_parts == Features(metadata=True, cancel=True)


def test_flags_of_each_side() -> None:
    assert SERVERS.flags(of_client=True) == Flag.METADATA | Flag.PARTS | Flag.UPLOAD
    assert SERVERS.flags(of_client=False) == Flag.METADATA
    assert Features(cancel=True).flags(of_client=True) == 0
    assert Features(window=1).flags(of_client=True) == Flag.PARTS | Flag.UPLOAD


# In the handshake


@given(FEATURES, FEATURES, st.integers(1, 65_535))
def test_a_handshake_agrees_on_what_both_have(offered: Features, had: Features, at_once: int) -> None:
    had = had._replace(at_once=at_once if had.parts else 0)
    c, s = established(client_features=offered, server_features=had)
    assert c.features == had.agreed(offered)
    assert s.features == offered.agreed(had)
    assert c.connection_id == s.connection_id
    assert len(bytes.fromhex(c.connection_id)) == 4


def test_neither_an_offer_nor_an_answer_is_needed() -> None:
    plain = sent(client())
    for had in (NO_FEATURES, SERVERS):
        s = server(features=had)
        feed(s, plain)
        assert s.features == NO_FEATURES
        bare = server()
        feed(bare, plain)
        assert sent(s) == sent(bare)
    c, s = established(client_features=ALL)
    assert (c.features, s.features) == (NO_FEATURES, NO_FEATURES)


@pytest.mark.parametrize("tag", [True, False], ids=["right tag", "wrong tag"])
@pytest.mark.parametrize("had", [NO_FEATURES, SERVERS], ids=["without", "with"])
@pytest.mark.parametrize("offer", [*WRONG.values(), ALL._replace(at_once=1).pack()], ids=[*WRONG, "at_once of 1"])
def test_a_wrong_offer_gets_no_answer(offer: bytes, had: Features, tag: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Features, "pack", lambda _: offer)
    hello = sent(client())
    monkeypatch.undo()
    s = server(features=had)
    with pytest.raises(RemoteProtocolError, match="a feature with a value out of range"):
        feed(s, hello if tag else hello[:-1] + bytes((hello[-1] ^ 1,)))
    assert sent(s) == b""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        *((packed, "out of range") for packed in WRONG.values()),
        (ALL.pack(), "out of range"),  # at_once of 0
        (extension(16) + extension(19), "did not offer"),
    ],
    ids=[*WRONG, "at_once of 0", "type not offered"],
)
def test_a_client_refuses_a_wrong_answer(answer: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    c, s = client(features=ALL), server(features=SERVERS)
    hello = sent(c)
    monkeypatch.setattr(Features, "pack", lambda _: answer)
    feed(s, hello)
    monkeypatch.undo()
    with pytest.raises(RemoteProtocolError, match=says):
        feed(c, sent(s))
    assert sent(c) == b""


def test_a_feature_that_was_not_offered_is_not_taken_up() -> None:
    """Neither by our server, nor by a client that another server gives it to."""
    c, s = client(features=Features(metadata=True)), server(features=SERVERS)
    feed(s, sent(c))
    assert s.features == Features(metadata=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Features, "agreed", lambda self, _: self)
        other = server(features=SERVERS)
        feed(other, sent(client(features=Features(metadata=True))))
    with pytest.raises(RemoteProtocolError, match="did not offer"):
        feed(c, sent(other))
