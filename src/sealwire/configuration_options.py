"""The options of a configuration file that are more than a value: each is read from the parsed document.

When a configuration is loaded again, what has not changed is the object that is in service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from sealwire import toml_options
from sealwire.errors import ConfigurationError, RemoteError
from sealwire.limits import SERVER_WIDE, Limits
from sealwire.pickling.importing import import_object
from sealwire.trust.credentials import Credentials
from sealwire.trust.keyring import Keyring
from sealwire.trust.peers import PeerPolicy

ANY_SIGNED_BY_CA: Final = "any-signed-by-ca"


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
        ca=files["ca"],
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
    try:
        return None if entries is None else PeerPolicy(entries)
    except ConfigurationError as error:
        raise ConfigurationError(f"peers: {error}") from None
