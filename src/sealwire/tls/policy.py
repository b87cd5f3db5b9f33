"""Who may connect: an explicit list of identities.

That a certificate was signed by the CA says who somebody is, not that he may come in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sealwire.errors import ConfigurationError
from sealwire.tls.identity import PeerIdentity, is_dns_name

ANONYMOUS = "anonymous"
_FORMS = (
    "'dns:client.example' (with * inside one label), 'spiffe://domain/path' or 'uri:URI' (with /* at the end), "
    "'ip:192.0.2.7', 'email:user@example', 'sha256:HEX' (leaf certificate), 'spki-sha256:HEX' (its public key) "
    f"'uid:1000' or 'gid:1000' (a process on a Unix socket), or '{ANONYMOUS}' (no certificate)"
)
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]+)*/(?:[A-Za-z0-9._-]+|\*)")
_SEGMENTS = re.compile(r"[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*")


class _Entry(NamedTuple):
    text: str
    allows: Callable[[PeerIdentity], bool]
    names_host: bool
    """Whether it speaks of hosts, so that the host name must be verified as well."""


class PeerPolicy:
    """A list of who may connect; immutable.

    entries: ``dns:`` names, exact or with one ``*`` in a label for one or more of its characters; ``spiffe://`` and
    ``uri:`` names, exact or with ``/*`` at the end for every path below; ``ip:``, ``email:``, ``sha256:`` (leaf
    certificate) and ``spki-sha256:`` (its public key) exactly; ``uid:`` and ``gid:`` of the peer's process, on a Unix
    socket; ``anonymous`` for peers without a certificate.

    Raises ConfigurationError for an entry of no known form, or no entry at all.
    """

    __slots__ = ("_any", "_entries")

    def __init__(self, entries: Iterable[str]) -> None:
        if isinstance(entries, str):
            raise ConfigurationError(f"peers must be a list of entries, not one str; an entry is {_FORMS}")
        self._entries = tuple(_parse(entry) for entry in entries)
        self._any = False
        if not self._entries:
            raise ConfigurationError(
                "the list of peers is empty, so nobody could connect; "
                f"an entry is {_FORMS}. PeerPolicy.any_signed_by_ca() trusts everybody with a certificate"
            )

    @classmethod
    def any_signed_by_ca(cls) -> PeerPolicy:
        """Everybody whose certificate the trust anchors vouch for: right only for a CA that serves nothing else."""
        policy = cls.__new__(cls)
        policy._entries = ()
        policy._any = True
        return policy

    @property
    def allows_anonymous(self) -> bool:
        """Whether a peer without a certificate may connect."""
        return any(entry.text == ANONYMOUS for entry in self._entries)

    @property
    def replaces_host_name(self) -> bool:
        """Whether every entry is a URI or a fingerprint: a client then verifies that instead of the host name."""
        return not self._any and not any(entry.names_host for entry in self._entries)

    @property
    def names_processes(self) -> bool:
        """Whether some entry is for a process at the other end of a Unix socket."""
        return any(entry.text.startswith(("uid:", "gid:")) for entry in self._entries)

    def allows(self, identity: PeerIdentity | None) -> bool:
        """Whether that peer (None: without a certificate) may connect."""
        if identity is None:
            return self.allows_anonymous
        # For a process on this machine no CA vouches.
        return (self._any and identity.uid is None) or any(entry.allows(identity) for entry in self._entries)

    def __repr__(self) -> str:
        if self._any:
            return "PeerPolicy.any_signed_by_ca()"
        return f"PeerPolicy({[entry.text for entry in self._entries]!r})"


def _parse(text: str) -> _Entry:
    if not isinstance(text, str):
        raise ConfigurationError(f"an entry of the list of peers must be a str, not {type(text).__name__}")
    if text == ANONYMOUS:
        return _Entry(text, lambda identity: False, names_host=True)  # noqa: ARG005 - who has an identity is not anonymous
    # Others could look like what they are not; and what is no ASCII can become it by a change of case.
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigurationError(f"{text!r}: an entry of the list of peers is printable ASCII without blanks")
    kind, colon, value = text.partition(":")
    if kind == "spiffe":
        return _Entry(text, _uri(text, text), names_host=False)
    parse = _KINDS.get(kind)
    if not colon or not value or parse is None:
        raise ConfigurationError(f"{text!r} is no entry for a list of peers; an entry is {_FORMS}")
    return _Entry(text, parse(value, text), names_host=kind in ("dns", "ip", "email"))


def _dns(value: str, text: str) -> Callable[[PeerIdentity], bool]:
    name = value.lower().removesuffix(".")
    if not is_dns_name(name.replace("*", "x")):
        raise ConfigurationError(f"{text!r}: not a DNS name (international names as A-labels, xn--…)")
    if name.rpartition(".")[2].isdigit():
        raise ConfigurationError(f"{text!r}: not a DNS name; for an IP address write 'ip:192.0.2.7'")
    if not name.strip("*.") or any(label.count("*") > 1 for label in name.split(".")):
        raise ConfigurationError(f"{text!r}: too wide; expected at most one * in a label, and not in every label alone")
    pattern = re.compile(re.escape(name).replace(r"\*", "[a-z0-9_-]+"))
    # A certificate's own wildcard is no name of anybody.
    return lambda identity: any(is_dns_name(own) and pattern.fullmatch(own) is not None for own in identity.dns)


def _uri(value: str, text: str) -> Callable[[PeerIdentity], bool]:
    scheme, separator, rest = value.partition(":")
    base = value.removesuffix("*")
    prefix = base != value
    authority = rest.removeprefix("//").partition("/")[0]
    if not separator or not scheme or not rest or "*" in base or (prefix and not base.endswith("/")):
        raise ConfigurationError(f"{text!r}: expected a URI, exact or with /* at the end")
    if "*" in authority or (rest.startswith("//") and not authority):
        raise ConfigurationError(f"{text!r}: the URI needs a trust domain or host without *")

    if scheme.lower() == "spiffe" and (not _SPIFFE.fullmatch(value) or {".", ".."}.intersection(rest.split("/"))):
        raise ConfigurationError(
            f"{text!r}: no SPIFFE ID could match; expected spiffe://trust-domain/path or spiffe://trust-domain/*, the "
            "trust domain in lower case, and no empty or dot segments, % or port"
        )

    def allows(identity: PeerIdentity) -> bool:
        # A SPIFFE certificate has exactly one URI (X509-SVID, section 2); with two, which is it?
        if scheme.lower() == "spiffe" and len(identity.uri) != 1:
            return False
        return any(_below(own, base) if prefix else own == value for own in identity.uri)

    return allows


def _below(uri: str, base: str) -> bool:
    rest = uri.removeprefix(base)
    # Nothing that could be read as another path than it is: no empty and no dot segments, escapes, query or fragment.
    return (
        uri.startswith(base) and _SEGMENTS.fullmatch(rest) is not None and not {".", ".."}.intersection(rest.split("/"))
    )


def _ip(value: str, text: str) -> Callable[[PeerIdentity], bool]:
    try:
        address = str(ipaddress.ip_address(value))
    except ValueError:
        raise ConfigurationError(f"{text!r}: not an IP address") from None
    if "%" in address:
        raise ConfigurationError(f"{text!r}: an address in a certificate has no zone; leave out the % part")
    return lambda identity: address in identity.ip


def _email(value: str, text: str) -> Callable[[PeerIdentity], bool]:
    local, _, domain = value.partition("@")
    if not local or "*" in local or not is_dns_name(domain.lower()):
        raise ConfigurationError(f"{text!r}: not an e-mail address")
    return lambda identity: value in identity.email


def _fingerprint(attribute: str) -> Callable[[str, str], Callable[[PeerIdentity], bool]]:
    def parse(value: str, text: str) -> Callable[[PeerIdentity], bool]:
        digest = value.replace(":", "").lower()
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise ConfigurationError(f"{text!r}: a SHA-256 fingerprint has 64 hexadecimal digits")
        return lambda identity: getattr(identity, attribute) == digest

    return parse


def _number(attribute: str) -> Callable[[str, str], Callable[[PeerIdentity], bool]]:
    def parse(value: str, text: str) -> Callable[[PeerIdentity], bool]:
        if not re.fullmatch("0|[1-9][0-9]{0,9}", value):
            raise ConfigurationError(f"{text!r}: expected a number, as `id` shows it")
        return lambda identity: getattr(identity, attribute) == int(value)

    return parse


_KINDS: dict[str, Callable[[str, str], Callable[[PeerIdentity], bool]]] = {
    "dns": _dns,
    "uri": _uri,
    "ip": _ip,
    "email": _email,
    "sha256": _fingerprint("fingerprint"),
    "spki-sha256": _fingerprint("key_fingerprint"),
    "uid": _number("uid"),
    "gid": _number("gid"),
}
