from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from sealwire.cli.addresses import Address
from sealwire.cli.app import app
from sealwire.cli.options import optional_address_argument


@click.command()
@optional_address_argument
def connect(address: Address) -> None:
    click.echo(repr(tuple(address)))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("server.example:7443", ("server.example", 7443)),
        ("[::1]:7443", ("::1", 7443)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
    ],
)
def test_addresses(text: str, address: Any) -> None:
    assert CliRunner().invoke(connect, [text]).stdout == f"{address!r}\n"


@pytest.mark.parametrize(
    "text", ["localhost", ":1", "localhost:0", "localhost:65536", "::1:80", "[]:1", "a:b:1", "a:\u0663"]
)
def test_what_is_not_an_address(text: str) -> None:
    result = CliRunner().invoke(connect, [text])
    assert result.exit_code == 64
    assert "expected HOST:PORT like server.example:7443 or [::1]:7443" in result.stderr


def test_a_short_option_is_the_same_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    commands: list[click.Command] = [app]
    while commands:
        command = commands.pop()
        if isinstance(command, click.Group):
            context = click.Context(command)
            commands += [
                found for name in command.list_commands(context) if (found := command.get_command(context, name))
            ]
        for option in command.params:
            short = [name for name in option.opts if len(name) == 2]
            if isinstance(option, click.Option) and short and command.name != "check":  # which is a plugin
                meanings.setdefault(short[0], set()).add(max(option.opts, key=len))
    assert meanings.pop("-n") == {"--count", "--requests", "--times"}, "a number, of what the command does"
    assert {short: len(names) for short, names in meanings.items()} == dict.fromkeys(meanings, 1), meanings
    assert {"-c", "-d", "-f", "-j", "-o", "-p", "-q", "-t", "-v"} <= set(meanings)


@pytest.mark.parametrize(
    "command",
    [
        "call a..b:1 1 --config x",
        "call 300.1.1.1:1 1 --config x",
        "ping udp://a..b:1 --config x",
        "ping localhost:1,a..b:1 --config x",
        "ping localhost:1,localhost:1 --config x",
        "doctor a..b:1 --config x",
        "status a..b:1 --config x",
        "bench a..b:1 --config x",
        "certs init --server a..b",
        "certs init --client 300.1.1.1",
        "certs issue server 300.1.1.1",
        "certs request client a..b",
        "certs issue server ops@a.example",
        "certs sign x.csr --name a..b",
        "keys new --identity client.example",
        "keys rotate --id a\tb",
        "keys export --for client.example",
        "serve a:b --config x --host a..b",
        "serve a:b --config x --bind a..b:1",
        "serve a:b --config x --admin 192.0.2.1:1",
        "serve a:b --config x --nats http://a --subject b",
        "serve a:b --config x --nats nats://a --subject b..c",
        "status --admin 192.0.2.1:1",
        "top 192.0.2.1:1",
    ],
)
def test_a_value_of_a_wrong_form_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command.split(" "))
    assert result.exit_code == 64, result.output
    assert "Error: Invalid value for " in result.stderr
    assert list(tmp_path.iterdir()) == []
