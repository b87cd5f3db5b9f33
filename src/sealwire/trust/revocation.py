"""The rule for revocation lists, for admission and for standing connections on every carrier (RFC 5280, section 5).

OpenSSL picks among several lists by rules of its own, and applies parts of a list as if they were the whole. So it is
given only lists that can be read in one way: complete lists, signed by the CA that they name, and only the newest of
each CA. :class:`Revocations` asks the same lists about the peers of standing connections.

OpenSSL checks the leaf alone. To check the CAs above it, too, it would require a list of each of them, the root
included, and refuse every peer for a missing one. So no list of a higher CA is required. But one that is there counts,
and a CA that is on it admits no leaf: :meth:`Revocations.include_any` has that part of the rule, before HELLO and
WELCOME and later. No list can revoke a root: remove it from the file of trust anchors.

A CA is a name with a key: after a change of the key, two lists of one name stand side by side. The certificates of a
list's CA are looked for among the trust anchors and in the own chain. The CA of a list may also be one that only peers
show, and then OpenSSL checks the list's signature when one of them comes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.pki.crl import newer
from sealwire.pki.extensions import find_extension
from sealwire.pki.renewal import next_list
from sealwire.wire.frames import escaped

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_MAX_SHOWN: Final = 200
_COMPLETE: Final = "get the CA's complete list"
# The critical extensions of a list that OpenSSL knows; it refuses every peer for any other one.
_KNOWN: Final = (
    ExtensionOID.ISSUING_DISTRIBUTION_POINT,
    ExtensionOID.DELTA_CRL_INDICATOR,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
)
# DER of a BOOLEAN that is true, and of the reason removeFromCRL: a list without these bytes has no such entry.
_TRUE: Final = b"\x01\x01\xff"
_REMOVED: Final = b"\x0a\x01\x08"


def canonical_name(name: x509.Name) -> Hashable:
    """Return a name in a form that is equal for names that RFC 5280, section 7.1, calls equal.

    Case, the type of string, white space at both ends and the amount of it in between make no difference.
    """
    return _with_values(name, _folded)


def _with_values(name: x509.Name, fold: Callable[[str], object]) -> Hashable:
    return tuple(
        frozenset(
            (each.oid.dotted_string, fold(each.value) if isinstance(each.value, str) else each.value) for each in rdn
        )
        for rdn in name.rdns
    )


def _folded(value: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold())
    return " ".join(folded.split())


def _folded_by_openssl(value: str) -> bytes:
    # It folds ASCII alone, as the methods of bytes do.
    return b" ".join(value.encode().lower().split())


def deciding_lists(
    lists: Iterable[x509.CertificateRevocationList],
    known: Sequence[x509.Certificate],
    name: str,
    *,
    in_service: Sequence[x509.CertificateRevocationList] = (),
) -> tuple[x509.CertificateRevocationList, ...]:
    """Return the newest list of each CA.

    Args:
        lists: The lists of a file.
        known: The CAs' certificates: trust anchors, and the own chain above the leaf.
        name: The file's name, for errors.
        in_service: Lists that are accepted even if they have expired.

    Raises:
        ConfigurationError: A list is not complete, is not signed by its CA, or would have every peer refused.
    """
    found = []
    for each in lists:
        _check_form(each, name)
        found.append((_issuer_key(each, known, name), each))
    # A list of a CA that is not known and that names no key may be of any key of that name: then one decides for all.
    vague = {issuer for (issuer, key), _ in found if key is None}
    newest: dict[Hashable, x509.CertificateRevocationList] = {}
    for (issuer, signer), each in found:
        key = issuer if issuer in vague else (issuer, signer)
        other = newest.setdefault(key, each)
        if _parts(other) != _parts(each):
            _refuse(each, name, "and another one are for different distribution points", _COMPLETE)
        newest[key] = newer(other, each)
    for each in newest.values():
        if each not in in_service:
            _check_dates(each, name)
    return tuple(newest.values())


class _List(NamedTuple):
    """A revocation list: its serial numbers, the known CA that signed it, and the identifier of that one's key."""

    serials: frozenset[int]
    signers: list[x509.Certificate]
    key: bytes | None

    def is_of_issuer(self, leaf: x509.Certificate) -> bool:
        """Return True if the CA that the list names and that signed it has signed the certificate, too."""
        if self.signers:
            return any(_signed_by(leaf, signer) for signer in self.signers)
        # Only peers show this CA. Without key identifiers the certificate counts as its own.
        own = key_identifier(leaf)
        return own is None or self.key is None or own == self.key


