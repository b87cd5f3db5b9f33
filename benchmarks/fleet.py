"""Measure what a large fleet costs one endpoint, against the same with a tenth of the size, in one run.

    python -m benchmarks.fleet [--largest 100000] [--handshakes 50]

Lists of peers, keyrings with a bound key for each client, and revocation lists grow tenfold from column to column.
*Growth* is a column's cost as a multiple of the one before: 10 for what grows linearly, 1 for what does not grow. Times
are processor time. A connection is TLS with both certificates, Sealwire's handshake and a request, between two threads
of this process.
"""

from __future__ import annotations

import argparse
import base64
import gc
import itertools
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import process_time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from sealwire import PeerPolicy, SynchronousTCPClient, ThreadingTCPServer
from sealwire.testing import Throwaway
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.keyring import Keyring

LOOKUPS = 2000
CLIENT = "client.example"


def keyring(directory: Path, number: int) -> Path:
    """Write a keyring with a key for each client; the last one is that of the client that connects."""
    path = directory / f"keyring-{number}.toml"
    names = [*(f"c{each}.example" for each in range(number - 1)), CLIENT]
    entries = (
        f'[[key]]\nid = "{name}"\nsecret = "{base64.b64encode(secrets.token_bytes(32)).decode()}"\n'
        f'identity = "dns:{name}"\n'
        for name in names
    )
    path.write_text("".join(entries))
    path.chmod(0o600)
    return path


def own_key(path: Path) -> Path:
    """Write the keyring of the client alone."""
    own = path.with_suffix(".own")
    own.write_text("[[key]]" + path.read_text().rpartition("[[key]]")[2])
    own.chmod(0o600)
    return own


def revocation_list(place: Throwaway, number: int) -> Path:
    """Write a list of that many serial numbers, signed by the CA."""
    now = datetime.now(UTC)
    issuer = x509.load_pem_x509_certificate(place.authority.cert_pem).subject
    builder = x509.CertificateRevocationListBuilder(
        issuer,
        now - timedelta(days=1),
        now + timedelta(days=1),
        revoked_certificates=[
            x509.RevokedCertificateBuilder(secrets.randbits(120) + 1, now - timedelta(days=1)).build()
            for _ in range(number)
        ],
    )
    key: Any = load_pem_private_key(place.authority.key_pem, None)
    path = place.directory / f"crl-{number}.pem"
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def cost(action: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """Return the processor time of one call, and its result."""
    gc.collect()
    begun = process_time()
    for _ in range(times):
        result = action()
    return (process_time() - begun) / times, result


def handshakes(number: int, server: Any, client: Any) -> float:
    """Return the processor time of a connection with one request, at both ends together."""
    with ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, server) as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()

        def connect() -> None:
            with SynchronousTCPClient("localhost", running.server_address[1], security=client) as one:
                one.send_request(1)

        try:
            connect()
            return cost(connect, number)[0]
        finally:
            running.shutdown()
            thread.join()


def measured(number: int, count: int) -> Iterator[tuple[str, float, str]]:
    """Yield a name, a cost in seconds or MiB, and its unit."""
    with Throwaway() as place:
        entries = [*(f"dns:c{each}.example" for each in range(number - 1)), f"dns:{CLIENT}"]
        me = PeerIdentity(dns=(CLIENT,), fingerprint="0" * 64)
        seconds, peers = cost(lambda: PeerPolicy(entries))
        yield "peers: read", seconds, "s"
        yield "peers: look one up", cost(lambda: peers.allows(me), LOOKUPS)[0], "s"
        path, crl = keyring(place.directory, number), revocation_list(place, number)
        before = resident()
        seconds, keys = cost(lambda: Keyring.from_file(path))
        yield "keyring: load", seconds, "s"
        yield "keyring: memory", resident() - before, "MiB"
        now = datetime.now(UTC)
        yield "keyring: look one up", cost(lambda: keys.current.verifying_key(CLIENT, now, me), LOOKUPS)[0], "s"
        seconds, server = cost(lambda: place.security("server", "localhost", crl=crl, keyring=path, peers=peers))
        yield "all of it: load", seconds, "s"
        client = place.security("client", CLIENT, keyring=own_key(path))
        yield "connect, one request, close", handshakes(count, server, client), "s"
        replaced = place.directory / "another.toml"
        replaced.write_bytes(path.read_bytes().replace(b"c0.example", b"d0.example"))
        replaced.chmod(0o600)
        replaced.replace(path)
        yield "one key changed: reload", cost(server.reload)[0], "s"


def text(value: float, unit: str) -> str:
    if unit == "MiB":
        return f"{value:.0f} MiB"
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.2f} ms" if value >= 1e-4 else f"{value * 1e6:.1f} µs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=100_000, help="size of the largest fleet (default: %(default)s)")
    parser.add_argument("--handshakes", type=int, default=50, help="connections for each size (default: %(default)s)")
    options = parser.parse_args()
    sizes = [size for size in (1000, 10_000, 100_000, 1_000_000) if size <= options.largest]
    columns = [list(measured(size, options.handshakes)) for size in sizes]
    print("| | " + " | ".join(f"{size:,}" for size in sizes) + " | growth |")
    print("|---" * (len(sizes) + 2) + "|")
    for row in zip(*columns, strict=True):
        name, _, unit = row[0]
        growth = ", ".join(f"{new[1] / old[1]:.1f}" if old[1] > 0 else "" for old, new in itertools.pairwise(row))
        print(f"| {name} | " + " | ".join(text(value, unit) for _, value, _ in row) + f" | {growth} |")


if __name__ == "__main__":
    main()
