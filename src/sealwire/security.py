"""Security: the one object that a server or a client is given."""

from __future__ import annotations

import os
import ssl
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sealwire import tables
from sealwire.encoding import Allowlist, Codec, RawCodec
from sealwire.errors import ConfigurationError, PeerNotAllowed
from sealwire.keyring import Keyring, KeyringStatus, KeySet, may_use
from sealwire.limits import Limits
from sealwire.tls.contexts import client_context, server_context
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.credentials import Credentials, CredentialsStatus
from sealwire.tls.identity import PeerIdentity, canonical_host
from sealwire.tls.policy import PeerPolicy
from sealwire.wire.client import ClientProtocol, Offer
from sealwire.wire.frames import VerifiedPayload
from sealwire.wire.keys import Binding, Key
from sealwire.wire.server import ServerProtocol, Terms

ANY_SIGNED_BY_CA = "any-signed-by-ca"
_MAX_SERVER_NAME = 255
_FILES = ("cert", "key", "ca", "crl", "keyring")
_OPTIONS = (*_FILES, "peers", "service", "names", "codec", "limits", "allowlist")

_T = TypeVar("_T")


class Security:
    """Everything that an endpoint trusts, shows and bounds; immutable, and shared by any number of servers and clients.

    credentials: certificate, private key and trust anchors. keys: the keyring. peers: who may be at the other end; a
    server needs it, a client without it takes whoever the trust anchors say is the host that it wants. service: both
    ends must say the same; give different ones to services that share a certificate or a key. names: further host names
    of this server than those in its certificate. codec: how payloads become objects (default: Codec(), of standard
    value types). limits: the bounds (default: Limits(); those of the codec are its own).

    Raises ConfigurationError.
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
        self._contexts: tuple[CredentialSet, dict[str, Any]] = credentials.current, {}

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
    ) -> Security:
        """From PEM files and a keyring file; ``allow``: the types that messages may hold beside plain data.

        Raises ConfigurationError, naming the file and the remedy.
        """
        if not isinstance(allow, Allowlist | Iterable) or isinstance(allow, type):
            raise ConfigurationError("allow must be a list of types: allow=[Order], or an Allowlist")
        if not isinstance(limits, Limits | None):
            raise ConfigurationError(f"limits must be Limits(…), not a value of type {type(limits).__name__}")
        allowlist = allow if isinstance(allow, Allowlist) else Allowlist(*allow)
        limits = limits if limits is not None else Limits()
        return cls(
            credentials=Credentials.from_files(cert=cert, key=key, ca=ca, crl=crl),
            keys=Keyring.from_file(keyring),
            peers=peers,
            service=service,
            names=names,
            codec=Codec(allowlist, limits=limits),
            limits=limits,
        )

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Security:
        """From a configuration file (docs/reference/configuration.md); paths in it are relative to it.

        Raises ConfigurationError for an unknown key or a bad value, naming file, key and the form expected.
        """
        name = os.fspath(path)
        try:
            with open(path, "rb") as file:
                document = tomllib.load(file)
        except OSError as error:
            raise ConfigurationError(f"{name}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{name}: not valid TOML: {error}") from None
        try:
            return cls._from_document(document, Path(path).parent)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None

    @classmethod
    def _from_document(cls, document: Mapping[str, Any], directory: Path) -> Security:
        tables.only(document, _OPTIONS, "")
        files = {option: directory / tables.path(document, option) for option in _FILES if option in document}
        for option in ("ca", "keyring"):
            if option not in files:
                raise ConfigurationError(f"{option} is missing; expected a path as a string")
        limits = Limits.from_table(document.get("limits", {}))
        allowlist = Allowlist.from_table(document.get("allowlist", {}))
        codec = tables.typed(document, "codec", str, f"{Codec.name!r} or {RawCodec.name!r}", Codec.name)
        if codec not in (Codec.name, RawCodec.name):
            raise ConfigurationError(f"codec: expected {Codec.name!r} or {RawCodec.name!r}")
        if codec == RawCodec.name and allowlist.adapters:
            raise ConfigurationError(
                "allowlist: the codec 'raw' sends bytes and has no types; take one of the two away"
            )
        return cls(
            credentials=Credentials.from_files(
                cert=files.get("cert"), key=files.get("key"), ca=files["ca"], crl=files.get("crl")
            ),
            keys=Keyring.from_file(files["keyring"]),
            peers=_peers(document),
            service=tables.typed(document, "service", str, "a string", ""),
            names=tables.strings(document, "names") or (),
            codec=RawCodec() if codec == RawCodec.name else Codec(allowlist, limits=limits),
            limits=limits,
        )

    def __repr__(self) -> str:
        return f"<Security of {self.credentials.identity or 'nobody'}, {self.keys!r}, peers {self.peers!r}>"

    def reload(self) -> bool:
        """Look at all files now. Whether what they hold is in service; if not, the log and :meth:`status` say why.

        They are looked at anyway when a connection is made, at most once in Limits.reload_interval.
        """
        return all([self.credentials.reload(), self.keys.reload()])

    def refresh(self) -> None:
        """Look at the files, where the last look is Limits.reload_interval ago."""
        self.present()
        self.present_keys()

    def status(self) -> SecurityStatus:
        """What is in service, and why the files' content is not where it is not."""
        return SecurityStatus(self.credentials.status(), self.keys.status())

    # For the channel

    def check_server(self, *, local: bool = False) -> None:
        """Raises ConfigurationError where a server could not work with this. local: on a Unix socket."""
        if local:
            self.check_local()
            return
        if self.peers is None:
            raise ConfigurationError(
                "a server must be told who may connect: peers=['dns:client.example', …]; "
                "PeerPolicy.any_signed_by_ca() is the explicit way to trust everybody with a certificate of the CA"
            )
        self.server_context(self.credentials.current)

    def present(self) -> CredentialSet:
        """The credentials for a new connection, the same ones from its first step to its last."""
        return self.credentials.refresh(self.limits.reload_interval)

    def present_keys(self) -> KeySet:
        """The keys for a new connection."""
        return self.keys.refresh(self.limits.reload_interval)

    def server_context(self, credentials: CredentialSet) -> ssl.SSLContext:
        """The TLS context of a server."""
        anonymous = self.peers is not None and self.peers.allows_anonymous
        return self.context(credentials, "server", lambda: server_context(credentials, anonymous=anonymous))

    def check_local(self) -> None:
        """Raises ConfigurationError where the two ends of a Unix socket could not work with this."""
        if not self.service:
            raise ConfigurationError(
                "on a Unix socket there is no host name: give the service a name, service='orders', the same at both "
                "ends"
            )
        if self.peers is None or not self.peers.names_processes:
            raise ConfigurationError(
                "on a Unix socket there are no certificates, and the kernel says which process is at the other end: "
                f"give peers=['uid:{os.geteuid()}', …], whose processes may be there"
            )

    def client_context(self, credentials: CredentialSet) -> ssl.SSLContext:
        """The TLS context of a client."""
        check = not self.replaces_host_name
        return self.context(credentials, "client", lambda: client_context(credentials, check_hostname=check))

    def context(self, credentials: CredentialSet, side: str, make: Callable[[], _T]) -> _T:
        """What was made for that side with those credentials, once for all connections."""
        of, contexts = self._contexts
        if of is not credentials:
            contexts = {}
            self._contexts = credentials, contexts
        if side not in contexts:
            contexts[side] = make()
        made: _T = contexts[side]
        return made

    @property
    def replaces_host_name(self) -> bool:
        """Whether a client verifies a URI or fingerprint of the server instead of the host name."""
        return self.peers is not None and self.peers.replaces_host_name

    def decode(self, payload: VerifiedPayload) -> Any:
        """The value that a verified payload stands for; unverified bytes do not type-check here. Raises DecodeError."""
        return self.codec.decode(payload)

    def client_protocol(self, credentials: CredentialSet, *, host: str, server: bytes) -> ClientProtocol:
        """A client's protocol, on a stream; arguments and errors as of :meth:`client_offer`."""
        return ClientProtocol(**self.client_offer(credentials, host=host, server=server))

    def client_offer(self, credentials: CredentialSet, *, host: str, server: bytes) -> Offer:
        """What a client says to ``host`` (canonical), whose verified leaf certificate is ``server`` (DER).

        Raises PeerNotAllowed, ConfigurationError.
        """
        self._check_peer(PeerIdentity.from_der(server), host)
        binding = Binding.of(server=server, client=credentials.leaf)
        return self._offer(credentials.identity, "" if self.replaces_host_name else host, binding)

    def local_client_protocol(self, own: PeerIdentity, peer: PeerIdentity) -> ClientProtocol:
        """The same on a Unix socket, between two processes. Raises PeerNotAllowed, ConfigurationError."""
        self._check_peer(peer, "the socket")
        return ClientProtocol(**self._offer(own, "", Binding()))

    def _check_peer(self, peer: PeerIdentity, where: str) -> None:
        if self.peers is not None and not self.peers.allows(peer):
            raise PeerNotAllowed(
                f"the server at {where} showed {peer}, which is not on this client's list of peers; "
                "add one of its names to peers if it is the right one"
            )

    def _offer(self, own: PeerIdentity | None, host: str, binding: Binding) -> Offer:
        name = f"{host}/{self.service}" if self.service else host
        if len(name) > _MAX_SERVER_NAME:
            raise ConfigurationError(f"host and service have {len(name)} characters; the most is {_MAX_SERVER_NAME}")
        return Offer(
            key=self.signing_key(own),
            binding=binding,
            codec=self.codec.name,
            server_name=name,
            max_frame=self.limits.max_frame,
        )

    def signing_key(self, identity: PeerIdentity | None) -> Key:
        """The key that a client of that identity signs with now. Raises ConfigurationError."""
        return self.present_keys().signing_key(datetime.now(UTC), usable=lambda key: may_use(key, identity))

    def server_protocol(
        self,
        credentials: CredentialSet | None,
        *,
        client: PeerIdentity | None,
        leaf: bytes | None,
        busy: Callable[[], int | None],
    ) -> ServerProtocol:
        """A server's protocol, on a stream; arguments as of :meth:`server_terms`."""
        return ServerProtocol(self.server_terms(credentials, client=client, leaf=leaf, busy=busy))

    def server_terms(
        self,
        credentials: CredentialSet | None,
        *,
        client: PeerIdentity | None,
        leaf: bytes | None,
        busy: Callable[[], int | None],
    ) -> Terms:
        """What a server asks of a connection from ``client``, whose verified leaf certificate is ``leaf`` (DER).

        credentials: what the server has shown; None on a Unix socket. busy: the code to REJECT an authorised client
        with, or None.
        """

        def lookup(key_id: str) -> Key | None:
            return self.present_keys().verifying_key(key_id, datetime.now(UTC), client)

        return Terms(
            lookup=lookup,
            accepts_name=self._is_service if credentials is None else partial(self._accepts, credentials.identity),
            binding=Binding() if credentials is None else Binding.of(server=credentials.leaf, client=leaf),
            codec=self.codec.name,
            max_frame=self.limits.max_frame,
            allowed=self.peers is not None and self.peers.allows(client),
            busy=busy,
        )

    def accepts_host(self, host: str) -> bool:
        """Whether that is a name of this server: by its certificate, or by ``names``. Raises ConfigurationError."""
        name = canonical_host(host)
        own = self.credentials.identity
        return name in self.names or (own is not None and own.is_named(name))

    def _is_service(self, name: str) -> bool:
        return name == f"/{self.service}"

    def _accepts(self, own: PeerIdentity | None, name: str) -> bool:
        host, slash, service = name.partition("/")
        if service != self.service or bool(slash) is not bool(self.service):
            return False
        try:
            if host and canonical_host(host) != host:
                return False
        except ConfigurationError:
            return False
        return host == "" or host in self.names or (own is not None and own.is_named(host))


class SecurityStatus(NamedTuple):
    """What is in service of the two kinds of files."""

    credentials: CredentialsStatus
    keys: KeyringStatus

    @property
    def refusals(self) -> list[str]:
        """Why the files' present content is not in service; empty where it is."""
        return [each.refusal.reason for each in self if each.refusal is not None]


def _peers(document: Mapping[str, Any]) -> PeerPolicy | None:
    if document.get("peers") == ANY_SIGNED_BY_CA:
        return PeerPolicy.any_signed_by_ca()
    if "peers" in document and type(document["peers"]) is not list:
        raise ConfigurationError(f"peers: expected a list of strings, or {ANY_SIGNED_BY_CA!r}")
    entries = tables.strings(document, "peers")
    try:
        return None if entries is None else PeerPolicy(entries)
    except ConfigurationError as error:
        raise ConfigurationError(f"peers: {error}") from None