class Revocations:
    """The lists in force, asked about single certificates.

    Args:
        lists: The deciding lists.
        known: The CAs' certificates, as for :func:`deciding_lists`.
    """

    def __init__(self, lists: Iterable[x509.CertificateRevocationList], known: Sequence[x509.Certificate]) -> None:
        self._lists: dict[Hashable, list[_List]] = {}
        for each in lists:
            serials = frozenset(entry.serial_number for entry in each)
            found = _List(serials, signers_of(each, known), key_identifier(each))
            self._lists.setdefault(canonical_name(each.issuer), []).append(found)

    def include(self, leaf: x509.Certificate) -> bool:
        """Return True if the list of the CA that issued the certificate has it."""
        found = self._lists.get(canonical_name(leaf.issuer), ()) if self._lists else ()
        return any(leaf.serial_number in each.serials and each.is_of_issuer(leaf) for each in found)

    def include_any(self, chain: Iterable[bytes]) -> bool:
        """Return True if the list of its CA has one of these certificates (DER), or if one cannot be read."""
        try:
            return bool(self._lists) and any(self.include(x509.load_der_x509_certificate(each)) for each in chain)
        # The parser raises many errors besides ValueError, and warnings may be errors.
        except Exception:
            return True


def signers_of(crl: x509.CertificateRevocationList, known: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """Return those of the known CAs that the list names, and that have signed it."""
    issuer = canonical_name(crl.issuer)
    return [each for each in known if canonical_name(each.subject) == issuer and _has_signed(each, crl)]


def _check_form(crl: x509.CertificateRevocationList, name: str) -> None:
    """Refuse a list that is not a complete one, or that OpenSSL would refuse every peer for."""
    try:
        critical = [each.oid for each in crl.extensions if each.critical and each.oid not in _KNOWN]
        delta = find_extension(crl, x509.DeltaCRLIndicator)
        part = find_extension(crl, x509.IssuingDistributionPoint)
        problem = _entry_problem(crl)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        _refuse(crl, name, "has extensions or entries that cannot be read", "get the CA's own list")
    if delta is not None:
        _refuse(crl, name, "is a delta list (DeltaCRLIndicator): it has only what changed", _COMPLETE)
    if part is not None:
        restrictions = {
            "onlyContainsUserCerts": part.only_contains_user_certs,
            "onlyContainsCACerts": part.only_contains_ca_certs,
            "onlyContainsAttributeCerts": part.only_contains_attribute_certs,
            "onlySomeReasons": part.only_some_reasons is not None,
            "indirectCRL": part.indirect_crl,
        }
        found = [restriction for restriction, applies in restrictions.items() if applies]
        if found:
            _refuse(crl, name, f"is a partial one ({', '.join(found)})", _COMPLETE)
    if critical:
        _refuse(crl, name, f"has an unknown critical extension ({critical[0].dotted_string})", _COMPLETE)
    if problem is not None:
        _refuse(crl, name, problem, _COMPLETE)


def _entry_problem(crl: x509.CertificateRevocationList) -> str | None:
    content = crl.tbs_certlist_bytes
    if _TRUE not in content and _REMOVED not in content:
        return None
    for entry in crl:
        for each in entry.extensions:
            if each.critical:
                return f"has an entry with an unknown critical extension ({each.oid.dotted_string})"
            if isinstance(each.value, x509.CRLReason) and each.value.reason is x509.ReasonFlags.remove_from_crl:
                return "has an entry of a delta list (removeFromCRL)"
    return None


def _issuer_key(
    crl: x509.CertificateRevocationList, known: Sequence[x509.Certificate], name: str
) -> tuple[Hashable, bytes | None]:
    """Return a list's CA: its name and its key, or what the list says of the key if the CA is not known."""
    issuer = canonical_name(crl.issuer)
    if all(canonical_name(each.subject) != issuer for each in known):
        return issuer, key_identifier(crl)
    signers = signers_of(crl, known)
    if not signers:
        _refuse(crl, name, "is not signed with that CA's key, so every peer would be refused", "get the CA's own list")
    if not any(_may_sign_lists(each) for each in signers):
        _refuse(
            crl,
            name,
            "is signed with a certificate that may not sign lists (its key usage lacks cRLSign)",
            "have the CA's certificate issued with it",
        )
    spelling = _with_values(crl.issuer, _folded_by_openssl)
    if all(_with_values(each.subject, _folded_by_openssl) != spelling for each in signers):
        _refuse(
            crl,
            name,
            "has that CA's name in a spelling that OpenSSL takes for another CA's, so every peer would be refused",
            "have the list issued with the name as it is in the CA's certificate",
        )
    if not any(_is_identified(each, crl) for each in signers):
        _refuse(crl, name, "has the key identifier of another CA (AuthorityKeyIdentifier)", "get the CA's own list")
    return issuer, signers[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _parts(crl: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    return find_extension(crl, x509.IssuingDistributionPoint)


def _check_dates(crl: x509.CertificateRevocationList, name: str) -> None:
    now = datetime.now(UTC)
    if crl.next_update_utc is not None and crl.next_update_utc < now:
        raise ConfigurationError(
            f"{name}: the revocation list expired at {moment_text(crl.next_update_utc)}, "
            f"so every peer would be refused; {next_list(name)}"
        )
    if crl.last_update_utc > now:
        raise ConfigurationError(
            f"{name}: the revocation list is not valid before {moment_text(crl.last_update_utc)}, "
            "so every peer would be refused; check this machine's clock"
        )


def _has_signed(ca: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        return crl.is_signature_valid(ca.public_key())  # type: ignore[arg-type]  # other key types raise TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _signed_by(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    # Certificate.verify_directly_issued_by compares names byte by byte.
    key: Any = ca.public_key()
    options: list[Any] = []
    if isinstance(key, rsa.RSAPublicKey):
        options = [leaf.signature_algorithm_parameters, leaf.signature_hash_algorithm]
    elif isinstance(key, ec.EllipticCurvePublicKey):
        options = [leaf.signature_algorithm_parameters]
    elif isinstance(key, dsa.DSAPublicKey):
        options = [leaf.signature_hash_algorithm]
    try:
        key.verify(leaf.signature, leaf.tbs_certificate_bytes, *options)
    except (InvalidSignature, TypeError, ValueError, AttributeError, UnsupportedAlgorithm):
        return False
    return True


def _may_sign_lists(ca: x509.Certificate) -> bool:
    usage = read_extension(ca, x509.KeyUsage)
    return usage is None or usage.crl_sign


def _is_identified(ca: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    """Return True unless the list identifies another certificate than the CA's; OpenSSL compares them."""
    own, named = read_extension(ca, x509.SubjectKeyIdentifier), key_identifier(crl)
    identifier = read_extension(crl, x509.AuthorityKeyIdentifier)
    serial = None if identifier is None else identifier.authority_cert_serial_number
    return (own is None or named is None or own.digest == named) and serial in (None, ca.serial_number)


def key_identifier(source: x509.Certificate | x509.CertificateRevocationList) -> bytes | None:
    """Return the identifier of the key that signed it (RFC 5280, section 4.2.1.1), None without one."""
    found = read_extension(source, x509.AuthorityKeyIdentifier)
    return None if found is None else found.key_identifier


def read_extension(
    source: x509.Certificate | x509.CertificateRevocationList, kind: type[_Extension]
) -> _Extension | None:
    """Return an extension; None without it, or if it cannot be read."""
    with suppress(ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return find_extension(source, kind)
    return None


def _refuse(crl: x509.CertificateRevocationList, name: str, problem: str, remedy: str) -> NoReturn:
    issuer = escaped(crl.issuer.rfc4514_string())[:_MAX_SHOWN]
    raise ConfigurationError(f"{name}: the revocation list of {issuer} {problem}; {remedy}")
