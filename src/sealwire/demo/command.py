"""``sealwire demo``: a service, its client and its attackers, each in a process of its own.

All that is shown was observed: how the server ended an attack, and whether the handler's own count of requests, which
the good client asks for, has moved.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.text import Text

from sealwire.demo.attacks import ATTACKS, HOSTILE, ORDER, REPLY, Attack
from sealwire.demo.processes import HOST, Client, Server, run, serving
from sealwire.pki.files import PRIVATE, NewFile, write_files
from sealwire.testing import Throwaway
from sealwire.wire.frames import escaped

SERVICE = '''\
"""Takes orders, and counts them."""

from itertools import count

handled = count(1)


def respond(order):
    return {"accepted": order, "handled": next(handled)}
'''
# Raw pickle on purpose: what an attacker would write.
_MAKE_HOSTILE = """\
import os, pickle, sys
class Order:
    def __reduce__(self):
        return os.system, (sys.argv[1],)
sys.stdout.buffer.write(pickle.dumps(Order()))
"""
# Raw pickle on purpose, in a process of its own: the victim, which is the service without Sealwire.
_LOAD_RAW = "import pickle, sys; pickle.load(sys.stdin.buffer)"
_MARKER = "marker"


@click.command()
def demo() -> None:
    """Attack a server, and watch.

    It makes a throwaway CA, starts a server and a client, and attacks the server, each from a process of its own. It
    takes seconds, stays on this machine and leaves nothing behind.

    Exit status: 0 if every attack was seen to fail and the good client was served after each of them, otherwise 1.
    """
    with _interruptible(), Throwaway() as place:
        failed = present(Console(highlight=False, soft_wrap=True), place, attacks=ATTACKS, service=SERVICE)
    if failed:
        raise click.exceptions.Exit(1)


def present(
    console: Console, place: Throwaway, *, attacks: Iterable[str], service: str, server: Mapping[str, Any] | None = None
) -> list[str]:
    """Run and show the whole demonstration.

    ``attacks`` are keys of ATTACKS, and ``service`` is the source of the server's module. ``server`` changes the
    server's configuration, for tests of the demonstration itself: an attack that succeeds must be seen. Returns the
    failures, which have been shown as well. Raises DemoFailed if the demonstration cannot go on.
    """
    started = monotonic()
    _deploy(place, service, server or {})
    _head(console, "A throwaway CA, keys and certificates")
    console.print(f"  in {place.directory}, gone at the end", markup=False)
    with serving(place.directory) as running:
        client = Client(place.directory, running.port, ORDER)
        _head(console, f"The server, process {running.pid}")
        _show(console, running.arguments, running.announced)
        _head(console, "A client, another process, with a request; its reply")
        _show(console, client.arguments, json.dumps(client.ask()))
        _head(console, "Attacks, each from its own process; after each, the good client's turn (#: requests handled)")
        failed, warnings = [], []
        for name in attacks:
            found = _attack(console, place.directory, running, client, name)
            failed += found
            if not found:
                warnings.append(running.warning() or f"no warning of {ATTACKS[name].title}")
        _head(console, "The server's log of them")
        for line in warnings:
            console.print(Text(f"  {escaped(line)}"))
        _head(console, "The end")
        status = running.stop()
        console.print(f"  SIGTERM: the server finished the requests in progress, and exited with status {status}")
    if status:
        failed.append(f"the server exited with status {status}")
    if failed:
        console.print(Text(f"  FAILED: {escaped('; '.join(failed))}", "bold red"))
    else:
        console.print(Text(f"  Every attack was refused, in {monotonic() - started:.1f} s in all.", "bold green"))
    return failed


def _attack(console: Console, directory: Path, server: Server, client: Client, name: str) -> list[str]:
    """Run an attack and show its end; return the failures."""
    attack = ATTACKS[name]
    before = client.handled
    done = run(directory, "-m", "sealwire.demo.attacks", name, HOST, str(server.port))
    end = done.stdout.decode(errors="replace").strip() or "a failure of the attacker itself"
    client.ask()
    handled = client.handled - before - 1
    executed = (directory / _MARKER).exists()
    wrong = _wrong(attack, end, handled, executed=executed)
    verdict = Text("refused", "green")
    if wrong:
        reached = end == REPLY or handled > attack.good or executed
        verdict = Text("GOT THROUGH" if reached else "UNEXPECTED", "bold red")
    result = wrong or (f"{end} (its original: #{before + 1})" if attack.good else end)
    console.print(
        Text.assemble(
            "  ",
            verdict,
            f"  {attack.title:<28}  {escaped(result):<41}  ",
            (f"good client served: #{client.handled}", "dim"),
        )
    )
    failed = [f"{attack.title}: {wrong}"] if wrong else []
    if name == "hostile-pickle" and not executed:
        failed += _prove_hostile(console, directory)
    return failed


def _wrong(attack: Attack, end: str, handled: int, *, executed: bool) -> str:
    """Return how an attack's end differs from the expected one; empty if it does not."""
    found = []
    if not end.startswith(attack.ends):
        found.append(f"it ended with {end}, not with {attack.ends.strip()}")
    if handled != attack.good:
        found.append(f"the handler saw {handled} of its requests, of which {attack.good} were good")
    if executed:
        found.append("its command was run")
    return ", ".join(found)


