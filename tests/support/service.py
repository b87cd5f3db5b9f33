"""Servers and clients with real certificates on real sockets, and what they must not leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from reference.peer import RefClient, RefServer
from sealwire import Credentials, Key, Keyring, Limits, Security, SynchronousTCPClient
from sealwire.codec import RawCodec
from sealwire.pki.files import PRIVATE, PUBLIC, NewFile, write_files
from sealwire.sync.server import TCPServer
from sealwire.testing import Throwaway
from support.constants import KEY_ID, QUICK, SECRET
from support.starter import Process, starter

TESTS = Path(__file__).parent.parent


class Deployment:
    """A CA, a server that is localhost and 127.0.0.1, a client that is client.example, and one key between them."""

    def __init__(self, directory: Path) -> None:
        self.place = Throwaway(directory)
        self.ca = self.place.ca
        self.files = {
            "server": self.place.leaf("server", "localhost", "127.0.0.1"),
            "client": self.place.leaf("client", "client.example"),
            "other client": self.place.leaf("other client", "other.example"),
        }
        self.keys = Keyring([Key(KEY_ID, SECRET)])

    def expired(self, name: str, *names: str) -> tuple[Path, Path]:
        """A certificate that was valid until two days ago."""
        issued = self.place.authority.issue(
            *names, profile="peer", days=1, not_before=datetime.now(UTC) - timedelta(days=3)
        )
        cert, key = self.place.directory / f"{name}.pem", self.place.directory / f"{name}.key"
        write_files([NewFile(key, issued.key_pem, PRIVATE), NewFile(cert, issued.cert_pem, PUBLIC)], replace=True)
        return cert, key

    def security(self, role: str, *, ca: Path | None = None, raw: bool = False, **options: Any) -> Security:
        """``raw``: with the codec for plain bytes."""
        cert, key = self.files[role]
        changed = {"keys": self.keys, "codec": RawCodec() if raw else None, "limits": Limits(**QUICK)} | options
        return Security(credentials=Credentials.from_files(cert=cert, key=key, ca=ca or self.ca), **changed)

    def server_security(self, **options: Any) -> Security:
        limits = Limits(**(QUICK | options.pop("limits", {})))
        return self.security("server", **({"peers": ["dns:client.example"], "limits": limits} | options))

    def client(self, port: int, host: str = "localhost", **options: Any) -> SynchronousTCPClient:
        """Ours. ``timeout`` and ``wait`` are the client's, the rest is the Security's."""
        times = {name: options.pop(name) for name in ("timeout", "wait") if name in options}
        limits = Limits(**(QUICK | options.pop("limits", {})))
        security = self.security(options.pop("role", "client"), limits=limits, **options)
        return SynchronousTCPClient(host, port, **({"timeout": 5, "wait": 5} | times), security=security)

    def ref_files(self, role: str) -> dict[str, Any]:
        cert, key = self.files[role]
        return {"cert": str(cert), "key": str(key), "ca": str(self.ca)}

    def ref_client(self, port: int | None, host: str = "127.0.0.1", **options: Any) -> RefClient:
        """The reference implementation's; by default with the raw codec."""
        files = self.ref_files(options.pop("role", "client"))
        return RefClient(host, port, **(files | {"psk": SECRET, "key_id": KEY_ID} | options))

    def ref_server(self, *script: Any, **options: Any) -> RefServer:
        files = self.ref_files(options.pop("role", "server"))
        return RefServer(**(files | {"keys": {KEY_ID: SECRET}, "script": script} | options))


@contextmanager
def running(server: TCPServer) -> Iterator[int]:
    """Serve in a thread until the end of the block; gives the port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="serve_forever")
    serving = threading.Event()
    if isinstance(server, TCPServer):
        service_actions = server.service_actions

        def serve_once() -> None:
            service_actions()
            serving.set()

        server.service_actions = serve_once  # it has started its threads by then
    else:
        serving.set()
    with server:
        thread.start()
        try:
            while not serving.wait(0.1) and thread.is_alive():
                pass
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(20)
            assert not thread.is_alive()


def eventually(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    """The first true value of ``condition``, looked at again and again: for what gives no event to wait for."""
    deadline = monotonic() + timeout
    while not (value := condition()):
        assert monotonic() < deadline, "what was waited for did not come"
        threading.Event().wait(0.005)
    return value


def descriptors(process: int | str = "self") -> set[str]:
    """The open descriptors of a process, and what each is."""
    found = set()
    for name in os.listdir(f"/proc/{process}/fd"):
        with suppress(OSError):  # the listing's own
            found.add(f"{name} {os.readlink(f'/proc/{process}/fd/{name}')}")
    return {text for text in found if "/proc/" not in text}


def sockets(process: int) -> set[str]:
    """Return the sockets among them, by a name that is the same for all processes that share one."""
    return {text.partition(" ")[2] for text in descriptors(process) if " socket:" in text}


def children(process: int | str = "self") -> list[int]:
    """Its child processes, zombies included."""
    found: list[int] = []
    for task in os.listdir(f"/proc/{process}/task"):
        with suppress(OSError):
            found += map(int, Path(f"/proc/{process}/task/{task}/children").read_text().split())
    return found


def zombies(process: int) -> list[int]:
    states = {}
    for child in children(process):
        with suppress(OSError):
            states[child] = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    return [child for child, state in states.items() if state == "Z"]


@contextmanager
def nothing_left() -> Iterator[None]:
    """Afterwards there are no more threads, descriptors and child processes than before."""
    starter()  # which remains
    before = set(threading.enumerate()), descriptors(), set(children())
    yield

    def left() -> tuple[set[threading.Thread], set[str], set[int]]:
        # A server that began to serve just now may have taken its reserve of descriptors since.
        opened = {each for each in descriptors() - before[1] if not each.endswith(" /dev/null")}
        return set(threading.enumerate()) - before[0], opened, set(children()) - before[2]

    # A thread that has said its last word still has a moment to live, and a server that other tests share may have a
    # file open just now: one moment without anything is enough.
    try:
        eventually(lambda: not any(left()), timeout=30)
    except AssertionError:
        raise AssertionError(left()) from None


class ChildServer:
    """support/child.py in a process of its own; ``port``, ``pid``, and what its handler has seen."""

    def __init__(self, deployment: Deployment, directory: Path, **options: Any) -> None:
        self.log = directory / "log"
        self.seen_file = directory / "seen"
        self.seen_file.touch()
        self.fifo = directory / "go"
        os.mkfifo(self.fifo)
        cert, key = deployment.files["server"]
        settings = {
            "cert": str(cert),
            "key": str(key),
            "ca": str(deployment.ca),
            "seen": str(self.seen_file),
            "fifo": str(self.fifo),
            "limits": QUICK | options.pop("limits", {}),
        } | options
        with open(self.log, "wb") as log:
            self.process = Process("support.child", settings, log)
        self.pid = self.process.pid
        self.port = int(self.process.stdout.readline() or 0)
        assert self.port, self.log.read_text()

    def seen(self) -> list[str]:
        """The messages that reached a handler."""
        return self.seen_file.read_text().splitlines()

    def release(self) -> None:
        """Let the one handler go on that holds a message ``hold…``."""
        self.fifo.write_text("go")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """As the test wants it, so that this is a good end."""
        self.process.kill()
        with self.process:
            pass
        self.process.returncode = 0

    def __enter__(self) -> ChildServer:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self.process:
            try:
                self.interrupt()
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        if error is None:
            log = self.log.read_text()
            assert self.process.returncode == 0, log
            assert "Traceback" not in log, log
