from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtensionOID, NameOID

from sealwire.errors import ConfigurationError
from sealwire.pki.pem import read_crls
from sealwire.trust.certificates import Certificates
from sealwire.trust.contexts import client_context, server_context
from sealwire.trust.revocation import Revocations, canonical_name, deciding_lists
from support.certificates import HOST, Files, Handshake, Made, PrivateKey, make, make_ca, make_crl, tlv

HOUR = timedelta(hours=1)
NO_RESTRICTION: dict[str, Any] = {
    "full_name": None,
    "relative_name": None,
    "only_contains_user_certs": False,
    "only_contains_ca_certs": False,
    "only_some_reasons": None,
    "indirect_crl": False,
    "only_contains_attribute_certs": False,
}
POINT = [x509.UniformResourceIdentifier("http://ca.example/list")]


def part(**restrictions: Any) -> tuple[x509.ExtensionType, bool]:
    return x509.IssuingDistributionPoint(**NO_RESTRICTION | restrictions), True


def key_usage(**uses: bool) -> x509.KeyUsage:
    names = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    more = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**dict.fromkeys((*names, *more), False) | {"key_cert_sign": True} | uses)


def named(text: str, kind: _ASN1Type = _ASN1Type.UTF8String) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, kind)])


def numbered(bits: bytes) -> x509.Name:
    """A name whose value is no text."""
    return x509.Name([x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, bits, _ASN1Type.BitString)])


def chosen(known: list[Made], *lists: bytes) -> list[bytes]:
    """The deciding ones of those, as they were given."""
    read = read_crls(b"".join(lists), "crl.pem")
    found = deciding_lists(read, [each.certificate for each in known], "crl.pem")
    return [lists[read.index(each)] for each in found]


def refusal(known: list[Made], *lists: bytes) -> str:
    with pytest.raises(ConfigurationError) as caught:
        chosen(known, *lists)
    assert str(caught.value).startswith("crl.pem: the revocation list ")
    return str(caught.value)


def revoked(known: list[Made], leaf: Made, *lists: bytes) -> bool:
    certificates = [each.certificate for each in known]
    return Revocations(read_crls(b"".join(lists), "crl.pem"), certificates).include(leaf.certificate)


class TestForm:
    @pytest.mark.parametrize(
        ("extension", "problem"),
        [
            ((x509.DeltaCRLIndicator(1), True), "is a delta list (DeltaCRLIndicator)"),
            ((x509.DeltaCRLIndicator(1), False), "is a delta list (DeltaCRLIndicator)"),
            (part(only_contains_user_certs=True), "is a partial one (onlyContainsUserCerts)"),
            (part(only_contains_ca_certs=True), "is a partial one (onlyContainsCACerts)"),
            (part(only_contains_attribute_certs=True), "is a partial one (onlyContainsAttributeCerts)"),
            (part(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise])), "one (onlySomeReasons)"),
            (part(indirect_crl=True), "is a partial one (indirectCRL)"),
            ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True), "extension (1.2.3.4)"),
            ((x509.CRLNumber(1), True), "has an unknown critical extension (2.5.29.20)"),
        ],
    )
    def test_no_complete_list(
        self, ca: Made, leaf: Made, extension: tuple[x509.ExtensionType, bool], problem: str
    ) -> None:
        """Alone, and beside a complete one."""
        other = make_crl(ca, leaf, extensions=[extension])
        for lists in ([other], [make_crl(ca), other]):
            message = refusal([ca], *lists)
            assert message.startswith("crl.pem: the revocation list of CN=CA ")
            assert message.endswith("; get the CA's complete list")
            assert problem in message

    @pytest.mark.parametrize(
        ("extension", "problem"),
        [
            ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True), "critical extension (1.2.3)"),
            ((x509.CertificateIssuer([x509.DirectoryName(named("x"))]), True), "critical extension (2.5.29.29)"),
            ((x509.CRLReason(x509.ReasonFlags.remove_from_crl), False), "an entry of a delta list (removeFromCRL)"),
        ],
    )
    def test_no_complete_entry(
        self, ca: Made, leaf: Made, extension: tuple[x509.ExtensionType, bool], problem: str
    ) -> None:
        message = refusal([ca], make_crl(ca, leaf, entry_extensions=[extension]))
        assert problem in message
        assert message.endswith("; get the CA's complete list")

    def test_what_may_be_there(self, ca: Made, leaf: Made) -> None:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
        reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
        crl = make_crl(
            ca, leaf, extensions=[(unknown, False), part(full_name=POINT)], entry_extensions=[(reason, False)]
        )
        assert chosen([ca], crl) == [crl]

    def test_extensions_that_cannot_be_read(self, ca: Made) -> None:
        broken = x509.UnrecognizedExtension(x509.CRLNumber.oid, b"\5\0")
        assert "cannot be read; get the CA's own list" in refusal([ca], make_crl(ca, extensions=[(broken, False)]))


