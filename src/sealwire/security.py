"""Security, the configuration that every server and client is given.

It bundles certificates, keys, the list of peers, the codec and the limits, and reloads files that have changed. It
knows nothing of connections; :mod:`sealwire.session.terms` derives the parameters of a connection from it.

A Security that a file configures (:class:`_Following`) has the attributes of the one that the file makes now, which is
immutable and replaced as a whole. A connection takes that one (:meth:`Security.pinned`) when it begins and keeps it to
its end, and asks the other one (:attr:`Security.latest`) whether it may go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple, TypeVar

from sealwire import configuration_options
from sealwire.authorisation import Authorisation, Rule
from sealwire.codec import Allowlist, Codec, RawCodec
from sealwire.configuration import ConfigurationFile, ConfigurationStatus
from sealwire.errors import ConfigurationError, RemoteError
from sealwire.faults import FaultClasses
from sealwire.limits import Limits
from sealwire.trust.credentials import Credentials, CredentialsStatus
from sealwire.trust.identity import canonical_host
from sealwire.trust.keyring import Keyring, KeyringStatus
from sealwire.trust.peers import PeerPolicy
from sealwire.trust.reloading import LOOK_PATIENCE
from sealwire.trusted_proxies import Proxies
from sealwire.wire.frames import VerifiedPayload

_IMPORTING = ("allowlist", "faults", "authorise")
"""Options that name types, whose modules are imported."""

T = TypeVar("T")


class Security:
    """The security configuration of a server or a client.

    It can be shared by any number of servers and clients. It is immutable, but for one of :meth:`from_toml`, whose
    attributes are those of the file that was read last. Most programs use :meth:`from_files` or :meth:`from_toml`.

    Args:
        credentials: Certificate, private key and trust anchors; for Unix sockets, whose ``peers`` are processes like
            ``uid:1000``, credentials without any will do.
        keys: The keyring, with the keys that sign and verify frames.
        peers: The peers that may be at the other end: a PeerPolicy or a list of entries like ``dns:client.example``.
            A server requires it. A client without it accepts any certificate that the trust anchors verify for the
            host that it connects to.
        service: Name of the service, at most 128 printable ASCII characters; the same at both ends. Give different
            names to services that share a certificate or a key. Default: no name.
        names: Host names of this server in addition to those in its certificate.
        codec: Converts objects to payloads and back. Default: ``Codec()``, which accepts the standard value types.
        limits: Bounds on sizes, counts and times. Default: ``Limits()``. The limits of the codec are its own.
        faults: The exceptions that a client raises for faults of the application: classes derived from Refuse or
            RemoteError, each with its ``code``. Other faults are a RemoteError. A server does not need them.
        authorise: Rules for the types of messages that each peer may send; a server refuses what none of them allows
            (:func:`sealwire.middleware.authorise`). A client does not need them. Default: none, every peer may send
            what the allowlist and the handler take.
        proxy_protocol: The addresses and networks of proxies in front of a server on TCP, which begin each connection
            with a PROXY header: ``["127.0.0.1", "10.0.0.0/8"]``. A client does not need them. Default: no proxies.

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
        faults: Makes the exception of a fault.
        authorisation: The rules, or None.
        proxies: The proxies, or None.
        admin: The address of the admin endpoint in the configuration file; None without one.
        waiting: The settings that were changed in the configuration file and need a restart: their values there, and
            in service.
    """

    _latest: Security | None = None

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
        faults: Iterable[type[RemoteError]] = (),
        authorise: Iterable[Rule] | Authorisation | None = None,
        proxy_protocol: Iterable[str] | None = None,
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
        if self.peers is None or not self.peers.names_processes:
            credentials.current.check_anchors()
        self.service: Final = service
        self.names: Final = canonical
        self.limits: Final = limits if limits is not None else Limits()
        self.codec: Final = codec if codec is not None else Codec(limits=self.limits)
        self.faults: Final = FaultClasses(faults)
        self.authorisation: Final = (
            authorise if isinstance(authorise, Authorisation | None) else Authorisation(authorise)
        )
        if self.authorisation is not None:
            self.authorisation.check_types(self.codec)
        self.proxies: Final = None if proxy_protocol is None else Proxies(proxy_protocol)
        own = type(self.codec) not in (Codec, RawCodec)  # a subclass, which may check more
        self.decode: Final[Callable[[VerifiedPayload], Any]] = self.codec.decode if own else self.codec.decode_at_once
        """Decode a verified payload; unverified bytes do not type-check here. Raises DecodeError."""
        self._made: Final[dict[Hashable, Any]] = {}
        self._agreed: object = None
        """The settings that both ends of a connection, and its messages, depend on."""
        self._watched = False
        self.admin: str | None = None
        self.waiting: Mapping[str, tuple[object, object]] = {}

    @classmethod
    def from_files(
        cls,
        *,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        keyring: str | os.PathLike[str],
        crl: str | os.PathLike[str] | None = None,
        allow: Iterable[type] | Allowlist = (),
        peers: PeerPolicy | Iterable[str] | None = None,
        service: str = "",
        names: Iterable[str] = (),
        limits: Limits | None = None,
        faults: Iterable[type[RemoteError]] = (),
        authorise: Iterable[Rule] | None = None,
        proxy_protocol: Iterable[str] | None = None,
        allow_readable_key: bool = False,
        keyring_group: bool = False,
    ) -> Security:
        """Read PEM files and a keyring file.

        Args:
            cert: PEM file with the certificate, followed by any intermediates. Default: none, for an anonymous client
                or a Unix socket.
            key: PEM file with the certificate's private key, readable by its owner alone. Default: none.
            ca: PEM file with the certificates of the trusted CAs. Default: none, for a Unix socket: there are no
                certificates, and ``peers`` has entries like ``uid:1000``.
            keyring: Keyring file, readable by its owner alone.
            crl: PEM file with certificate revocation lists. Default: none.
            allow: The types that messages may contain beside plain data: a list of types, or an Allowlist.
            peers: As for Security.
            service: As for Security.
            names: As for Security.
            limits: As for Security; they apply to the codec, too.
            faults: As for Security.
            authorise: As for Security.
            proxy_protocol: As for Security.
            allow_readable_key: Accept a private key that other users can read. Default: it is refused.
            keyring_group: Accept a private key and a keyring of root's that a group of this process may read, not write
                (0640), also if the process is root's. Default: only if it is another user's.

        Returns:
            A Security that reloads the files when they change.

        Raises:
            ConfigurationError: A file or an argument cannot be used. The message says which, and what to do.
        """
        limits = limits if limits is not None else Limits()
        codec = _codec(allow, limits)
        return cls(
            credentials=Credentials.from_files(
                cert=cert,
                key=key,
                ca=ca,
                crl=crl,
                allow_readable_key=allow_readable_key,
                keyring_group=keyring_group,
                max_crl=limits.max_crl,
            ),
            keys=Keyring.from_file(keyring, keyring_group=keyring_group),
            peers=peers,
            service=service,
            names=names,
            codec=codec,
            limits=limits,
            faults=faults,
            authorise=authorise,
            proxy_protocol=proxy_protocol,
        )

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Security:
        """Read a configuration file (docs/reference/configuration.md).

        Args:
            path: TOML file. Paths in it are relative to its directory.

        Returns:
            A Security that reloads the files named in the configuration when they change, and the configuration itself
            at :meth:`reload`, or with ``reload_config = true`` when it changes.

        Raises:
            ConfigurationError: A key is unknown or a value is bad. The message has the file, the key and the expected
                form.
        """
        return _Following(path)

    @classmethod
    def _from_document(cls, document: Mapping[str, Any], directory: Path, previous: Security | None) -> Security:
        """Return the Security of a parsed configuration with paths relative to ``directory``.

        ``previous`` is in service, None at first. Certificates and keys of the same files are the same objects.
        """
        found = configuration_options.read(document, directory, previous)
        made = cls(**found.arguments)
        made._watched, made.admin, made.waiting = found.watched, found.admin, found.waiting
        made._agreed = found.agreed
        return made

    def pinned(self) -> Security:
        """Return the immutable Security that new connections use now."""
        return self

    @property
    def is_from_file(self) -> bool:
        """True if a configuration file makes it, so that its user writes TOML."""
        return self._latest is not None

    @property
    def latest(self) -> Security:
        """The Security that this one was pinned from; itself if it never changes."""
        return self._latest or self

    @property
    def announced(self) -> bool:
        """True if another process has taken a configuration, and this one has not read it yet."""
        return self._latest is not None and self._latest.announced

    def ends(self) -> bool:
        """Return True if a connection of this Security should end, as new connections follow other rules."""
        return self.latest.pinned()._agreed != self._agreed

    def require(self, check: Callable[[Security], object]) -> None:
        """Call ``check`` with this Security now, and with each later one of a configuration file before it is used.

        Args:
            check: A method that raises ConfigurationError for a Security that its object cannot use.
        """
        check(self.pinned())

    def once(self, name: Hashable, make: Callable[[Security], T]) -> T:
        """Return the result of ``make`` from the first call with that name, for this pinned Security."""
        found: T = self._made[name] if name in self._made else self._made.setdefault(name, make(self))
        return found

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
        if self._latest is not None:
            return self._latest.refresh_due()
        return self.credentials.refresh_due() or self.keys.refresh_due()

    def refresh(self) -> None:
        """Reload changed files, if the last check is older than Limits.reload_interval.

        Servers and clients call this themselves.
        """
        if self._latest is not None:
            self._latest.refresh()
            return
        self.credentials.refresh(self.limits.reload_interval)
        self.keys.refresh(self.limits.reload_interval)

    def look(self, deadline: float) -> None:
        """Reload changed files now, however recent the last check: the reason for a refusal may be gone.

        Servers and clients call this themselves.

        Args:
            deadline: The time (``time.monotonic()``) until which to wait for another thread's check, and for files that
                are just being written; for a second at most.
        """
        if self._latest is not None:
            self._latest.look(deadline)
            return
        seconds = min(LOOK_PATIENCE, max(0.0, deadline - monotonic()))
        self.credentials.look(self.limits.reload_interval, seconds)
        self.keys.look(self.limits.reload_interval, seconds)

    def status(self) -> SecurityStatus:
        """Return the certificates and keys in use, and the reason if newer content of the files was rejected.

        The files are checked first if the last check is older than Limits.reload_interval.
        """
        self.refresh()
        return SecurityStatus(self.credentials.status(), self.keys.status())


class _Following(Security):
    """A Security that a configuration file makes. All that it does not have itself is the pinned one's."""

    def __init__(self, path: str | os.PathLike[str], *, types: bool = True) -> None:
        self._types = types
        self._file: ConfigurationFile[Security] = ConfigurationFile(path, self._make)

    def _make(self, document: dict[str, Any], directory: Path, previous: Security | None) -> Security:
        if not self._types:
            document = {name: value for name, value in document.items() if name not in _IMPORTING}
        made = Security._from_document(document, directory, previous)
        made._latest = self
        return made

    def __getattr__(self, name: str) -> Any:
        if name == "_file":  # its constructor has failed
            raise AttributeError(name)
        return getattr(self._file.current, name)

    @property
    def is_from_file(self) -> bool:
        """True: the user writes TOML."""
        return True

    def pinned(self) -> Security:
        """Return the Security that the file has made last."""
        return self._file.current

    def require(self, check: Callable[[Security], object]) -> None:
        """Show each Security that the file makes to a method before it is used; see Security.require."""
        super().require(check)
        self._file.require(check)

    def once(self, name: Hashable, make: Callable[[Security], T]) -> T:
        """Return the result of ``make`` for the pinned Security; see Security.once."""
        return self.pinned().once(name, make)

    def reload(self) -> bool:
        """Read the configuration and all files that it names now.

        Returns:
            True if all of it is in use now. If False, the previous configuration stays in use, or the previous content
            of a file; the log and :meth:`status` say which, and why.
        """
        super().reload()
        self._file.reload()
        return not any(each.refusal for each in (self._file, self.credentials, self.keys))

    @property
    def announced(self) -> bool:
        """True if another process has taken a configuration, and this one has not read it yet."""
        return self._file.announced

    def refresh_due(self) -> bool:
        """Return True if :meth:`refresh` would check the files now. Does no I/O."""
        watched = self.pinned()._watched and self._file.refresh_due()
        return watched or self._file.announced or super().refresh_due()

    def refresh(self) -> None:
        """Reload changed files if the last check is older than Limits.reload_interval."""
        if self._file.announced:
            self._file.follow()
        if self.pinned()._watched:
            self._file.refresh(self.limits.reload_interval)
        super().refresh()

    def look(self, deadline: float) -> None:
        """Reload changed files now; see Security.look."""
        if self._file.announced:
            self._file.follow()
        if self.pinned()._watched:
            self._file.look(self.limits.reload_interval, min(LOOK_PATIENCE, max(0.0, deadline - monotonic())))
        super().look(deadline)

    def status(self) -> SecurityStatus:
        """Return what is in use, and the reason if newer content of a file was rejected; see Security.status."""
        return super().status()._replace(configuration=self._file.status())


