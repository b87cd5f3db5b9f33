from __future__ import annotations

import hashlib
import traceback
import warnings
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import ConfigurationError, PeerNotAllowed
from sealwire.pki.authority import create_ca
from sealwire.trust.identity import PeerIdentity, canonical_host, is_dns_name
from support.certificates import Made, make, make_ca, raw_names, tlv, version_1

EMAIL, DNS, URI, IP = 1, 2, 6, 7


def named(*names: tuple[int, bytes]) -> PeerIdentity:
    return PeerIdentity.from_der(make(raw_san=raw_names(*names)).der)


@pytest.fixture(scope="module")
def plain() -> Made:
    return make("client.example", serial=5)


class TestReading:
    def test_every_kind_of_name(self) -> None:
        leaf = create_ca().issue("client.example", "192.0.2.7", "2001:db8::7", "ops@x.example", "spiffe://prod/billing")
        identity = PeerIdentity.from_der(leaf.certificate.public_bytes(Encoding.DER))
        assert identity.dns == ("client.example",)
        assert identity.ip == ("192.0.2.7", "2001:db8::7")
        assert identity.email == ("ops@x.example",)
        assert identity.uri == ("spiffe://prod/billing",)
        assert identity.subject == "CN=client.example"

    def test_facts(self, plain: Made) -> None:
        identity = PeerIdentity.from_der(plain.der)
        assert identity.serial == 5
        assert identity.not_after - identity.not_before == timedelta(days=2)
        assert identity.not_before < datetime.now(UTC) < identity.not_after

    def test_fingerprints_are_those_of_the_bytes_in_the_certificate(self, plain: Made) -> None:
        identity = PeerIdentity.from_der(plain.der)
        spki = plain.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert spki in plain.der
        assert identity.fingerprint == hashlib.sha256(plain.der).hexdigest()
        assert identity.key_fingerprint == hashlib.sha256(spki).hexdigest()

    def test_is_immutable_and_compares_by_value(self, plain: Made) -> None:
        identity = PeerIdentity.from_der(plain.der)
        with pytest.raises(AttributeError):
            identity.dns = ("admin.example",)
        assert identity == PeerIdentity.from_der(plain.der)
        assert hash(identity) == hash(PeerIdentity.from_der(plain.der))

    def test_dns_names_in_lower_case(self) -> None:
        assert named((DNS, b"CLIENT.Example")).dns == ("client.example",)

    def test_lower_case_makes_no_ascii_name_of_another(self) -> None:
        # str.lower() of the Kelvin sign is the letter k.
        identity = named((DNS, "\u212aeeper.example".encode()))
        assert identity.dns == ("\u212aeeper.example",)
        assert not identity.is_named("keeper.example")

    def test_version_1_has_no_names(self) -> None:
        identity = PeerIdentity.from_der(version_1(make_ca()).der)
        assert (identity.dns, identity.uri, identity.ip, identity.email) == ((), (), (), ())
        assert identity.subject == "CN=server.example"

    def test_the_common_name_is_not_a_name(self) -> None:
        identity = PeerIdentity.from_der(make(common_name="client.example").der)
        assert identity.dns == ()
        assert not identity.is_named("client.example")

    @pytest.mark.parametrize(
        "raw",
        [
            raw_names(),
            tlv(0x30, tlv(0xA0, tlv(6, b"\x2a\x03") + tlv(0xA0, tlv(12, b"dns:client.example")))),
            tlv(0x30, tlv(0xA4, tlv(0x30, b""))),
            raw_names((8, b"\x2a\x03")),
        ],
        ids=["nothing", "otherName", "directoryName", "registeredID"],
    )
    def test_names_of_other_kinds_are_none(self, raw: bytes) -> None:
        identity = PeerIdentity.from_der(make(raw_san=raw).der)
        assert (identity.dns, identity.uri, identity.ip, identity.email) == ((), (), (), ())

    def test_a_network_is_not_an_address(self) -> None:
        identity = named((IP, bytes([10, 0, 0, 0, 255, 0, 0, 0])))
        assert identity.ip == ("10.0.0.0/8",)
        assert not identity.is_named("10.0.0.0")
        assert not identity.is_named("10.0.0.1")


def altered(made: Made, old: str, new: str) -> bytes:
    assert made.der.count(bytes.fromhex(old)) >= 1
    return made.der.replace(bytes.fromhex(old), bytes.fromhex(new), 1)


