"""Messages for a user who wrote TOML have TOML's spellings, and those for one who wrote Python have Python's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sealwire import Key, Keyring, Limits, PeerPolicy, Security, ThreadingTCPServer
from sealwire.errors import SealwireError
from sealwire.middleware import Rule
from sealwire.nats import SynchronousNATSClient
from sealwire.session.terms import check_unix_socket
from support.commands import write_config
from support.service import Deployment

PYTHON = re.compile(r"\b(True|False|None|dict|str|int|bool|tuple|list of str|a datetime)\b|\w+=\S|\w\(|\b[A-Z]\w+\.\w+")
TOML = re.compile(r"\b(true|false)\b|\w = |\[\[?[a-z.]+\]\]?|\b(array|boolean|table)\b|\blimits\.")
KEY = 'secret = "' + 43 * "A" + '="\n'


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(SealwireError) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "peers = []",
        "peers = 5",
        "peers = [5]",
        "peers = ['x']",
        "names = 'x'",
        "service = 1",
        "cert = []",
        "allow_readable_key = 'yes'",
        "proxy_protocol = 'x'",
        "codec = 1",
        "faults = {a = 1}",
        "limits = []",
        "[limits]\nmax_frame = 1",
        "[limits]\nmax_frame = true",
        "[limits]\nmax_frame = {}",
        "[limits]\nmax_frame = 2026-01-01",
        "[limits]\nidle_timeout = inf",
        "[limits]\nreload = 1",
        "[admin]\nlisten = 1",
        "[[authorise]]",
        "[[authorise]]\ntypes = ['builtins:dict']",
        "[[authorise]]\ntypes = ['builtins:int']\npeers = []",
        "[allowlist]\ntypes = 1",
        "[allowlist]\nwithout = ['x']",
        "[allowlist]\nadapters = [1]",
        "[allowlist]\nmissing = 1",
    ],
)
def test_configurations(deployment: Deployment, tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f'ca = "{deployment.place.ca}"\nkeyring = "{deployment.place.keyring}"\n{text}\n')
    message = refused(lambda: Security.from_toml(path)).removeprefix(f"{path}: ")
    assert not PYTHON.search(message), message


@pytest.mark.parametrize(
    "text", ["key = []", "key = {}", "[[key]]\nid = 1", "[[key]]\nid = 'a'\nrevoked = 1", f"[[key]]\nid = 1\n{KEY}",
             f"[[key]]\nid = 'a'\n{KEY}not_before = 2026-01-01", f"[[key]]\nid = 'a'\n{KEY}identity = 1"],
)  # fmt: skip
def test_keyrings(text: str) -> None:
    message = refused(lambda: Keyring.from_toml(text, source="file"))
    assert not PYTHON.search(message), message


@pytest.mark.parametrize(
    "action",
    [
        lambda: Limits(max_frame=1),
        lambda: Limits(max_frame=True),
        lambda: Limits(idle_timeout=float("inf")),
        lambda: PeerPolicy([]),
        lambda: PeerPolicy("dns:a.example"),
        lambda: PeerPolicy([5]),
        lambda: Keyring([]),
        lambda: Key("a", b"short"),
        lambda: Key("a", bytes(32), not_before=1),
        lambda: Rule([], []),
    ],
)
def test_programs(action: Callable[[], object]) -> None:
    message = refused(action)
    assert not TOML.search(message), message


@pytest.mark.parametrize("options", [{}, {"service": "orders"}])
def test_a_unix_socket(deployment: Deployment, tmp_path: Path, options: dict[str, str]) -> None:
    path = tmp_path / "x.toml"
    write_config(path, deployment, **options)
    message = refused(lambda: check_unix_socket(Security.from_toml(path)))
    assert TOML.search(message), message
    assert not PYTHON.search(message), message
    message = refused(lambda: check_unix_socket(deployment.security("client", **options)))
    assert PYTHON.search(message), message
    assert not TOML.search(message), message


def test_a_client_on_nats(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    write_config(path, deployment)
    message = refused(lambda: SynchronousNATSClient("nats://a", "orders", security=Security.from_toml(path)))
    assert 'peers = ["spiffe://example/orders"]' in message
    assert not PYTHON.search(message), message


def test_a_server_without_a_list_of_peers(deployment: Deployment, tmp_path: Path) -> None:
    """In each of both languages, since it needs more than a name."""
    path = tmp_path / "x.toml"
    cert, key = deployment.files["server"]
    path.write_text(
        f'cert = "{cert}"\nkey = "{key}"\nca = "{deployment.place.ca}"\nkeyring = "{deployment.place.keyring}"\n'
    )
    address = ("127.0.0.1", 0)
    message = refused(lambda: ThreadingTCPServer(address, print, Security.from_toml(path)))
    assert 'peers = ["dns:client.example", …]; peers = "any-signed-by-ca"' in message
    assert not PYTHON.search(message), message
    message = refused(lambda: ThreadingTCPServer(address, print, deployment.security("server")))
    assert "peers=['dns:client.example', …]; PeerPolicy.any_signed_by_ca()" in message
    assert not TOML.search(message), message
