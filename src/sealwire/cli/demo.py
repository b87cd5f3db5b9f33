"""``sealwire demo``: a service, its client and those who attack it, each a process of its own.

What is shown is what was observed: how the server ended an attack, and whether the handler's own count of requests, for
which the good client asks, has moved.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import IO, Any, NoReturn

import click
from rich.console import Console
from rich.text import Text

from sealwire.cli.attacks import ATTACKS, HOSTILE, ORDER
from sealwire.cli.console import printable
from sealwire.errors import SealwireError
from sealwire.testing import Throwaway
from sealwire.tls.files import PRIVATE, NewFile, write_files

HOST = "127.0.0.1"
SERVICE = '''\
"""Takes orders, and counts them."""

from itertools import count

handled = count(1)


def respond(order):
    return {"accepted": order, "handled": next(handled)}
'''
_MAKE_HOSTILE = """\
import os, pickle, sys
class Order:
    def __reduce__(self):
        return os.system, (sys.argv[1],)
sys.stdout.buffer.write(pickle.dumps(Order()))
"""
_LOAD_RAW = "import pickle, sys; pickle.load(sys.stdin.buffer)"
_MARKER = "marker"
_PATIENCE = 20.0
"""Seconds for one process of the demonstration."""
_LOG_PATIENCE = 3.0


class DemoFailed(SealwireError):
    """The demonstration could not go on."""


@click.command()
def demo() -> None:
    """Attack a server in nine ways, and watch.

    A throwaway CA, a server in a process of its own, a client in another, then the attacks, each from one more process.
    It takes seconds, stays on this machine and leaves nothing behind. The exit status is 0 only if every attack was
    seen to fail, and the good client was served after each of them.
    """
    with _interruptible(), Throwaway() as place:
        failed = present(Console(highlight=False, soft_wrap=True), place)
    if failed:
        raise click.exceptions.Exit(1)


def present(
    console: Console,
    place: Throwaway,
    *,
    attacks: Iterable[str] = tuple(ATTACKS),
    service: str = SERVICE,
    server: Mapping[str, Any] | None = None,
) -> list[str]:
    """The whole demonstration. Returns what failed, which has been shown as well.

    attacks: keys of ATTACKS. service: the server's module. server: changes to the server's configuration. The last two
    are there for tests of the demonstration itself, in which an attack must be seen to succeed.
    """
    started = monotonic()
    _deploy(place, service, server or {})
    console.print(Text("A throwaway CA, keys and certificates", "bold"))
    console.print(f"  in {place.directory}, gone at the end")
    with _Server(place.directory) as running:
        console.print(Text("\nThe server, a process of its own", "bold"))
        console.print(f"  $ sealwire serve orders:respond --config server.toml     (pid {running.process.pid})")
        console.print(f"  {printable(running.announced)}")
        client = _Client(place.directory, running.port)
        console.print(Text("\nA client, another process: its request and the reply", "bold"))
        console.print(f"  $ {client.command}")
        console.print(f"  {printable(json.dumps(client.ask()))}")
        console.print(Text("\nAttacks, each from one more process; after each the good client asks again", "bold"))
        failed, log = _attack_all(console, place.directory, running, client, attacks)
        console.print(Text("\nWhat the server's log says of them", "bold"))
        for line in log:
            console.print(Text(f"  {printable(line)}", "dim"))
        status = running.stop()
    console.print(Text("\nThe end", "bold"))
    console.print(f"  SIGTERM: the server finished what it had in hand and left with status {status}")
    if status:
        failed.append(f"the server left with status {status}")
    if failed:
        console.print(Text(f"  FAILED: {'; '.join(failed)}", "bold red"))
    else:
        console.print(Text(f"  No attack got through. That took {monotonic() - started:.1f} s.", "green"))
    return failed


def _attack_all(
    console: Console, directory: Path, server: _Server, client: _Client, attacks: Iterable[str]
) -> tuple[list[str], list[str]]:
    """What failed, and a line of the server's log for each."""
    failed, log = [], []
    for name in attacks:
        attack = ATTACKS[name]
        before = client.handled
        end = _run(directory, "-m", "sealwire.cli.attacks", name, HOST, str(server.port)).stdout.decode().strip()
        client.ask()
        reached = client.handled - before - 1 - attack.good
        wrong = []
        if not end.startswith(attack.ends):
            wrong.append(f"it ended with {end or 'the death of the attacker'}, not with {attack.ends}")
        if reached:
            wrong.append(f"the handler saw {reached} of its requests")
        if name == "hostile-pickle" and (directory / _MARKER).exists():
            wrong.append("its command was run")
        verdict = Text("GOT THROUGH", "bold red") if wrong else Text("refused", "green")
        console.print(
            Text.assemble("  ", verdict, f"  {attack.title:<29} ", printable("; ".join(wrong) if wrong else end))
            + Text(f"  (client served: #{client.handled})", "dim")
        )
        if wrong:
            failed.append(f"{attack.title} got through: {'; '.join(wrong)}")
        elif name == "hostile-pickle":
            failed += _prove_hostile(console, directory)
        log.append(server.log() or f"nothing about {attack.title}")
    return failed, log