class TestUnreadable:
    """OpenSSL may take what this parser does not; a peer that shows it is refused, with one error of ours."""

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x00\x01",
            raw_names() + b"x",
            raw_names((DNS, b"\xe9.example")),
            raw_names((IP, b"12345")),
            raw_names((IP, bytes([10, 0, 0, 0, 255, 0, 255, 0]))),
            raw_names((15, b"x")),
            tlv(0x30, tlv(0xA3, b"")),
            tlv(0x30, tlv(0x82, b"a")[:-1]),
        ],
        ids=["no sequence", "trailing", "latin-1", "5 octets", "mask with holes", "unknown tag", "x400", "truncated"],
    )
    def test_alternative_names(self, raw: bytes) -> None:
        with pytest.raises(PeerNotAllowed, match="cannot be read"):
            PeerIdentity.from_der(make(raw_san=raw).der)

    def test_the_names_twice(self) -> None:
        # Another extension's identifier (2.5.29.35) becomes that of the alternative names (2.5.29.17).
        twice = altered(make("client.example"), "0603551d23", "0603551d11")
        with pytest.raises(PeerNotAllowed):
            PeerIdentity.from_der(twice)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("a003020102", "a003020100"),
            ("a003020102", "a003020103"),
            ("a003020102", "a003020109"),
            ("020105", "0201f5"),
            ("020105", "020100"),
            ("2a8648ce3d0201", "2a8648ce3d0202"),
            ("2a8648ce3d030107", "2a8648ce3d030199"),
        ],
        ids=["v1 with extensions", "v4", "v10", "serial < 0", "serial 0", "unknown key type", "unknown curve"],
    )
    def test_odd_fields(self, plain: Made, old: str, new: str) -> None:
        with pytest.raises(PeerNotAllowed):
            PeerIdentity.from_der(altered(plain, old, new))

    @pytest.mark.parametrize(("serial", "is_read"), [("020100", False), ("020101", True)])
    def test_serial_numbers_begin_with_1(self, plain: Made, serial: str, is_read: bool) -> None:
        """Also if warnings, such as some versions of the parser have for that, are no errors."""
        der = altered(plain, "020105", serial)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the point: not every program makes errors of them
            if is_read:
                assert PeerIdentity.from_der(der).serial == 1
            else:
                with pytest.raises(PeerNotAllowed):
                    PeerIdentity.from_der(der)

    @pytest.mark.parametrize("cut", [0, 1, 100, -1])
    def test_cut(self, plain: Made, cut: int) -> None:
        with pytest.raises(PeerNotAllowed):
            PeerIdentity.from_der(plain.der[:cut])

    def test_trailing_bytes(self, plain: Made) -> None:
        with pytest.raises(PeerNotAllowed):
            PeerIdentity.from_der(plain.der + b"\0")

    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        with pytest.raises(PeerNotAllowed):
            PeerIdentity.from_der(data)

    @given(data=st.data())
    def test_a_flipped_octet_is_read_or_refused(self, plain: Made, data: st.DataObject) -> None:
        der = bytearray(plain.der)
        der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            identity = PeerIdentity.from_der(bytes(der))
        except PeerNotAllowed:
            return
        assert identity.fingerprint != PeerIdentity.from_der(plain.der).fingerprint

    def test_nothing_of_it_is_in_the_error(self) -> None:
        made = make(raw_san=raw_names((DNS, b"\xe9-of-the-peer.example")))
        with pytest.raises(PeerNotAllowed) as caught:
            PeerIdentity.from_der(made.der)
        assert "of-the-peer" not in "".join(traceback.format_exception(caught.value))