def without_types(path: str | os.PathLike[str]) -> Security:
    """Read a configuration file for what sends no messages, such as a ping: no module that it names is imported.

    Args and Raises: as for Security.from_toml.
    """
    return _Following(path, types=False)


class SecurityStatus(NamedTuple):
    """The state of a Security's files.

    Attributes:
        credentials: Of certificate, private key, CA and CRL.
        keys: Of the keyring.
        configuration: Of the configuration file; None without one.
    """

    credentials: CredentialsStatus
    keys: KeyringStatus
    configuration: ConfigurationStatus | None = None

    @property
    def refusals(self) -> list[str]:
        """The reasons for which present content of the files was rejected; empty if all of it is in use."""
        return [each.refusal.reason for each in self if each is not None and each.refusal is not None]


def _codec(allow: Iterable[type] | Allowlist, limits: Limits) -> Codec:
    """Return the codec for a list of types. Raises ConfigurationError."""
    if not isinstance(allow, Allowlist | Iterable) or isinstance(allow, type):
        raise ConfigurationError("allow must be a list of types: allow=[Order], or an Allowlist")
    if not isinstance(limits, Limits):
        raise ConfigurationError(f"limits must be Limits(…), not a value of type {type(limits).__name__}")
    return Codec(allow if isinstance(allow, Allowlist) else Allowlist(*allow), limits=limits)