def _prove_hostile(console: Console, directory: Path) -> list[str]:
    """Load the attacker's bytes as raw pickle would, in a process of its own, for an attack that cannot succeed shows
    nothing."""
    with (directory / HOSTILE).open("rb") as hostile:
        _run(directory, "-c", _LOAD_RAW, stdin=hostile)
    if not (directory / _MARKER).exists():
        return ["the hostile pickle is harmless even to raw pickle, so this shows nothing"]
    (directory / _MARKER).unlink()
    console.print("           its command was not run; pickle.loads of the same bytes, in a process of its own, ran it")
    return []


def _deploy(place: Throwaway, service: str, changes: Mapping[str, Any]) -> None:
    """Write what the processes need: the server's and the client's, and for each attacker what it has."""
    directory = place.directory
    place.leaf("server", HOST, profile="server")
    place.leaf("client", "client.example", profile="client")
    place.leaf("stranger", "stranger.example", profile="client")
    (directory / "other").mkdir(mode=0o700)
    Throwaway(directory / "other").leaf("client", "client.example", profile="client")
    place.new_keyring("wrong-keyring")
    anchored = {"ca": "ca.pem", "keyring": "keyring.toml"}
    good = anchored | {"cert": "client.pem", "key": "client.key"}
    configurations: dict[str, dict[str, Any]] = {
        "server": anchored
        | {"cert": "server.pem", "key": "server.key", "peers": ["dns:client.example"], "limits": {"max_frame": 65536}}
        | changes,
        "client": good,
        "no-certificate": anchored,
        "other-ca": good | {"cert": "other/client.pem", "key": "other/client.key"},
        "stranger": good | {"cert": "stranger.pem", "key": "stranger.key"},
        "wrong-key": good | {"keyring": "wrong-keyring.toml"},
    }
    command = f"touch {shlex.quote(str(directory / _MARKER))}"
    files = {f"{name}.toml": _toml(options) for name, options in configurations.items()} | {
        "orders.py": service.encode(),
        str(HOSTILE): _run(directory, "-c", _MAKE_HOSTILE, command).stdout,
    }
    write_files([NewFile(directory / name, content, PRIVATE) for name, content in files.items()])


def _toml(options: Mapping[str, Any]) -> bytes:
    limits = options.get("limits", {})
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items() if name != "limits"]
    return "\n".join([*lines, "[limits]", *(f"{name} = {value}" for name, value in limits.items()), ""]).encode()


class _Server:
    """The server's process."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            [sys.executable, "-m", "sealwire", "serve", "orders:respond", "--config", "server.toml", "--host", HOST],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # ^C is for us, and we end it
        )
        assert self.process.stdout is not None  # noqa: S101 - PIPE
        assert self.process.stderr is not None  # noqa: S101 - PIPE
        self._log = _Lines(self.process.stderr)
        self.announced = _Lines(self.process.stdout).next(_PATIENCE)
        self.port = 0
        if self.announced:
            self.port = int(self.announced.rpartition(":")[2])
        else:
            why = self._log.next(0) or "it said nothing"
            self.__exit__()
            raise DemoFailed(f"the server did not start: {why}")

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        with self.process:
            pass  # reaps it, and closes the pipes

    def log(self) -> str:
        """The next line of its log, without time and address; empty where none comes."""
        line = self._log.next(_LOG_PATIENCE)
        return line.partition(f" sealwire.server: {HOST}:")[2].partition(": ")[2] or line

    def stop(self) -> int:
        """Ask it to leave; returns its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"the server did not end within {_PATIENCE:.0f} s of SIGTERM") from None


class _Client:
    """The good client: a process for each request."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._arguments = ["call", f"{HOST}:{port}", json.dumps(ORDER), "--config", "client.toml"]
        self.handled = 0
        """Requests that the handler has seen, as it said last."""

    @property
    def command(self) -> str:
        """What to type for the same."""
        return shlex.join(["sealwire", *self._arguments])

    def ask(self) -> Any:
        """The reply to an order. Raises DemoFailed where the client is not served."""
        done = _run(self._directory, "-m", "sealwire", *self._arguments)
        try:
            reply = json.loads(done.stdout)
            self.handled = reply["handled"]
        except (ValueError, KeyError, TypeError):
            why = done.stderr.decode(errors="replace").strip()
            raise DemoFailed(f"the good client was not served: {why}") from None
        return reply


class _Lines:
    """Lines of a pipe, waited for with patience but not for ever."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._read = b""

    def next(self, seconds: float) -> str:
        """The next line; empty at the end, or where none comes in time."""
        deadline = monotonic() + seconds
        while b"\n" not in self._read and self._poll.poll(max(0.0, deadline - monotonic()) * 1000):
            more = os.read(self._pipe.fileno(), 65536)
            if not more:
                break
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace")


def _run(directory: Path, *arguments: str, stdin: IO[bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
    """A Python process, to its end."""
    try:
        return subprocess.run(  # noqa: S603 - our own interpreter and arguments
            [sys.executable, *arguments],
            cwd=directory,
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"a process took more than {_PATIENCE:.0f} s: {shlex.join(arguments[:3])}") from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM cleans up as ^C does, and as that does leaves with a status of its own."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
