"""The options of a configuration file: from a parsed document to the arguments of a Security.

When a configuration is loaded again, what has not changed is the object that is in service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from sealwire import toml_options
from sealwire.authorisation import Authorisation
from sealwire.codec import Allowlist, Codec, RawCodec
from sealwire.errors import ConfigurationError, RemoteError
from sealwire.limits import SERVER_WIDE, Limits
from sealwire.pickling.importing import import_object
from sealwire.trust.credentials import Credentials
from sealwire.trust.keyring import Keyring
from sealwire.trust.peers import PeerPolicy

FILES: Final = ("cert", "key", "ca", "crl", "keyring")
_OPTIONS: Final = (
    *FILES, "peers", "service", "names", "codec", "limits", "allowlist", "faults", "authorise", "allow_readable_key",
    "reload_config", "admin", "proxy_protocol", "keyring_group",
)  # fmt: skip
ANY_SIGNED_BY_CA: Final = "any-signed-by-ca"


class InService(Protocol):
    """The parts of the Security in service that one of a changed configuration may keep."""

    @property
    def limits(self) -> Limits:
        """Its limits."""

    @property
    def credentials(self) -> Credentials:
        """Its certificates and private key."""

    @property
    def keys(self) -> Keyring:
        """Its keyring."""

    @property
    def admin(self) -> str | None:
        """The address of its admin endpoint."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """A configuration that was read.

    Attributes:
        arguments: The arguments of its Security.
        watched: True if the file is to be read again when it changes.
        admin: The address of the admin endpoint; None without one.
        waiting: The settings that need a restart: their values in the file, and in service.
        agreed: The settings that both ends of a connection, and its messages, depend on.
    """

    arguments: dict[str, Any]
    watched: bool
    admin: str | None
    waiting: dict[str, tuple[object, object]]
    agreed: object


def read(document: Mapping[str, Any], directory: Path, previous: InService | None) -> Options:
    """Read a parsed configuration with paths relative to ``directory``.

    ``previous`` is in service, None at first. Certificates and keys of the same files are the same objects.
    """
    toml_options.reject_unknown(document, _OPTIONS, "")
    _reject_misplaced(document)
    files = {option: directory / toml_options.path(document, option) for option in FILES if option in document}
    if "keyring" not in files:
        raise ConfigurationError("keyring is missing; expected a path as a string")
    bounds, waiting = limits(document, None if previous is None else previous.limits)
    payloads = codec(document, bounds)
    readable = toml_options.get_typed(document, "allow_readable_key", bool, "true or false", False)
    group = toml_options.get_typed(document, "keyring_group", bool, "true or false", False)
    watched = toml_options.get_typed(document, "reload_config", bool, "true or false", False)
    certificates, keys = (None, None) if previous is None else (previous.credentials, previous.keys)
    arguments = {
        "credentials": credentials(files, readable, group, bounds, certificates),
        "keys": keyring(files["keyring"], group, keys),
        "peers": peers(document),
        "service": toml_options.get_typed(document, "service", str, "a string", ""),
        "names": toml_options.strings(document, "names") or (),
        "codec": payloads,
        "limits": bounds,
        "faults": faults(document),
        "authorise": Authorisation.from_tables(document["authorise"]) if "authorise" in document else None,
        "proxy_protocol": toml_options.strings(document, "proxy_protocol"),
    }
    listens = admin(document)
    if previous is not None and previous.admin != listens:
        waiting["admin.listen"] = (listens, previous.admin)
        listens = previous.admin
    agreed = (arguments["service"], payloads.name, repr([document.get(name) for name in ("allowlist", "authorise")]))
    return Options(arguments=arguments, watched=watched, admin=listens, waiting=waiting, agreed=agreed)


def _reject_misplaced(document: Mapping[str, Any]) -> None:
    """Refuse options of the file itself that stand below the head of a table, and so belong to it."""
    for name in ("limits", "allowlist", "admin"):
        table = document.get(name)
        for option in table if isinstance(table, dict) else ():
            if option in _OPTIONS:
                raise ConfigurationError(f"{option} is below [{name}], as if it were a part of that; put it above")


def codec(document: Mapping[str, Any], bounds: Limits) -> Codec | RawCodec:
    """Return the codec of a configuration."""
    allowlist = Allowlist.from_table(document.get("allowlist", {}))
    name = toml_options.get_typed(document, "codec", str, f"{Codec.name!r} or {RawCodec.name!r}", Codec.name)
    if name == Codec.name:
        return Codec(allowlist, limits=bounds)
    if name != RawCodec.name:
        raise ConfigurationError(f"codec: expected {Codec.name!r} or {RawCodec.name!r}")
    if allowlist.adapters:
        raise ConfigurationError(
            "allowlist: the codec 'raw' sends bytes and has no types; remove either the allowlist or codec = 'raw'"
        )
    return RawCodec()


def limits(document: Mapping[str, Any], previous: Limits | None) -> tuple[Limits, dict[str, tuple[object, object]]]:
    """Return the limits of a configuration, and those that a running server keeps: wanted and present values."""
    found = Limits.from_table(document.get("limits", {}))
    if previous is None:
        return found, {}
    kept = {name: getattr(previous, name) for name in SERVER_WIDE}
    wanted = {name: getattr(found, name) for name in SERVER_WIDE}
    waiting = {f"limits.{name}": (wanted[name], kept[name]) for name in SERVER_WIDE if wanted[name] != kept[name]}
    return replace(found, **kept), waiting


def admin(document: Mapping[str, Any]) -> str | None:
    """Return the address in the table ``[admin]``; None without the table."""
    if "admin" not in document:
        return None
    table = toml_options.get_typed(document, "admin", dict, "a table with listen")
    toml_options.reject_unknown(table, ("listen",), "admin.")
    listen: str = toml_options.get_typed(table, "listen", str, "an address like '127.0.0.1:9090' as a string")
    return listen


def credentials(
    files: Mapping[str, Path], readable: bool, group: bool, bounds: Limits, previous: Credentials | None
) -> Credentials:
    """Return the credentials of these files: those in service, if they are of the same."""
    named = {part: path for part, path in files.items() if part != "keyring"}
    if previous is not None and previous.is_made_of(
        named, allow_readable_key=readable, keyring_group=group, max_crl=bounds.max_crl
    ):
        return _in_order(previous)
    return Credentials.from_files(
        cert=files.get("cert"),
        key=files.get("key"),
        ca=files.get("ca"),
        crl=files.get("crl"),
        allow_readable_key=readable,
        keyring_group=group,
        max_crl=bounds.max_crl,
    )


def keyring(path: Path, group: bool, previous: Keyring | None) -> Keyring:
    """Return the keyring of this file: the one in service, if it is of the same."""
    if previous is not None and previous.is_made_of(path, keyring_group=group):
        return _in_order(previous)
    return Keyring.from_file(path, keyring_group=group)


F = TypeVar("F", Credentials, Keyring)


def _in_order(files: F) -> F:
    """Return these if the present content of their files is in service. Raises ConfigurationError with the reason."""
    if files.refusal is not None:
        raise ConfigurationError(files.refusal.reason)
    return files


def faults(document: Mapping[str, Any]) -> list[type[RemoteError]]:
    """Return the exceptions for faults in a configuration."""
    try:
        return [import_object(name) for name in toml_options.strings(document, "faults") or ()]
    except ConfigurationError as error:
        text = str(error)
        raise ConfigurationError(text if text.startswith("faults: ") else f"faults: {text}") from None


def peers(document: Mapping[str, Any]) -> PeerPolicy | None:
    """Return the list of peers in a configuration, None without one."""
    if document.get("peers") == ANY_SIGNED_BY_CA:
        return PeerPolicy.any_signed_by_ca()
    if "peers" in document and type(document["peers"]) is not list:
        raise ConfigurationError(f"peers: expected a list of strings, or {ANY_SIGNED_BY_CA!r}")
    entries = toml_options.strings(document, "peers")
    if entries is not None and ANY_SIGNED_BY_CA in entries:
        raise ConfigurationError(f'peers: {ANY_SIGNED_BY_CA} is no entry of a list; write peers = "{ANY_SIGNED_BY_CA}"')
    try:
        return None if entries is None else PeerPolicy(entries)
    except ConfigurationError as error:
        raise ConfigurationError(f"peers: {error}") from None
