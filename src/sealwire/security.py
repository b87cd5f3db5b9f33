"""Security, the configuration that every server and client is given.

It bundles certificates, keys, the list of peers, the codec and the limits, and reloads files that have changed. It
knows nothing of connections; :mod:`sealwire.session.terms` derives the parameters of a connection from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

from sealwire import toml_options
from sealwire.codec import Allowlist, Codec, RawCodec
from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.trust.credentials import Credentials, CredentialsStatus
from sealwire.trust.identity import canonical_host
from sealwire.trust.keyring import Keyring, KeyringStatus
from sealwire.trust.peers import PeerPolicy
from sealwire.trust.reloading import LOOK_PATIENCE
from sealwire.wire.frames import VerifiedPayload

ANY_SIGNED_BY_CA = "any-signed-by-ca"
_FILES = ("cert", "key", "ca", "crl", "keyring")
_OPTIONS = (*_FILES, "peers", "service", "names", "codec", "limits", "allowlist", "allow_readable_key")


class Security:
    """The security configuration of a server or a client.

    It is immutable and can be shared by any number of servers and clients. Most programs use :meth:`from_files` or
    :meth:`from_toml`.

    Args:
        credentials: Certificate, private key and trust anchors.
        keys: The keyring, with the keys that sign and verify frames.
        peers: The peers that may be at the other end: a PeerPolicy or a list of entries like ``dns:client.example``.
            A server requires it. A client without it accepts any certificate that the trust anchors verify for the
            host that it connects to.
        service: Name of the service, at most 128 printable ASCII characters; the same at both ends. Give different
            names to services that share a certificate or a key. Default: no name.
        names: Host names of this server beside those in its certificate.
        codec: Converts objects to payloads and back. Default: ``Codec()``, which accepts the standard value types.
        limits: Bounds on sizes, counts and times. Default: ``Limits()``. The limits of the codec are its own.

    Raises:
        ConfigurationError: An argument has the wrong type or form.

    Attributes:
        credentials: As given.
        keys: As given.
        peers: The PeerPolicy, or None.
        service: As given.
        names: The host names in canonical form.
        codec: As given, or the default.
        limits: As given, or the default.
    """

    def __init__(
        self,
        *,
        credentials: Credentials,
        keys: Keyring,
        peers: PeerPolicy | Iterable[str] | None = None,
        service: str = "",
        names: Iterable[str] = (),
        codec: Codec | RawCodec | None = None,
        limits: Limits | None = None,
    ) -> None:
        for name, value, kinds, form in (
            ("credentials", credentials, Credentials, "Credentials, as Credentials.from_files makes them"),
            ("keys", keys, Keyring, "a Keyring, as Keyring.from_file or Keyring([Key(…)]) makes it"),
            ("codec", codec, (Codec, RawCodec, type(None)), "a Codec, as Codec(Allowlist(…)) makes it"),
            ("limits", limits, (Limits, type(None)), "Limits(…)"),
        ):
            if not isinstance(value, kinds):
                raise ConfigurationError(f"{name} must be {form}, not a value of type {type(value).__name__}")
        for name, entries in (("peers", peers), ("names", names)):
            if not isinstance(entries, PeerPolicy | Iterable) and (name == "names" or entries is not None):
                raise ConfigurationError(f"{name} must be a list, not a value of type {type(entries).__name__}")
        if not isinstance(service, str) or not service.isascii() or not (service.isprintable() and len(service) <= 128):
            raise ConfigurationError("service must be at most 128 printable ASCII characters")
        if isinstance(names, str):
            raise ConfigurationError("names must be a list of host names, not one str")
        try:
            canonical = frozenset(canonical_host(name) for name in names)
        except ConfigurationError as error:
            raise ConfigurationError(f"names: {error}") from None
        self.credentials: Final = credentials
        self.keys: Final = keys
        self.peers: Final = peers if peers is None or isinstance(peers, PeerPolicy) else PeerPolicy(peers)
        self.service: Final = service
        self.names: Final = canonical
        self.limits: Final = limits if limits is not None else Limits()
        self.codec: Final = codec if codec is not None else Codec(limits=self.limits)
        self.decode: Final[Callable[[VerifiedPayload], Any]] = self.codec.decode
        """Decode a verified payload; unverified bytes do not type-check here. Raises DecodeError."""

    @classmethod
    def from_files(
        cls,
        *,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str],
        keyring: str | os.PathLike[str],
        crl: str | os.PathLike[str] | None = None,
        allow: Iterable[type] | Allowlist = (),
        peers: PeerPolicy | Iterable[str] | None = None,
        service: str = "",
        names: Iterable[str] = (),
        limits: Limits | None = None,
        allow_readable_key: bool = False,
    ) -> Security:
        """Read PEM files and a keyring file.

        Args:
            cert: PEM file with the certificate, followed by any intermediates. Default: none, for an anonymous client
                or a Unix socket.
            key: PEM file with the certificate's private key, readable by its owner alone. Default: none.
            ca: PEM file with the certificates of the trusted CAs.
            keyring: Keyring file, readable by its owner alone.
            crl: PEM file with certificate revocation lists. Default: none.
            allow: The types that messages may contain beside plain data: a list of types, or an Allowlist.
            peers: As for Security.
            service: As for Security.
            names: As for Security.
            limits: As for Security; they apply to the codec, too.
            allow_readable_key: Accept a private key that other users can read. Default: it is refused.

        Returns:
            A Security that reloads the files when they change.

        Raises:
            ConfigurationError: A file or an argument cannot be used. The message says which, and what to do.
        """
        if not isinstance(allow, Allowlist | Iterable) or isinstance(allow, type):
            raise ConfigurationError("allow must be a list of types: allow=[Order], or an Allowlist")
        if not isinstance(limits, Limits | None):
            raise ConfigurationError(f"limits must be Limits(…), not a value of type {type(limits).__name__}")
        allowlist = allow if isinstance(allow, Allowlist) else Allowlist(*allow)
        limits = limits if limits is not None else Limits()
        return cls(
            credentials=Credentials.from_files(
                cert=cert,
                key=key,
                ca=ca,
                crl=crl,
                allow_readable_key=allow_readable_key,
                max_crl=limits.max_crl,
            ),
            keys=Keyring.from_file(keyring),
            peers=peers,
            service=service,
            names=names,
            codec=Codec(allowlist, limits=limits),
            limits=limits,
        )

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Security:
        """Read a configuration file (docs/reference/configuration.md).

        Args:
            path: TOML file. Paths in it are relative to its directory.

        Returns:
            A Security that reloads the files named in the configuration when they change, but not the configuration.

        Raises:
            ConfigurationError: A key is unknown or a value is bad. The message has the file, the key and the expected
                form.
        """
        document = toml_options.read_toml(path)
        try:
            return cls._from_document(document, Path(path).parent)
        except ConfigurationError as error:
            raise ConfigurationError(f"{os.fspath(path)}: {error}") from None

    @classmethod
    def _from_document(cls, document: Mapping[str, Any], directory: Path) -> Security:
        """Return the Security of a parsed configuration with paths relative to ``directory``."""
        toml_options.reject_unknown(document, _OPTIONS, "")
        files = {option: directory / toml_options.path(document, option) for option in _FILES if option in document}
        for option in ("ca", "keyring"):
            if option not in files:
                raise ConfigurationError(f"{option} is missing; expected a path as a string")
        limits = Limits.from_table(document.get("limits", {}))
        allowlist = Allowlist.from_table(document.get("allowlist", {}))
        codec = toml_options.get_typed(document, "codec", str, f"{Codec.name!r} or {RawCodec.name!r}", Codec.name)
        readable = toml_options.get_typed(document, "allow_readable_key", bool, "true or false", False)
        if codec not in (Codec.name, RawCodec.name):
            raise ConfigurationError(f"codec: expected {Codec.name!r} or {RawCodec.name!r}")
        if codec == RawCodec.name and allowlist.adapters:
            raise ConfigurationError(
                "allowlist: the codec 'raw' sends bytes and has no types; remove either the allowlist or codec = 'raw'"
            )
        return cls(
            credentials=Credentials.from_files(
                cert=files.get("cert"),
                key=files.get("key"),
                ca=files["ca"],
                crl=files.get("crl"),
                allow_readable_key=readable,
                max_crl=limits.max_crl,
            ),
            keys=Keyring.from_file(files["keyring"]),
            peers=_peers(document),
            service=toml_options.get_typed(document, "service", str, "a string", ""),
            names=toml_options.strings(document, "names") or (),
            codec=RawCodec() if codec == RawCodec.name else Codec(allowlist, limits=limits),
            limits=limits,
        )

    def __repr__(self) -> str:
        return f"<Security of {self.credentials.identity or 'anonymous'}, {self.keys!r}, peers {self.peers!r}>"

    def reload(self) -> bool:
        """Reload all files now, instead of within Limits.reload_interval.

        Returns:
            True if the content of the files is in use now. If False, the previous content stays in use, and the log
            and :meth:`status` say why.
        """
        return all([self.credentials.reload(), self.keys.reload()])

    def refresh_due(self) -> bool:
        """Return True if :meth:`refresh` would check the files now. Does no I/O."""
        return self.credentials.refresh_due() or self.keys.refresh_due()

    def refresh(self) -> None:
        """Reload changed files, if the last check is older than Limits.reload_interval.

        Servers and clients call this themselves.
        """
        self.credentials.refresh(self.limits.reload_interval)
        self.keys.refresh(self.limits.reload_interval)

    def look(self, deadline: float) -> None:
        """Reload changed files now, however old the last check is: why one side refused the other may have changed.

        Servers and clients call this themselves.

        Args:
            deadline: The time of ``time.monotonic()`` until which to wait for another thread's check, and for files
                that are just being written; for a second at most.
        """
        seconds = min(LOOK_PATIENCE, max(0.0, deadline - monotonic()))
        self.credentials.look(self.limits.reload_interval, seconds)
        self.keys.look(self.limits.reload_interval, seconds)

    def status(self) -> SecurityStatus:
        """Return the certificates and keys in use, and the reason if newer content of the files was rejected.

        It looks at the files first if the last look is older than Limits.reload_interval.
        """
        self.refresh()
        return SecurityStatus(self.credentials.status(), self.keys.status())


class SecurityStatus(NamedTuple):
    """The state of a Security's files.

    Attributes:
        credentials: Of certificate, private key, CA and CRL.
        keys: Of the keyring.
    """

    credentials: CredentialsStatus
    keys: KeyringStatus

    @property
    def refusals(self) -> list[str]:
        """The reasons for which present content of the files was rejected; empty if all of it is in use."""
        return [each.refusal.reason for each in self if each.refusal is not None]


def _peers(document: Mapping[str, Any]) -> PeerPolicy | None:
    """Return the list of peers in a configuration, None without one."""
    if document.get("peers") == ANY_SIGNED_BY_CA:
        return PeerPolicy.any_signed_by_ca()
    if "peers" in document and type(document["peers"]) is not list:
        raise ConfigurationError(f"peers: expected a list of strings, or {ANY_SIGNED_BY_CA!r}")
    entries = toml_options.strings(document, "peers")
    try:
        return None if entries is None else PeerPolicy(entries)
    except ConfigurationError as error:
        raise ConfigurationError(f"peers: {error}") from None
