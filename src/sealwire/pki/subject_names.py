"""The grammar of names in certificates, and names read from text: ``localhost``, ``127.0.0.1``, ``spiffe://prod/billing``.

Certificates are issued for these names, and lists of peers match them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from cryptography import x509

from sealwire.errors import ConfigurationError

NAME_KINDS: Final[dict[type[x509.GeneralName], str]] = {
    x509.DNSName: "dns",
    x509.IPAddress: "ip",
    x509.UniformResourceIdentifier: "uri",
    x509.RFC822Name: "email",
}
"""Kinds of names that can be issued and matched, and the prefix of each in text."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PREFIXED = re.compile(rf"({'|'.join(NAME_KINDS.values())}):(.*)", re.DOTALL)
# RFC 3986, appendix A: scheme, then the characters allowed in a URI.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
# SPIFFE-ID, section 2: trust domain, and the path that a leaf must have (X509-SVID, section 3.1).
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]+)+")
_MAX_URI = 2048  # SPIFFE-ID, section 2.3
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def subject_alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Parse the names of a certificate (RFC 5280, section 4.2.1.6).

    Args:
        names: IP addresses, URIs (``scheme://…``), e-mail addresses and DNS names. The kind is guessed in this order,
            unless a prefix ``ip:``, ``uri:``, ``email:`` or ``dns:`` names it. A DNS name may have ``*`` as its whole
            left-most label.

    Returns:
        The names in the order given, without repetitions, DNS names in lower case.

    Raises:
        ConfigurationError: There is no name, one is of no known form, or a SPIFFE ID stands beside another URI.
    """
    found = list(dict.fromkeys(_name(text) for text in names))
    if not found:
        raise ConfigurationError(
            "a certificate needs at least one name, such as localhost, 127.0.0.1 or spiffe://prod/billing"
        )
    uris = [name.value for name in found if isinstance(name, x509.UniformResourceIdentifier)]
    if len(uris) > 1 and any(uri.lower().startswith("spiffe:") for uri in uris):
        raise ConfigurationError("a certificate with a SPIFFE ID can have no other URI (X509-SVID, section 2)")
    return found


def name_text(name: x509.GeneralName) -> str:
    """Return a certificate's name as in a list of peers; ``other:`` marks kinds that such a list cannot have."""
    if isinstance(name, x509.UniformResourceIdentifier) and name.value.startswith("spiffe://"):
        return name.value
    return f"{NAME_KINDS.get(type(name), 'other')}:{name.value}"


def is_dns_name(name: str) -> bool:
    """Return True for a lower-case DNS name of letters, digits, hyphens and underscores, without wildcard."""
    return len(name) <= 253 and _DNS_NAME.fullmatch(name) is not None


def is_spiffe_id(uri: str) -> bool:
    """Return True for the SPIFFE ID of a leaf certificate: it has a path, without empty or dot segments."""
    return _SPIFFE.fullmatch(uri) is not None and not has_dot_segments(uri)


def has_dot_segments(uri: str) -> bool:
    """Return True if ``.`` or ``..`` is a segment of the URI, so that it could be read as another path."""
    return not {".", ".."}.isdisjoint(uri.split("/"))


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an IP address without zone. Raises ConfigurationError."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise ConfigurationError(f"{text!r}: not an IP address; write one like 192.0.2.7 or 2001:db8::7") from None
    if "%" in text:
        raise ConfigurationError(f"{text!r}: an address in a certificate has no zone; leave out the % part")
    return address


def _name(text: str) -> x509.GeneralName:
    if not isinstance(text, str):
        raise ConfigurationError(f"a name for a certificate must be a str, not {type(text).__name__}")
    if not text.isascii():
        raise ConfigurationError(
            f"{text!r}: not ASCII; write an international DNS name as A-labels (xn--…) and a URI percent-encoded"
        )
    prefixed = _PREFIXED.fullmatch(text)
    if prefixed:
        kind, value = prefixed[1], prefixed[2]
    else:
        kind, value = _guess(text), text
    return {"dns": _dns, "ip": _ip, "uri": _uri, "email": _email}[kind](value)


def _guess(text: str) -> str:
    if "://" in text or text.lower().startswith("urn:"):
        return "uri"
    if "@" in text:
        return "email"
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "dns"
    return "ip"


def _dns(text: str) -> x509.DNSName:
    name = text.lower()
    parent = name.removeprefix("*.")
    if not is_dns_name(parent):
        raise ConfigurationError(
            f"{text!r}: not a DNS name; expected letters, digits and hyphens in labels of at most 63 characters, "
            "no port, no final dot, and * only as the whole first label"
        )
    if parent.rpartition(".")[2].isdigit():
        raise ConfigurationError(f"{text!r}: neither a DNS name nor an IP address")
    if parent != name and "." not in parent:
        raise ConfigurationError(f"{text!r}: a wildcard needs two more labels; OpenSSL matches no host with fewer")
    return x509.DNSName(name)


def _ip(text: str) -> x509.IPAddress:
    address = ip_address(text)
    if address.is_unspecified:
        raise ConfigurationError(f"{text!r}: stands for all addresses of a host; name those that clients connect to")
    return x509.IPAddress(address)


def _uri(text: str) -> x509.UniformResourceIdentifier:
    if len(text) > _MAX_URI or not _URI.fullmatch(text):
        raise ConfigurationError(
            f"{text[:80]!r}: not a URI; expected scheme:rest of at most {_MAX_URI} characters, percent-encoded"
        )
    if text.lower().startswith("spiffe:") and not is_spiffe_id(text):
        raise ConfigurationError(
            f"{text!r}: not a SPIFFE ID; expected spiffe://trust-domain/path, the trust domain in lower case and "
            "without port, the path without empty or dot segments and no / at its end, no query and no fragment"
        )
    return x509.UniformResourceIdentifier(text)


def _email(text: str) -> x509.RFC822Name:
    local, _, domain = text.rpartition("@")
    if not _LOCAL_PART.fullmatch(local) or len(local) > 64 or not is_dns_name(domain.lower()):
        raise ConfigurationError(f"{text!r}: not an e-mail address; expected one like ops@client.example")
    return x509.RFC822Name(text)
