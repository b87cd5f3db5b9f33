"""Types of one's own between processes: named in both configuration files, found in the current directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sealwire import Allowlist, Codec, RemoteError, Security, SynchronousTCPClient, TypeNotAllowed
from support.commands import Served

SHOP = """\
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum


class Unit(Enum):
    PIECE = "piece"
    METRE = "metre"


@dataclass(frozen=True)
class Order:
    item: str
    count: int
    unit: Unit = Unit.PIECE

    def __post_init__(self):
        if self.count < 1:
            raise ValueError("no goods")


@dataclass
class Receipt:
    order: Order
    price: Decimal


def respond(message):
    if isinstance(message, Order):
        return Receipt(message, Decimal("4.20") * message.count)
    return [Order("nails", 1, Unit.METRE)]
"""
ALLOWED = '[allowlist]\ntypes = ["shop:Order", "shop:Unit", "shop:Receipt"]\n'


@pytest.fixture
def sealwire() -> list[str]:
    """The installed script, which does not find modules in the current directory by itself as `python -m` does."""
    return [str(Path(sys.executable).with_name("sealwire"))]


def test_types_in_another_directory(directory: Path, sealwire: list[str]) -> None:
    app, elsewhere = directory / "app", directory / "elsewhere"
    app.mkdir()
    elsewhere.mkdir()
    (app / "shop.py").write_text(SHOP)
    for role in ("server", "client"):
        with (directory / f"{role}.toml").open("a") as file:
            file.write(ALLOWED)

    def run(command: str, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [*sealwire, *command.split(), *arguments],
            cwd=elsewhere, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    options = "--config", "../client.toml", "--app-dir", "../app"
    with Served(directory, "--app-dir", "app", handler="shop:respond", script=sealwire) as served:
        place = f"127.0.0.1:{served.port}"
        order = '{"item": "nails", "count": 2}'
        assert '"8.40"' in run("call", place, order, "--type", "shop:Order", *options)
        assert "there is no module 'shop'" in run("call", place, "1", "--config", "../client.toml", status=1)
        assert "1 in" in run("bench", place, "--message", "1", "--requests", "1", *options)
        assert "shop.Order" in run("allowlist check", *options)
        run("doctor", place, *options)
        # No message, no type: nothing of the user's is imported.
        assert "ms" in run("ping", place, "--config", "../client.toml")
        assert "OK" in run("check", place, "--config", "../client.toml")
        run("status", place, "--config", "../server.toml")


def test_types_between_processes(directory: Path, sealwire: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "shop.py").write_text(SHOP)
    for role in ("server", "client"):
        with (directory / f"{role}.toml").open("a") as file:
            file.write(ALLOWED)
    with Served(directory, handler="shop:respond", script=sealwire) as served:
        done = subprocess.run(
            [*sealwire, "call", f"127.0.0.1:{served.port}", "1", "--config", "client.toml"],
            cwd=directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert '"nails"' in done.stdout

        monkeypatch.syspath_prepend(directory)
        import shop

        security = Security.from_toml(directory / "client.toml")
        with SynchronousTCPClient("127.0.0.1", served.port, security=security) as client:
            receipt = client.send_request(shop.Order("nails", 3, shop.Unit.METRE))
            assert str(receipt.price) == "12.60"
            assert receipt.order == shop.Order("nails", 3, shop.Unit.METRE)
            # Written as a call of the class, which is not how instances are written.
            lax = Security(
                credentials=security.credentials, keys=security.keys,
                codec=Codec(Allowlist().register(shop.Order, dump=lambda o: (o.item, o.count, 1), load=shop.Order)),
            )  # fmt: skip
            with SynchronousTCPClient("127.0.0.1", served.port, security=lax) as liar:
                with pytest.raises(RemoteError) as refused:
                    liar.send_request(shop.Order("nails", 1))
                assert refused.value.code == 17
        none = Security(credentials=security.credentials, keys=security.keys)
        with SynchronousTCPClient("127.0.0.1", served.port, security=none) as client:
            with pytest.raises(TypeNotAllowed):
                client.send_request(1)
            assert client.ping() > 0, "the connection stays"
