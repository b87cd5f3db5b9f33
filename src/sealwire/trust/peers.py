"""The list of peers that may be at the other end.

A certificate signed by the CA proves an identity. This list decides whether that identity may connect. It may have many
thousands of entries: those without a wildcard are looked up by the names that the peer has, so that only those with one
are tried in turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from sealwire.errors import ConfigurationError
from sealwire.pki.subject_names import has_dot_segments, ip_address, is_dns_name, is_spiffe_id
from sealwire.trust.identity import PeerIdentity

ANONYMOUS = "anonymous"
_FORMS = (
    "'dns:client.example' (with * inside one label), 'spiffe://domain/path' or 'uri:URI' (with /* at the end), "
    "'ip:192.0.2.7', 'email:user@example', 'sha256:HEX' (leaf certificate), 'spki-sha256:HEX' (its public key), "
    f"'uid:1000' or 'gid:1000' (a process on a Unix socket), or '{ANONYMOUS}' (no certificate)"
)
_SEGMENTS = re.compile(r"[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*")

_Matcher = Callable[[PeerIdentity], bool]
_Parser = Callable[[str, str], str | int | _Matcher]
"""Returns the one value that an entry matches, or a matcher; the second argument is the whole entry, for errors."""


class _Entry(NamedTuple):
    text: str
    kind: str
    matched: str | int | _Matcher
    names_host: bool
    """False for URIs, fingerprints and processes, which a client verifies instead of the host name."""


class PeerPolicy:
    """An immutable list of the peers that may connect.

    Args:
        entries: At least one of these forms. All match exactly, but for the wildcards named.

            * ``dns:NAME``; a ``*`` stands for one or more characters inside a label.
            * ``spiffe://DOMAIN/PATH`` and ``uri:URI``; ``/*`` at the end stands for every path below.
            * ``ip:ADDRESS`` and ``email:ADDRESS``.
            * ``sha256:HEX``, the leaf certificate's fingerprint, and ``spki-sha256:HEX``, that of its public key.
            * ``uid:NUMBER`` and ``gid:NUMBER``, of the peer's process on a Unix socket.
            * ``anonymous``, for peers without a certificate.

    Raises:
        ConfigurationError: There is no entry, or one is of no known form.
    """

    __slots__ = ("_any", "_entries", "_patterns", "_values")

    def __init__(self, entries: Iterable[str]) -> None:
        if isinstance(entries, str) or not isinstance(entries, Iterable):
            raise ConfigurationError(
                f"peers must be a list of entries, not one {type(entries).__name__}; an entry is {_FORMS}"
            )
        self._set(tuple(_parse(entry) for entry in entries))
        if not self._entries:
            raise ConfigurationError(f"the list of peers is empty, so no peer could connect; an entry is {_FORMS}")

    @classmethod
    def any_signed_by_ca(cls) -> PeerPolicy:
        """Return a policy that allows every certificate of the trust anchors; only for a CA with no other use."""
        policy = cls.__new__(cls)
        policy._set(())
        policy._any = True
        return policy

    def _set(self, entries: tuple[_Entry, ...]) -> None:
        self._any = False
        self._entries = entries
        self._values = {(entry.kind, entry.matched) for entry in entries if not callable(entry.matched)}
        self._patterns = [entry.matched for entry in entries if callable(entry.matched)]

    @property
    def entries(self) -> tuple[str, ...]:
        """The entries, as they were given; none if any certificate will do."""
        return tuple(entry.text for entry in self._entries)

    @property
    def allows_anonymous(self) -> bool:
        """True if a peer without a certificate may connect."""
        return (ANONYMOUS, ANONYMOUS) in self._values

    @property
    def replaces_host_name(self) -> bool:
        """True if no entry names a host: a client then verifies the entries instead of the host name."""
        return not self._any and not any(entry.names_host for entry in self._entries)

    @property
    def names_processes(self) -> bool:
        """True if some entry is for a process at the other end of a Unix socket."""
        return any(entry.text.startswith(("uid:", "gid:")) for entry in self._entries)

    def allows(self, identity: PeerIdentity | None) -> bool:
        """Return True if a peer of this identity (None: without a certificate) may connect."""
        if identity is None:
            return self.allows_anonymous
        # No CA vouches for a process on this machine.
        return (
            (self._any and identity.uid is None)
            or not self._values.isdisjoint(_names(identity))
            or any(matches(identity) for matches in self._patterns)
        )

    def __repr__(self) -> str:
        if self._any:
            return "PeerPolicy.any_signed_by_ca()"
        return f"PeerPolicy({[entry.text for entry in self._entries]!r})"


def _parse(text: str) -> _Entry:
    if not isinstance(text, str):
        raise ConfigurationError(f"an entry of the list of peers must be a str, not {type(text).__name__}")
    if text == ANONYMOUS:
        return _Entry(text, ANONYMOUS, ANONYMOUS, names_host=True)
    # Other characters could look like ASCII, or become ASCII by a change of case.
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigurationError(f"{text!r}: an entry of the list of peers is printable ASCII without spaces")
    kind, colon, value = text.partition(":")
    if kind == "spiffe":
        return _Entry(text, "uri", _uri(text, text), names_host=False)
    parse = _PARSERS.get(kind)
    if not colon or not value or parse is None:
        meant = "" if colon else _meant(text)
        raise ConfigurationError(f"{text!r} is not an entry for a list of peers; {meant}an entry is {_FORMS}")
    return _Entry(text, kind, parse(value, text), names_host=kind in ("dns", "ip", "email"))


def _meant(text: str) -> str:
    """Return a question for the entry that a bare name or address may stand for."""
    for kind in ("ip", "email", "dns"):
        with suppress(ConfigurationError):
            _PARSERS[kind](text, text)
            return f"did you mean '{kind}:{text}'? "
    return ""


def _names(identity: PeerIdentity) -> Iterator[tuple[str, str | int]]:
    """Return the kinds and values of all entries without a wildcard that an identity matches."""
    # A wildcard in a certificate names no peer, and has no place in an entry without one.
    yield from (("dns", own) for own in identity.dns)
    yield from (("uri", own) for own in identity.uri if _counts(own, identity))
    yield from (("ip", own) for own in identity.ip)
    yield from (("email", own) for own in identity.email)
    if identity.uid is None:
        yield "sha256", identity.fingerprint
        yield "spki-sha256", identity.key_fingerprint
    else:
        yield "uid", identity.uid
        yield "gid", -1 if identity.gid is None else identity.gid


def _counts(uri: str, identity: PeerIdentity) -> bool:
    """Return False for a SPIFFE ID beside another URI: there is exactly one (X509-SVID, section 2)."""
    return len(identity.uri) == 1 or not uri.lower().startswith("spiffe:")


def _dns(value: str, text: str) -> str | _Matcher:
    name = value.lower().removesuffix(".")
    if not is_dns_name(name.replace("*", "x")):
        raise ConfigurationError(f"{text!r}: not a DNS name (international names as A-labels, xn--…)")
    if name.rpartition(".")[2].isdigit():
        raise ConfigurationError(f"{text!r}: not a DNS name; for an IP address write 'ip:192.0.2.7'")
    if not name.strip("*.") or any(label.count("*") > 1 for label in name.split(".")):
        raise ConfigurationError(f"{text!r}: too wide; expected at most one * in a label, and not in every label alone")
    if "*" not in name:
        return name
    pattern = re.compile(re.escape(name).replace(r"\*", "[a-z0-9_-]+"))
    # A wildcard in a certificate names no peer.
    return lambda identity: any(is_dns_name(own) and pattern.fullmatch(own) is not None for own in identity.dns)


def _uri(value: str, text: str) -> str | _Matcher:
    scheme, _, rest = value.partition(":")
    base = value.removesuffix("*")
    wildcard = base != value
    if not scheme or not rest or "*" in base or (wildcard and not base.endswith("/")):
        raise ConfigurationError(f"{text!r}: expected a URI, exact or with /* at the end")
    if re.fullmatch(r"//(\*.*|/.*|)", rest):
        raise ConfigurationError(f"{text!r}: the URI needs a trust domain or host without *")
    is_spiffe = scheme.lower() == "spiffe"
    if is_spiffe and not is_spiffe_id(f"{base}x" if wildcard else value):
        raise ConfigurationError(
            f"{text!r}: no SPIFFE ID could match; expected spiffe://trust-domain/path or spiffe://trust-domain/*, the "
            "trust domain in lower case, and no empty or dot segments, % or port"
        )
    if not wildcard:
        return value
    return lambda identity: any(_is_below(own, base) and _counts(own, identity) for own in identity.uri)


def _is_below(uri: str, base: str) -> bool:
    # The path must have one reading only: no empty or dot segments, escapes, query or fragment.
    path = uri.removeprefix(base)
    return uri.startswith(base) and _SEGMENTS.fullmatch(path) is not None and not has_dot_segments(path)


def _ip(value: str, _: str) -> str:
    return str(ip_address(value))


def _email(value: str, text: str) -> str:
    local, _, domain = value.partition("@")
    if not local or "*" in local or not is_dns_name(domain.lower()):
        raise ConfigurationError(f"{text!r}: not an e-mail address")
    return value


def _fingerprint(value: str, text: str) -> str:
    digest = value.replace(":", "").lower()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ConfigurationError(f"{text!r}: a SHA-256 fingerprint has 64 hexadecimal digits")
    return digest


def _number(value: str, text: str) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,9}", value):
        raise ConfigurationError(f"{text!r}: expected a number, as `id -u` or `id -g` shows it")
    return int(value)


_PARSERS: dict[str, _Parser] = {
    "dns": _dns,
    "uri": _uri,
    "ip": _ip,
    "email": _email,
    "sha256": _fingerprint,
    "spki-sha256": _fingerprint,
    "uid": _number,
    "gid": _number,
}
