"""Memory and time of a large array beside pickle of protocol 5, in one run.

    python benchmarks/arrays.py [--mib 64] [--json]

Each figure is of a process of its own: the best time of several runs, and the peak of its resident memory over what it
held before, in sizes of the array. So 1 is one copy. "round trip" is over TLS on this machine, between two processes,
as in roundtrip.py: "pickle" is what a careful programmer would write by hand, with buffers out of band; the array goes
there and comes back. What a side holds then is the message of one direction and the array that is made of it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import resource
import socket
import ssl
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import roundtrip

from sealwire import Allowlist, Codec, Limits, Security, SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway

RUNS = 5
WIDE = Limits(max_frame=1 << 30, max_string=1 << 30, max_memory=1 << 32)


def codec() -> Codec:
    return Codec(Allowlist(np.ndarray), limits=WIDE)


def security(directory: Path, name: str, peer: str) -> Security:
    files = {"cert": directory / f"{name}.pem", "key": directory / f"{name}.key", "ca": directory / "ca.pem"}
    return Security.from_files(
        **files, keyring=directory / "keyring.toml", peers=[f"dns:{peer}"], limits=WIDE, allow=[np.ndarray]
    )


def resident() -> int:
    """Bytes now, from Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    """Bytes at most, since reset_peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("needs Linux: /proc/self/status has no VmHWM")


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measured(call: Callable[[], Any]) -> tuple[float, int]:
    """Seconds, and bytes at most over those at the beginning."""
    call()
    best = float("inf")
    reset_peak()
    before = resident()
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best, peak() - before


# Encode and decode


def dumps_apart(value: Any) -> list[Any]:
    buffers: list[pickle.PickleBuffer] = []
    return [pickle.dumps(value, 5, buffer_callback=buffers.append), *buffers]


def encode_and_decode(kind: str, size: int) -> tuple[float, int]:
    value = np.random.default_rng(1).random(size // 8)
    if kind == "pickle.dumps":
        return measured(lambda: pickle.dumps(value, 5))
    if kind == "encode":
        return measured(lambda: codec().encode(value))
    if kind == "encode, to be sent":
        return measured(lambda: codec().encode_pieces(value))
    data = memoryview(bytearray(pickle.dumps(value, 5)))
    if kind == "pickle.loads":
        return measured(lambda: pickle.loads(data))
    return measured(lambda: codec().decode(data))


# Round trip


def bare_send(sock: ssl.SSLSocket, value: Any) -> None:
    head, *buffers = dumps_apart(value)
    views = [buffer.raw() for buffer in buffers]
    sizes = [len(head), *map(len, views)]
    sock.sendall(b"".join(size.to_bytes(8, "big") for size in (len(sizes), *sizes)) + head)
    for view in views:
        sock.sendall(view)


def bare_receive(sock: ssl.SSLSocket) -> Any:
    def number() -> int:
        return int.from_bytes(roundtrip.read_exactly(sock, 8), "big")

    sizes = [number() for _ in range(number())]
    head, *buffers = [roundtrip.read_exactly(sock, size) for size in sizes]
    return pickle.loads(head, buffers=buffers)


def bare_server(directory: Path, ready: Connection) -> None:
    context = roundtrip.bare_context(directory, ssl.PROTOCOL_TLS_SERVER, "server")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready.send(listener.getsockname()[1])
        raw, _ = listener.accept()
        with context.wrap_socket(raw, server_side=True) as sock:
            try:
                while True:
                    bare_send(sock, bare_receive(sock))
            except EOFError:
                pass


def sealwire_server(directory: Path, ready: Connection) -> None:
    with ThreadingTCPServer(("127.0.0.1", 0), lambda m: m, security(directory, "server", "client.example")) as server:
        ready.send(server.server_address[1])
        server.handle_request()


def round_trip(kind: str, size: int) -> tuple[float, int]:
    value = np.random.default_rng(1).random(size // 8)
    with Throwaway() as place:
        place.leaf("server", "localhost")
        place.leaf("client", "client.example")
        ours, theirs = multiprocessing.Pipe()
        serve = bare_server if kind == "pickle" else sealwire_server
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(place.directory, theirs))
        server.start()
        theirs.close()
        try:
            return exchange(kind, place.directory, ours.recv(), value)
        finally:
            server.kill()
            server.join()


def exchange(kind: str, directory: Path, port: int, value: Any) -> tuple[float, int]:
    if kind == "pickle":
        context = roundtrip.bare_context(directory, ssl.PROTOCOL_TLS_CLIENT, "client")
        raw = socket.create_connection(("127.0.0.1", port))
        with context.wrap_socket(raw, server_hostname="localhost") as sock:

            def ask() -> None:
                bare_send(sock, value)
                bare_receive(sock)

            return measured(ask)
    with SynchronousTCPClient(
        "localhost", port, wait=60, security=security(directory, "client", "localhost")
    ) as client:
        return measured(lambda: client.send_request(value))


KINDS: dict[str, Callable[[str, int], tuple[float, int]]] = {
    "pickle.dumps": encode_and_decode,
    "encode": encode_and_decode,
    "encode, to be sent": encode_and_decode,
    "pickle.loads": encode_and_decode,
    "decode": encode_and_decode,
    "pickle": round_trip,
    "sealwire": round_trip,
}


def run(kind: str, size: int, answer: Connection) -> None:
    answer.send(KINDS[kind](kind, size))


def apart(kind: str, size: int) -> tuple[float, int]:
    """In a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run, args=(kind, size, theirs))
    process.start()
    theirs.close()
    try:
        result: tuple[float, int] = ours.recv()
    except EOFError:
        raise SystemExit(f"{kind}: failed") from None
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=64, help="of the array, of float64")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    size = arguments.mib << 20
    rows = {kind: apart(kind, size) for kind in KINDS}
    if arguments.json:
        json.dump({kind: {"seconds": row[0], "copies": row[1] / size} for kind, row in rows.items()}, sys.stdout)
        return
    print(f"float64 array of {arguments.mib} MiB{'ms':>18}{'copies':>9}")
    for kind, (seconds, taken) in rows.items():
        title = f"round trip, {kind}" if KINDS[kind] is round_trip else kind
        print(f"{title:<30}{seconds * 1e3:>12.1f}{taken / size:>9.2f}")


if __name__ == "__main__":
    main()
