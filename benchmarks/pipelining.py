"""``send_requests`` beside one request at a time, on one connection, in one run.

    python benchmarks/pipelining.py

The server is a process of its own. Requests a second; the two take turns, and the ratio is the median of the turns'.
"""

from __future__ import annotations

import multiprocessing
import statistics
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from sealwire import SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway

TURNS = 5
REQUESTS = 2000
REQUEST = {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5}
WINDOWS = (1, 4, 32, 256)


def serve(place: str, to_client: Connection) -> None:
    from pathlib import Path

    directory = Path(place)
    from sealwire import Security

    security = Security.from_files(
        cert=directory / "server.pem", key=directory / "server.key", ca=directory / "ca.pem",
        keyring=directory / "keyring.toml", peers=["dns:client.example"],
    )  # fmt: skip
    with ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, security) as server:
        to_client.send(server.server_address[1])
        server.serve_forever()


def rate(run: Any) -> float:
    start = perf_counter()
    run()
    return REQUESTS / (perf_counter() - start)


def main() -> None:
    with Throwaway() as place:
        place.leaf("server", "localhost")
        security = place.security("client", "client.example")
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(str(place.directory), there))
        process.start()
        try:
            with SynchronousTCPClient("localhost", here.recv(), security=security) as client:
                client.send_request(REQUEST)
                print(f"{'window':>8}{'one at a time/s':>17}{'pipelined/s':>13}{'ratio':>7}")
                for window in WINDOWS:
                    pairs = [
                        (
                            rate(lambda: [client.send_request(REQUEST) for _ in range(REQUESTS)]),
                            rate(lambda w=window: list(client.send_requests([REQUEST] * REQUESTS, window=w))),
                        )
                        for _ in range(TURNS)
                    ]
                    single, piped = (statistics.median(each) for each in zip(*pairs, strict=True))
                    ratio = statistics.median(b / a for a, b in pairs)
                    print(f"{window:8}{single:17.0f}{piped:13.0f}{ratio:7.2f}")
        finally:
            process.kill()
            process.join()


if __name__ == "__main__":
    main()
