"""Measure Sealwire beside its peers.

    python -m benchmarks [--quick] [--peers NAME,…] [--workloads A,B,…] [--json FILE] [--write]

Every server and every client is a process of its own. The results are a table and, with --write, the pages of
docs/explanation/performance.md with its plots. `--from FILE` makes those of an earlier run's JSON. Run it on a machine
that does nothing else: the load when it began is in the results.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import report, scaling
from benchmarks.peers import PEERS, Peer
from benchmarks.suite import WORKLOADS, YARDSTICK, Suite
from sealwire.testing import Throwaway


def progress(line: str) -> None:
    """Show what is measured now: on a terminal in one line, elsewhere only where something else begins."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
        return
    subject = line.partition(",")[0].partition(":")[0]
    if subject != progress.__dict__.get("subject"):
        progress.__dict__["subject"] = subject
        print(f"{time.strftime('%H:%M:%S')} {subject}", file=sys.stderr, flush=True)


def chosen_peers(names: str | None) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers to measure, and the reasons for which others are left out."""
    wanted = list(PEERS) if names is None else [YARDSTICK, *names.split(",")]
    unknown = set(wanted) - set(PEERS)
    if unknown:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    peers = [PEERS[name] for name in dict.fromkeys(wanted)]
    absent = {peer.name: peer.absence for peer in peers if peer.absence is not None}
    return [peer for peer in peers if peer.absence is None], absent


def measure(options: argparse.Namespace) -> dict[str, Any]:
    peers, absent = chosen_peers(options.peers)
    letters = list(WORKLOADS) if options.workloads is None else options.workloads.split(",")
    unknown = set(letters) - set(WORKLOADS)
    if unknown:
        raise SystemExit(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    seconds, rounds = (0.1, 2) if options.quick else (0.4, 5)
    begun = time.monotonic()
    results: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": report.machine(),
        "versions": report.versions(),
        "load_when_it_began": os.getloadavg()[0],
        "seconds_of_a_turn": seconds,
        "rounds": rounds,
        "peers": {peer.name: peer.note for peer in peers},
        "absent": absent,
    }
    with Throwaway() as place:
        place.leaf("server", "localhost", "127.0.0.1")
        place.leaf("client", "client.example")
        suite = Suite(place.directory, peers, seconds=seconds, rounds=rounds, say=progress)
        results["workloads"] = suite.run(letters, idle=50 if options.quick else 200)
        if options.workloads is None and options.peers is None:
            counts = [1, 10, 100] if options.quick else list(scaling.CONNECTIONS)
            sizes = [100, 10_000, 1_000_000] if options.quick else list(scaling.SIZES)
            turns = {"seconds": 0.2, "rounds": 1} if options.quick else {"seconds": 0.7, "rounds": 3}
            results["connections"] = scaling.against_connections(
                place.directory, report.present(scaling.SERVERS, absent), counts, say=progress, **turns
            )
            results["sizes"] = scaling.against_size(
                place.directory, report.present(scaling.SIZED, absent), sizes, say=progress, **turns
            )
    results["load_when_it_ended"] = os.getloadavg()[0]
    results["took"] = time.monotonic() - begun
    progress("")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two rounds of short turns, to see that all works")
    parser.add_argument("--peers", metavar="NAME,…", help=f"only these, beside {YARDSTICK}; without scaling")
    parser.add_argument("--workloads", metavar="A,B,…", help="only these; without scaling")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results as JSON")
    parser.add_argument("--write", action="store_true", help="write docs/explanation/performance.md and its plots")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="measure nothing; take this JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.source is not None:
        results = json.loads(options.source.read_text())
    else:
        if os.getloadavg()[0] > 1:
            print(f"the load is {os.getloadavg()[0]:.1f}: figures of a busy machine mislead", file=sys.stderr)
        results = measure(options)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(report.table(results))
    if options.write:
        report.write(results)


if __name__ == "__main__":
    main()
