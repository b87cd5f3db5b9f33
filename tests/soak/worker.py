"""A server or client of the soak in its own process: ``python worker.py JSON``. It ends with its standard input."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import sealwire
from sealwire import Limits, SealwireError, Security, SynchronousTCPClient


def security(directory: Path, interval: float, **options: Any) -> Security:
    return Security.from_files(
        cert=directory / "cert", key=directory / "key", ca=directory / "ca", keyring=directory / "keyring",
        crl=directory / "crl", limits=Limits(reload_interval=interval), **options,
    )  # fmt: skip


def serve(settings: dict[str, Any]) -> None:
    log = os.open(settings["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def respond(message: str) -> str:
        os.write(log, f"{message}\n".encode())
        return message

    trusted = security(Path(settings["directory"], "server"), settings["interval"], peers=["dns:client.example"])
    with getattr(sealwire, settings["kind"])(("127.0.0.1", 0), respond, trusted) as server:
        print(json.dumps({"port": server.server_address[1]}), flush=True)
        if settings["kind"] == "ForkingTCPServer":  # forks in a process without other threads
            import signal

            signal.signal(signal.SIGUSR1, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
            if os.fork() == 0:
                sys.stdin.read()
                os.kill(os.getppid(), signal.SIGUSR1)
                os._exit(0)
        else:
            threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
        server.serve_forever()


def ask(settings: dict[str, Any]) -> None:
    trusted = security(Path(settings["directory"], "client"), settings["interval"])
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    answered = connections = 0
    failures: list[str] = []
    (port,) = settings["ports"]
    print(json.dumps({"ready": True}), flush=True)
    client = SynchronousTCPClient("localhost", port, 10, 10, security=trusted)
    while not done.is_set():
        message = f"{settings['number']}.{answered}"
        try:
            if client.send_request(message) != message:
                failures.append(f"{message}: another answer")
        except SealwireError as error:
            failures.append(f"{message}: {type(error).__name__}: {error}")
            if len(failures) > 100:
                break
        answered += 1
        if settings["reconnects"]:
            client.close()
            connections += 1
    client.close()
    print(
        json.dumps(
            {"number": settings["number"], "answered": answered, "failures": failures, "connections": connections}
        )
    )


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    (serve if wanted["role"] == "server" else ask)(wanted)