def _prove_hostile(console: Console, directory: Path) -> list[str]:
    """Load the attacker's bytes with raw pickle: an attack that cannot succeed anywhere would show nothing."""
    with (directory / HOSTILE).open("rb") as hostile:
        # Raw pickle on purpose: it runs the attacker's command, which makes an empty file in a throwaway directory.
        run(directory, "-c", _LOAD_RAW, stdin=hostile)
    if not (directory / _MARKER).exists():
        return ["the hostile pickle is harmless even to raw pickle, so it shows nothing"]
    (directory / _MARKER).unlink()
    console.print("           its command was not run; raw pickle.loads, in a process of its own, runs it")
    return []


def _deploy(place: Throwaway, service: str, changes: Mapping[str, Any]) -> None:
    """Write the files that the server, the client and each attacker need."""
    directory = place.directory
    place.leaf("server", HOST, profile="server")
    place.leaf("client", "client.example", profile="client")
    place.leaf("stranger", "stranger.example", profile="client")
    (directory / "other").mkdir(mode=0o700)
    Throwaway(directory / "other").leaf("client", "client.example", profile="client")
    place.new_keyring("wrong-keyring")
    anchored: dict[str, Any] = {"ca": "ca.pem", "keyring": "keyring.toml"}
    good = anchored | {"cert": "client.pem", "key": "client.key"}
    own = {"cert": "server.pem", "key": "server.key", "peers": ["dns:client.example"], "limits": {"max_frame": 65536}}
    configurations = {
        "server": {**anchored, **own, **changes},
        "client": good,
        "no-certificate": anchored,
        "other-ca": good | {"cert": "other/client.pem", "key": "other/client.key"},
        "stranger": good | {"cert": "stranger.pem", "key": "stranger.key"},
        "wrong-key": good | {"keyring": "wrong-keyring.toml"},
    }
    files = {f"{name}.toml": _toml(options) for name, options in configurations.items()}
    files["orders.py"] = service.encode()
    command = f"touch {shlex.quote(str(directory / _MARKER))}"
    files[str(HOSTILE)] = run(directory, "-c", _MAKE_HOSTILE, command).stdout
    write_files([NewFile(directory / name, content, PRIVATE) for name, content in files.items()])


def _toml(options: Mapping[str, Any]) -> bytes:
    limits = options.get("limits", {})
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items() if name != "limits"]
    return "\n".join([*lines, "[limits]", *(f"{name} = {value}" for name, value in limits.items()), ""]).encode()


def _head(console: Console, text: str) -> None:
    console.print(Text(f"\n{text}", "bold"))


def _show(console: Console, arguments: Iterable[str], answer: str) -> None:
    """Show a command as a user would type it, and its output."""
    console.print(Text.assemble("  $ ", (shlex.join(["sealwire", *arguments]), "cyan")))
    console.print(Text(f"  {escaped(answer)}"))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM clean up as ^C does, and exit with the usual status for it."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
