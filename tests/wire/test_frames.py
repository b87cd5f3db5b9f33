import pytest

from sealwire.errors import RemoteProtocolError
from sealwire.wire.frames import Close, Fault, FaultCode, Hello, Welcome, escaped, kind_name, pack_reject, unpack_reject

HELLO = Hello(b"n" * 32, 1184, "k1", "raw", "localhost")
WELCOME = Welcome(b"n" * 32, 1184, "raw")


def with_extensions(*extensions):
    return b"".join(kind.to_bytes(2, "big") + len(v).to_bytes(2, "big") + v for kind, v in extensions)


@pytest.mark.parametrize("frame", [HELLO, WELCOME, Fault(16, "why"), Close(2, 7)])
def test_comes_back(frame):
    assert type(frame).unpack(frame.pack()) == frame


@pytest.mark.parametrize("frame", [HELLO, WELCOME])
def test_the_version_is_read(frame):
    assert type(frame).unpack(frame._replace(version=2).pack()).version == 2


@pytest.mark.parametrize("frame", [HELLO, WELCOME, Close(2, 7)])
def test_every_truncation_and_any_byte_more_is_refused(frame):
    payload = frame.pack()
    for length in range(len(payload)):
        with pytest.raises(RemoteProtocolError):
            type(frame).unpack(payload[:length])
    with pytest.raises(RemoteProtocolError):
        type(frame).unpack(payload + b"x")


@pytest.mark.parametrize("frame", [HELLO, WELCOME])
def test_ascending_extensions_are_kept(frame):
    extensions = with_extensions((1, b"a"), (2, b""), (65535, b"xyz"))
    assert type(frame).unpack(frame._replace(extensions=extensions).pack()).extensions == extensions


@pytest.mark.parametrize("kinds", [(1, 1), (2, 1)])
def test_extensions_out_of_order_are_refused(kinds):
    extensions = with_extensions(*((kind, b"") for kind in kinds))
    with pytest.raises(RemoteProtocolError, match="out of order"):
        Hello.unpack(HELLO._replace(extensions=extensions).pack())


@pytest.mark.parametrize("frame", [HELLO, WELCOME])
def test_max_frame_below_the_least_is_refused(frame):
    with pytest.raises(RemoteProtocolError, match="the minimum is 1184"):
        type(frame).unpack(frame._replace(max_frame=1183).pack())


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "\x7f"])
def test_names_out_of_range_are_refused_and_not_repeated(name):
    for field in ("key_id", "codec"):
        with pytest.raises(RemoteProtocolError) as refused:
            Hello.unpack(HELLO._replace(**{field: name}).pack())
        assert "x" * 65 not in str(refused.value)


def test_server_name_may_be_empty_or_have_spaces_but_must_be_printable():
    assert Hello.unpack(HELLO._replace(server_name="").pack()).server_name == ""
    assert Hello.unpack(HELLO._replace(server_name="a b/c").pack()).server_name == "a b/c"
    with pytest.raises(RemoteProtocolError):
        Hello.unpack(HELLO._replace(server_name="a\n").pack())


def test_fault_text_is_cut_between_characters():
    packed = Fault(19, "ä" * 1000).pack()
    assert len(packed) <= 2 + 1024
    assert Fault.unpack(packed) == Fault(19, "ä" * 512)
    assert Fault.unpack(Fault(19, "a\ud800").pack()).text == "a\\ud800"


def test_fault_text_from_the_peer_is_bounded_utf8_and_escaped():
    with pytest.raises(RemoteProtocolError, match="1025 bytes"):
        Fault.unpack(b"\0\x10" + b"x" * 1025)
    with pytest.raises(RemoteProtocolError, match="not UTF-8"):
        Fault.unpack(b"\0\x10\xff")
    assert Fault.unpack(b"\0\x10a\x1b[2J\n\xe2\x80\xaeb").text == "a\\x1b[2J\\n\\u202eb"


def test_unknown_codes_are_read_as_the_general_one():
    assert Fault.unpack(b"\x7f\xff").code == 19
    assert {code for code in range(1 << 16) if Fault.unpack(code.to_bytes(2, "big")).code == code} == {
        *FaultCode,
        *range(64, 256),
    }
    assert Close.unpack(b"\0\x05" + bytes(8)).code == 4
    assert unpack_reject(b"\0\x09") == 3
    assert [unpack_reject(pack_reject(code)) for code in range(1, 6)] == [1, 2, 3, 4, 5]


def test_reject_has_two_bytes():
    for payload in (b"", b"\0", b"\0\1\0"):
        with pytest.raises(RemoteProtocolError):
            unpack_reject(payload)


def test_names_of_kinds():
    assert kind_name(3) == "MESSAGE"
    assert kind_name(99) == "kind 99"
    assert escaped("plain ä") == "plain ä"


def test_beside_what_must_be_escaped_the_rest_stays():
    assert escaped("ä\\ \n\x1b") == "ä\\ \\n\\x1b"
