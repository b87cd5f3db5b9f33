"""Requests per second on one connection: Sealwire beside bare TLS with raw pickle, in one run.

    python benchmarks/roundtrip.py [--seconds 2] [--rounds 5]

The yardstick is what a careful programmer would write by hand without any of Sealwire's protection but TLS: the
article's four-byte length, ``pickle`` both ways, TLS 1.3 with certificates on both sides, TCP_NODELAY, header and body
in one write, ``recv_into`` a buffer of the right size. Each server is a process of its own, and this one is the client
of both, in turns, so that a machine that slows down slows both. The ratio of each pair of turns is taken, and their
median is what counts. Run it on an otherwise idle machine with at least two cores.
"""

from __future__ import annotations

import argparse
import json
import pickle
import secrets
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sealwire
from sealwire.testing import Throwaway

HERE = Path(__file__).resolve()
SMALL = {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5}
PAYLOADS: dict[str, tuple[Any, float]] = {"small dict": (SMALL, 0.6), "1 MiB": (secrets.token_bytes(1 << 20), 0.5)}


def read_exactly(sock: ssl.SSLSocket, size: int) -> bytearray:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = sock.recv_into(view[filled:])
        if not count:
            raise EOFError
        filled += count
    return data


def bare_receive(sock: ssl.SSLSocket) -> Any:
    return pickle.loads(read_exactly(sock, int.from_bytes(read_exactly(sock, 4), "big")))


def bare_send(sock: ssl.SSLSocket, value: Any) -> None:
    body = pickle.dumps(value, protocol=5)
    sock.sendall(len(body).to_bytes(4, "big") + body)


def bare_context(directory: Path, side: int, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(directory / "ca.pem")
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def bare_server(directory: Path) -> None:
    context = bare_context(directory, ssl.PROTOCOL_TLS_SERVER, "server")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        raw, _ = listener.accept()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(raw, server_side=True) as sock:
            try:
                while True:
                    bare_send(sock, bare_receive(sock))
            except EOFError:
                pass


def security(directory: Path, name: str, peer: str) -> sealwire.Security:
    files = {"cert": directory / f"{name}.pem", "key": directory / f"{name}.key", "ca": directory / "ca.pem"}
    return sealwire.Security.from_files(**files, keyring=directory / "keyring.toml", peers=[f"dns:{peer}"])


def sealwire_server(directory: Path) -> None:
    configured = security(directory, "server", "client.example")
    with sealwire.ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, configured) as server:
        print(server.server_address[1], flush=True)
        server.handle_request()


def per_second(ask: Callable[[Any], Any], payload: Any, seconds: float) -> float:
    """Round trips in a second, over about that many seconds."""
    count, start = 0, time.perf_counter()
    batch = max(1, int(50 / (1 + len(pickle.dumps(payload)) / 20_000)))
    while (elapsed := time.perf_counter() - start) < seconds:
        for _ in range(batch):
            ask(payload)
        count += batch
    return count / elapsed


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    with Throwaway() as place:
        directory = place.directory
        place.leaf("server", "localhost")
        place.leaf("client", "client.example")
        processes = [
            subprocess.Popen([sys.executable, HERE, "--serve", kind, directory], stdout=subprocess.PIPE, text=True)
            for kind in ("bare", "sealwire")
        ]
        try:
            ports = [int(process.stdout.readline()) for process in processes if process.stdout]
            raw = socket.create_connection(("127.0.0.1", ports[0]))
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            context = bare_context(directory, ssl.PROTOCOL_TLS_CLIENT, "client")
            bare = context.wrap_socket(raw, server_hostname="localhost")
            configured = security(directory, "client", "localhost")
            with bare, sealwire.SynchronousTCPClient("localhost", ports[1], security=configured) as client:

                def ask_bare(value: Any) -> Any:
                    bare_send(bare, value)
                    return bare_receive(bare)

                return {title: compare(ask_bare, client.send_request, value, seconds, rounds) | {"target": target}
                        for title, (value, target) in PAYLOADS.items()}  # fmt: skip
        finally:
            for process in processes:
                process.kill()
                process.wait()


def compare(
    bare: Callable[[Any], Any], sealed: Callable[[Any], Any], payload: Any, seconds: float, rounds: int
) -> dict[str, Any]:
    assert bare(payload) == payload == sealed(payload)
    pairs = [(per_second(bare, payload, seconds), per_second(sealed, payload, seconds)) for _ in range(rounds)]
    ratios = sorted(after / before for before, after in pairs)
    return {
        "bare": statistics.median(pair[0] for pair in pairs),
        "sealwire": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(ratios),
        "least": ratios[0],
        "most": ratios[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of turns for each payload")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        kind, directory = arguments.serve
        {"bare": bare_server, "sealwire": sealwire_server}[kind](Path(directory))
        return
    results = measure(arguments.seconds, arguments.rounds)
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{'payload':<12}{'bare/s':>10}{'sealwire/s':>12}{'ratio':>8}  (least to most)   target")
    for title, row in results.items():
        print(
            f"{title:<12}{row['bare']:>10.0f}{row['sealwire']:>12.0f}{row['ratio']:>8.2f}"
            f"  ({row['least']:.2f} to {row['most']:.2f})    {row['target']}"
        )


if __name__ == "__main__":
    main()