class TestSigner:
    def test_an_impostor(self, ca: Made) -> None:
        message = refusal([ca], make_crl(make_ca()))
        assert "CN=CA is not signed with that CA's key, so every peer would be refused" in message

    @pytest.mark.parametrize(
        ("old", "new"),
        [("2a8648ce3d0201", "2a8648ce3d0202"), ("2a8648ce3d030107", "2a8648ce3d030155")],
        ids=["kind", "curve"],
    )
    def test_a_ca_with_a_key_of_an_unknown_kind(self, ca: Made, old: str, new: str) -> None:
        odd = Made(x509.load_der_x509_certificate(ca.der.replace(bytes.fromhex(old), bytes.fromhex(new))), ca.key)
        assert "is not signed with that CA's key" in refusal([odd], make_crl(ca))

    def test_a_ca_with_a_key_that_signs_nothing(self, ca: Made) -> None:
        odd = make_ca(issuer=ca, key=x25519.X25519PrivateKey.generate())
        assert "is not signed with that CA's key" in refusal([odd], make_crl(ca))

    def test_beside_the_list_of_the_real_one(self, ca: Made) -> None:
        assert "not signed" in refusal([ca], make_crl(ca), make_crl(make_ca()))

    def test_under_a_name_that_is_written_otherwise(self, ca: Made) -> None:
        assert "not signed" in refusal([ca], make_crl(make_ca(), name=named("ca")))

    @pytest.mark.parametrize(
        "name", ["\N{LATIN CAPITAL LETTER E WITH ACUTE}tat", "\N{LATIN SMALL LETTER E WITH ACUTE}tat\N{NO-BREAK SPACE}"]
    )
    def test_a_name_that_openssl_takes_for_another(self, name: str) -> None:
        """RFC 5280 calls them equal, but OpenSSL would find no list for that CA's certificates, and refuse them all."""
        authority = make_ca("\N{LATIN SMALL LETTER E WITH ACUTE}tat")
        crl = make_crl(authority, name=named(name))
        assert "in a spelling that OpenSSL takes for another CA's" in refusal([authority], crl)

    @pytest.mark.parametrize("may", [True, False])
    def test_key_usage(self, may: bool) -> None:
        authority = make_ca(extensions=[key_usage(crl_sign=may)])
        crl = make_crl(authority)
        if may:
            assert chosen([authority], crl) == [crl]
        else:
            assert "may not sign lists (its key usage lacks cRLSign)" in refusal([authority], crl)

    def test_the_identifier_of_another_key(self, ca: Made) -> None:
        """OpenSSL would not use it for that CA's certificates, and refuse them all."""
        for identifier in (
            x509.AuthorityKeyIdentifier(b"another", None, None),
            x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(named("CA"))], ca.certificate.serial_number + 1),
        ):
            assert "identifier of another CA" in refusal([ca], make_crl(ca, extensions=[(identifier, False)]))

    @pytest.mark.parametrize("of_ca", [True, False])
    @pytest.mark.parametrize("of_list", [True, False])
    def test_without_an_identifier_of_the_key(self, of_ca: bool, of_list: bool) -> None:
        authority = make_ca(identified=of_ca)
        crl = make_crl(authority, identified=of_list)
        assert chosen([authority], crl) == [crl]

    def test_a_ca_that_only_peers_show(self, ca: Made) -> None:
        crl = make_crl(make_ca("between", issuer=ca))
        assert chosen([ca], crl) == [crl]

    def test_the_own_chain_knows_it(self, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        own = make("a.example", issuer=between)
        contents = {"cert": own.pem + between.pem, "key": own.key_pem, "ca": ca.pem}
        paths = {each: f"{each}.pem" for each in (*contents, "crl")}
        crl = make_crl(between)
        assert Certificates.parse(contents | {"crl": crl}, paths, None).crl == crl
        with pytest.raises(ConfigurationError, match="CN=between is not signed"):
            Certificates.parse(contents | {"crl": make_crl(make_ca("between", issuer=ca))}, paths, None)


class TestNewest:
    def test_by_number(self, ca: Made, leaf: Made) -> None:
        lists = [make_crl(ca, number=2, start=-HOUR), make_crl(ca, leaf, number=10), make_crl(ca, number=9)]
        assert chosen([ca], *lists) == [lists[1]]
        assert chosen([ca], *reversed(lists)) == [lists[1]]

    @pytest.mark.parametrize("numbers", [(None, None), (7, None), (None, 7), (7, 7)])
    def test_by_date(self, ca: Made, leaf: Made, numbers: tuple[int | None, int | None]) -> None:
        old, new = make_crl(ca, number=numbers[0]), make_crl(ca, leaf, number=numbers[1], start=-HOUR)
        assert chosen([ca], old, new) == chosen([ca], new, old) == [new]

    def test_an_old_one_may_have_expired(self, ca: Made) -> None:
        old, new = make_crl(ca, number=1, end=-HOUR), make_crl(ca, number=2)
        assert chosen([ca], old, new) == [new]
        assert "the revocation list expired" in refusal([ca], old)

    def test_of_each_key_of_a_name(self, ca: Made, leaf: Made) -> None:
        """A CA with a new key starts again, with serial numbers and with numbers of lists."""
        again = make_ca()
        same = make("b.example", issuer=again, serial=leaf.certificate.serial_number)
        lists = make_crl(ca, leaf, number=7), make_crl(again, number=1)
        assert chosen([ca, again], *lists) == list(lists)
        assert revoked([ca, again], leaf, *lists)
        assert not revoked([ca, again], same, *lists)

    def test_of_each_key_of_a_name_that_only_peers_show(self, ca: Made, leaf: Made) -> None:
        again = make_ca()
        same = make("b.example", issuer=again, serial=leaf.certificate.serial_number)
        lists = make_crl(ca, leaf, number=7), make_crl(again, number=1)
        assert chosen([], *lists) == list(lists)
        assert revoked([], leaf, *lists)
        assert not revoked([], same, *lists)

    @pytest.mark.parametrize("newest", [0, 1])
    def test_of_a_ca_that_only_peers_show_and_lists_that_name_no_key(self, ca: Made, leaf: Made, newest: int) -> None:
        no_key = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(named("CA"))], 1)
        lists = make_crl(ca, leaf, number=2 - newest), make_crl(ca, number=1 + newest, extensions=[(no_key, False)])
        assert chosen([], *lists) == chosen([], *reversed(lists)) == [lists[newest]]

    def test_names_that_are_written_otherwise(self, leaf: Made, ca: Made) -> None:
        old, new = make_crl(ca, number=1, name=named("ca")), make_crl(ca, leaf, number=2)
        assert chosen([ca], old, new) == [new]

    @pytest.mark.parametrize("other", [None, [x509.UniformResourceIdentifier("http://ca.example/2")]])
    def test_parts_of_a_list(self, ca: Made, other: list[x509.GeneralName] | None) -> None:
        one = make_crl(ca, number=1, extensions=[part(full_name=POINT)])
        two = make_crl(ca, number=2, extensions=[] if other is None else [part(full_name=other)])
        assert "are for different distribution points; get the CA's complete list" in refusal([ca], one, two)


