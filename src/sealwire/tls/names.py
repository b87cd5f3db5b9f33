"""The names that a certificate is issued for, read from text: ``localhost``, ``127.0.0.1``, ``spiffe://prod/billing/worker``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from cryptography import x509

from sealwire.errors import ConfigurationError
from sealwire.tls.identity import is_dns_name

_PREFIXED = re.compile(r"(dns|ip|uri|email):(.*)", re.DOTALL)
# RFC 3986, appendix A: scheme, then what may stand in a URI at all.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
# SPIFFE-ID, section 2: trust domain, and a path that a leaf must have (X509-SVID, section 3.1).
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]+)+")
_MAX_URI = 2048  # SPIFFE-ID, section 2.3
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def subject_alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Names for a certificate (RFC 5280, section 4.2.1.6), in the order given, each once.

    Each is an IP address, a URI (``scheme://…``), an e-mail address or a DNS name, in this order of guessing; ``ip:``,
    ``uri:``, ``email:`` or ``dns:`` in front says which. DNS names become lower case; ``*`` may be their whole
    left-most label.

    Raises ConfigurationError for no names at all, a name that is none of these, or a SPIFFE ID beside another URI.
    """
    found = list(dict.fromkeys(_name(text) for text in names))
    if not found:
        raise ConfigurationError(
            "a certificate needs at least one name, such as localhost, 127.0.0.1 or spiffe://prod/billing"
        )
    uris = [name.value for name in found if isinstance(name, x509.UniformResourceIdentifier)]
    if len(uris) > 1 and any(uri.lower().startswith("spiffe:") for uri in uris):
        raise ConfigurationError("a certificate with a SPIFFE ID has no other URI (X509-SVID, section 2)")
    return found


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
        raise ConfigurationError(f"{text!r}: a wildcard needs two more labels, or OpenSSL matches no host with it")
    return x509.DNSName(name)


def _ip(text: str) -> x509.IPAddress:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigurationError(f"{text!r}: not an IP address; write one like 192.0.2.7 or 2001:db8::7") from None
    if getattr(address, "scope_id", None) is not None:
        raise ConfigurationError(f"{text!r}: an address in a certificate has no zone; leave out the % part")
    if address.is_unspecified:
        raise ConfigurationError(f"{text!r}: stands for all addresses of a host; name those that clients connect to")
    return x509.IPAddress(address)


def _uri(text: str) -> x509.UniformResourceIdentifier:
    if len(text) > _MAX_URI or not _URI.fullmatch(text):
        raise ConfigurationError(
            f"{text[:80]!r}: not a URI; expected scheme:rest of at most {_MAX_URI} characters, percent-encoded"
        )
    if text.lower().startswith("spiffe:") and (
        not _SPIFFE.fullmatch(text) or {".", ".."}.intersection(text.split("/"))
    ):
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
