"""``sealwire keys list`` and ``show``: the keys in a keyring file, without their secrets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sealwire.cli.console import print_fields, print_json, print_line, print_table
from sealwire.cli.keys.common import file_option, find_keys, keys
from sealwire.cli.lifetimes import iso, key_state
from sealwire.cli.options import json_option
from sealwire.moments import moment_text
from sealwire.trust.keyring import Keyring
from sealwire.wire.keys import Key


def _times(key: Key) -> tuple[str, str]:
    return moment_text(key.not_before, none="any time"), moment_text(key.not_after)


def _print_json(chosen: list[Key], ring: Keyring, revoked: Sequence[str] = ()) -> None:
    print_json(
        [
            {
                "id": key.id,
                "not_before": iso(key.not_before),
                "not_after": iso(key.not_after),
                "identity": key.identity,
                "state": key_state(key, ring),
            }
            for key in chosen
        ]
        + [
            {"id": key_id, "not_before": None, "not_after": None, "identity": None, "state": "revoked"}
            for key_id in revoked
        ]
    )


@keys.command("list")
@json_option
@file_option
def list_(*, as_json: bool, path: Path) -> None:
    """List the keys in a keyring file, never their secrets."""
    ring = Keyring.from_file(path)
    if as_json:
        _print_json(list(ring), ring, ring.current.revoked)
    else:
        rows = [(key.id, *_times(key), key.identity or "every client", key_state(key, ring)) for key in ring]
        rows += [(key_id, "", "", "", "revoked") for key_id in ring.current.revoked]
        print_table(("id", "valid from", "until", "for", "state"), rows)


@keys.command()
@click.argument("key_id", metavar="[ID]", required=False)
@json_option
@file_option
def show(*, key_id: str | None, as_json: bool, path: Path) -> None:
    """Show one key or all, never their secrets.

    \b
    sealwire keys show 2026-11-25-4f1a
    """
    ring = Keyring.from_file(path)
    chosen = find_keys(ring, key_id, path)
    if as_json:
        _print_json(chosen, ring)
        return
    for key in chosen:
        start, end = _times(key)
        print_line(f"key {key.id}")
        print_fields(
            [
                ("state", key_state(key, ring)),
                ("valid from", start),
                ("until", end),
                ("for", key.identity or "every client"),
                ("secret", f"{len(key.secret)} bytes, not shown"),
            ]
        )
