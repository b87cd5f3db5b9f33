"""A document followed word for word: its files are written, its commands run, and their outputs compared.

Blocks of code say what they are: ``python file=server.py`` is a file, ``console`` has commands after ``$``, with
``terminal=…`` ones that go on (the next command waits until they listen, on ``socket=…``, ``port=…``, ``--port`` or
7443; one that ran in the same terminal is stopped before), with ``status=1`` ones that must end with that exit status,
and with ``host=…`` ones of another host: in the directory of that name, and where there is a network of namespaces, in
that of that host.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
"""Of nginx, as Debian installs it."""
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEADLINE = 60
PYTHON = shlex.quote(sys.executable)


def blocks(document: Path) -> Iterator[tuple[str, dict[str, str], str]]:
    for language, options, text in BLOCK.findall(document.read_text()):
        yield language, dict(option.split("=", 1) for option in options.split()), text


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command, and the output that is shown for it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def follow(document: Path, shell: Shell) -> int:
    """Do all that a document says; returns the number of commands."""
    ran = 0
    for language, options, text in blocks(document):
        if "file" in options:
            (shell.directory / options["file"]).write_text(shell.adapted(text))
        elif language == "console":
            for command, output in commands(text):
                host = options.get("host", "")
                if "terminal" in options:
                    shell.stop(options["terminal"])
                    shell.serve(command, host, options.get("socket", options.get("port")), options["terminal"])
                else:
                    shell.run(command, shell.adapted(output), int(options.get("status", 0)), host)
                ran += 1
    return ran


def free_port() -> int:
    """Return a port that nobody uses, of those that the kernel gives nobody by itself, until a server takes it."""
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    while True:
        port = random.choice([*range(1024, first), *range(last + 1, 65536)])
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_for(listens: str, server: subprocess.Popen[bytes], directory: Path = Path(), *, apart: bool = False) -> None:
    """Until it listens on a port, by the kernel's list in its own network, or its Unix socket is there.

    ``apart``: its network will be another one than that of this process, where others may listen on that port.
    """
    ours = os.readlink("/proc/self/ns/net")
    pause = threading.Event()
    for _ in range(DEADLINE * 20):
        assert server.poll() is None, "the server ended"
        if not listens.isdigit():
            if (directory / listens).is_socket():
                return
        elif not apart or os.readlink(f"/proc/{server.pid}/ns/net") != ours:
            tables = [Path(f"/proc/{server.pid}/net/{name}").read_text() for name in ("tcp", "tcp6", "udp", "udp6")]
            # TCP's LISTEN, or what a socket of UDP is in until it is connected.
            if any(re.search(rf":{int(listens):04X} [0-9A-F:]+ 0[7A] ", table) for table in tables):
                return
        pause.wait(0.05)
    raise AssertionError("the server does not listen")


def installed(directory: Path) -> str:
    """A directory for the path with the two commands. With -P the current directory is not on Python's path, as it is
    not for an installed script."""
    directory.mkdir()
    for name, arguments in (("sealwire", "-P -m sealwire"), ("python", "")):
        command = directory / name
        command.write_text(f'#!/bin/sh\nexec {PYTHON} {arguments} "$@"\n')
        command.chmod(0o755)
    return f"PATH={shlex.quote(str(directory))}:$PATH"


class Shell:
    """A session of a user's: what one command exports or activates, the next one has.

    ``setup``: lines that come before each command. ``namespaces``: of the network, by host.
    """

    def __init__(self, directory: Path, ports: dict[str, str], *setup: str, namespaces: dict[str, str] | None = None):
        self.directory = directory
        self.namespaces = namespaces or {}
        self.setup = list(setup)
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = ports
        self.environment = {name: os.environ[name] for name in os.environ if not name.startswith(("VIRTUAL_", "COV_"))}

    def adapted(self, text: str) -> str:
        text = re.sub(r"\d+", lambda number: self.ports.get(number[0], number[0]), text)
        return text.replace("/path/to/this/checkout", str(ROOT)).replace("python3 -m venv", f"{sys.executable} -m venv")

    def line(self, command: str) -> str:
        return "\n".join(["set -e", *self.setup, command])

    def prefix(self, host: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespaces[host]] if host in self.namespaces else []

    def run(self, command: str, expected: str, status: int = 0, host: str = "") -> None:
        command = self.adapted(command)
        if command.startswith(("export ", ". ")):
            self.setup.append(command)
            return
        done = subprocess.run(
            [*self.prefix(host), "bash", "-c", self.line(command)],
            cwd=self.directory / host,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE * 2,
        )
        assert done.returncode == status, f"{command}: {done.stdout}{done.stderr}"
        shown = done.stdout + done.stderr if status else done.stdout
        assert expected in re.sub(" +$", "", shown, flags=re.MULTILINE), f"{command}: {shown}"

    def serve(self, command: str, host: str, listens: str | None, terminal: str) -> None:
        command = self.adapted(command)
        server = subprocess.Popen(
            [*self.prefix(host), "bash", "-c", self.line(f"exec {command}")],
            cwd=self.directory / host,
            env=self.environment,
        )
        self.servers[terminal] = server
        port = re.search(r"--port (\d+)", command)
        wait_for(
            port[1] if port else self.adapted(listens or "7443"),
            server,
            self.directory / host,
            apart=host in self.namespaces,
        )

    def stop(self, terminal: str) -> None:
        server = self.servers.pop(terminal, None)
        if server is not None:
            server.terminate()
            server.wait(DEADLINE)

    def close(self) -> None:
        for terminal in list(self.servers):
            self.stop(terminal)