class TestNames:
    @pytest.mark.parametrize(
        ("one", "two"),
        [
            (named("An Issuer"), named("An Issuer", _ASN1Type.PrintableString)),
            (named("An Issuer"), named("an ISSUER")),
            (named("An Issuer"), named("  An \t Issuer ")),
            (named("\N{LATIN SMALL LETTER A WITH DIAERESIS}"), named("A\N{COMBINING DIAERESIS}")),
            (x509.Name([*named("a"), *named("b")]), x509.Name([*named("A"), *named("B")])),
            (numbered(b"a"), numbered(b"a")),
        ],
    )
    def test_equal(self, one: x509.Name, two: x509.Name) -> None:
        assert canonical_name(one) == canonical_name(two)

    @pytest.mark.parametrize(
        ("one", "two"),
        [
            (named("An Issuer"), named("AnIssuer")),
            (x509.Name([*named("a"), *named("b")]), x509.Name([*named("b"), *named("a")])),
            (named("a"), x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a")])),
            (named("a"), x509.Name([*named("a"), *named("a")])),
            (numbered(b"a"), numbered(b"A")),
        ],
    )
    def test_different(self, one: x509.Name, two: x509.Name) -> None:
        assert canonical_name(one) != canonical_name(two)

    @pytest.mark.parametrize("name", [named("An Issuer", _ASN1Type.PrintableString), named("AN  issuer")])
    def test_admission_and_standing_connections_agree(self, tmp_path: Path, name: x509.Name) -> None:
        authority = make_ca("An Issuer")
        good, bad = make("a.example", issuer=authority), make("b.example", issuer=authority)
        files = Files(tmp_path)
        server = files.loaded(make(HOST, issuer=authority), authority, crl=make_crl(authority, bad, name=name))
        for client, is_revoked in ((good, False), (bad, True)):
            pair = Handshake(server_context(server), client_context(files.loaded(client, authority)))
            assert bool(pair.failures) is server.revocations.include(client.certificate) is is_revoked


class TestRevocations:
    @pytest.mark.parametrize(
        "generate",
        [
            lambda: rsa.generate_private_key(65537, 2048),
            lambda: ec.generate_private_key(ec.SECP384R1()),
            lambda: dsa.generate_private_key(1024),
            ed25519.Ed25519PrivateKey.generate,
        ],
        ids=["RSA", "ECDSA", "DSA", "Ed25519"],
    )
    def test_by_any_kind_of_key(self, generate: Callable[[], PrivateKey]) -> None:
        authority = make_ca(key=generate())
        leaf = make("a.example", issuer=authority)
        assert revoked([authority], leaf, make_crl(authority, leaf))
        assert not revoked([make_ca(), authority], make("b.example", issuer=authority), make_crl(authority, leaf))

    def test_of_a_known_ca_its_signature_tells(self, ca: Made) -> None:
        """Whatever a certificate says of its issuer's key: one of another CA with that name is not on the list."""
        leaf = make("a.example", issuer=ca, identified=False)
        same = make("b.example", issuer=make_ca(), serial=leaf.certificate.serial_number, identified=False)
        assert revoked([ca], leaf, make_crl(ca, leaf))
        assert not revoked([ca], same, make_crl(ca, leaf))

    @pytest.mark.parametrize(("of_leaf", "of_list"), [(True, False), (False, True), (False, False)])
    def test_of_a_ca_that_only_peers_show_a_missing_identifier_lets_nobody_off(
        self, ca: Made, of_leaf: bool, of_list: bool
    ) -> None:
        leaf = make("a.example", issuer=ca, identified=of_leaf)
        assert revoked([], leaf, make_crl(ca, leaf, identified=of_list))

    @pytest.mark.parametrize(
        ("extension", "old", "new"),
        [
            (b"\5\0", "", ""),
            (tlv(0x30, tlv(0xA1, tlv(0xA3, b"")) + tlv(0x82, b"\1")), "", ""),
            (b"\x30\0", "0603551d0f", "0603551d23"),
        ],
        ids=["that is none", "with an X.400 address", "twice"],
    )
    def test_an_identifier_that_cannot_be_read_lets_nobody_off(
        self, ca: Made, extension: bytes, old: str, new: str
    ) -> None:
        identifier = x509.UnrecognizedExtension(ExtensionOID.AUTHORITY_KEY_IDENTIFIER, extension)
        odd = make("a.example", issuer=ca, identified=False, extensions=[identifier, key_usage()])
        der = odd.der.replace(bytes.fromhex(old), bytes.fromhex(new))
        leaf = Made(x509.load_der_x509_certificate(der), odd.key)
        assert revoked([], leaf, make_crl(ca, leaf))

    def test_without_lists(self, ca: Made, leaf: Made) -> None:
        assert not Revocations((), [ca.certificate]).include(leaf.certificate)

    def test_another_ca_with_the_serial_number(self, ca: Made, leaf: Made) -> None:
        other = make_ca("other")
        same = make("b.example", issuer=other, serial=leaf.certificate.serial_number)
        assert not revoked([ca, other], same, make_crl(ca, leaf))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x08"),
            (b"a name", b"\xff name"),
            (b"a name", b"a name"),
        ],
        ids=["of an unknown version", "issued by a name that cannot be read", "that can be read"],
    )
    def test_a_certificate_in_a_chain(self, ca: Made, leaf: Made, old: bytes, new: bytes) -> None:
        der = make("x.example", issuer=make_ca("a name")).der.replace(old, new)
        lists = Revocations(read_crls(make_crl(ca, leaf), "crl.pem"), [ca.certificate])
        assert lists.include_any([der]) is (old != new)