class TestText:
    def test_names_and_fingerprint(self) -> None:
        identity = named((DNS, b"client.example"), (URI, b"spiffe://prod/a"), (IP, bytes([192, 0, 2, 7])))
        expected = f"dns:client.example, uri:spiffe://prod/a, ip:192.0.2.7 (sha256:{identity.fingerprint[:16]}…)"
        assert str(identity) == expected

    def test_of_a_process(self) -> None:
        process = PeerIdentity.of_process(1000, 100, 7)
        assert (process.uid, process.gid, process.pid) == (1000, 100, 7)
        assert str(process) == "uid:1000 gid:100 (process 7)"
        assert process.account != PeerIdentity.of_process(1000, 100, 8).account

    def test_without_names(self) -> None:
        assert str(PeerIdentity.from_der(make().der)).startswith("a certificate without names (sha256:")

    @pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x1b[31m", "a\0b", "a\u202eb", "a\u2028b", "a\x7f"])
    def test_cannot_act_on_a_terminal_or_a_log(self, value: str) -> None:
        identity = named((DNS, value.encode()), (URI, value.encode()), (EMAIL, value.encode()))
        assert str(identity).isprintable()
        assert repr(identity).isprintable()

    def test_is_bounded(self) -> None:
        """At most three names, and 80 characters of each."""
        identity = named(*[(DNS, b"x" * 5000)] * 50)
        assert str(identity) == ", ".join(["dns:" + "x" * 80] * 3) + f" (sha256:{identity.fingerprint[:16]}…)"


class TestHostNames:
    """RFC 9525, section 6.3."""

    @pytest.mark.parametrize(
        ("own", "host"),
        [
            (b"server.example", "server.example"),
            (b"SERVER.example", "server.example"),
            (b"*.b.example", "a.b.example"),
            (b"*.b.example", "xn--bcher-kva.b.example"),
        ],
    )
    def test_named(self, own: bytes, host: str) -> None:
        assert named((DNS, own)).is_named(host)

    @pytest.mark.parametrize(
        ("own", "host"),
        [
            (b"*.example", "b.example"),
            (b"*.b.example", "b.example"),
            (b"*.b.example", ".b.example"),
            (b"*.b.example", "a.a.b.example"),
            (b"*.b.example", "*.b.example"),
            (b"*.b.example", "a_a.b.example"),
            (b"*.b_b.example", "a.b_b.example"),
            (b"s*.b.example", "server.b.example"),
            (b"a.*.example", "a.b.example"),
            (b"*", "server"),
            (b"", ""),
            (b"server.example", ""),
            (b"server.example.", "server.example"),
            (b"server.example\0.evil", "server.example"),
            (b"server.example", "server.example\n"),
            (b"192.0.2.7", "192.0.2.7"),
            (b"*.0.2.7", "192.0.2.7"),
        ],
    )
    def test_not_named(self, own: bytes, host: str) -> None:
        assert not named((DNS, own)).is_named(host)

    def test_addresses(self) -> None:
        identity = named((IP, bytes([192, 0, 2, 7])), (IP, ip_address("2001:db8::7").packed))
        assert identity.is_named("192.0.2.7")
        assert identity.is_named("2001:db8::7")
        assert identity.is_named("2001:0db8:0:0::0007")
        assert not identity.is_named("192.0.2.8")
        assert not identity.is_named("::ffff:192.0.2.7")


class TestCanonicalHost:
    @pytest.mark.parametrize(
        ("host", "canonical"),
        [
            ("Server.Example", "server.example"),
            ("server.example.", "server.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("\u212aeeper.example", "keeper.example"),
            ("my_service", "my_service"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:0DB8::0007", "2001:db8::7"),
            ("fe80::1%eth0", "fe80::1"),
        ],
    )
    def test_form(self, host: str, canonical: str) -> None:
        assert canonical_host(host) == canonical

    @pytest.mark.parametrize(
        "host",
        [
            "", ".", "..", "a..b", ".a", "a b", "a\n", "a\0b", "a/b", "a:443", "*.example", "-a.example", "a-.example",
            "a" * 64, ".".join(["a" * 60] * 5), "user@a", "[::1]", "[server.example]", "::1::", "127.1", "1.2.3.256",
            "2130706433", "\uff11\uff12\uff17.0.0.1", "a.example\u3002.", "\ud800", 5, None, b"server",
        ],
    )  # fmt: skip
    def test_refused(self, host: object) -> None:
        with pytest.raises(ConfigurationError):
            canonical_host(host)

    @given(st.text(max_size=80))
    def test_is_a_fixed_point_in_ascii(self, host: str) -> None:
        try:
            canonical = canonical_host(host)
        except ConfigurationError:
            return
        assert canonical.isascii()
        assert canonical == canonical.lower() == canonical_host(canonical)

    def test_a_dns_name_ends_where_it_ends(self) -> None:
        assert is_dns_name("a.example")
        assert not is_dns_name("a.example\n")


def test_extensions_that_are_not_known_do_not_matter() -> None:
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"whatever")
    assert PeerIdentity.from_der(make("a.example", extensions=[extension]).der).dns == ("a.example",)
