"""Simulate the moments in which a whole fleet connects: after a restart, and when its connections grow old.

    python -m benchmarks.storm [--handshake 0.0022] [--given-up 0.0003] [--timeout 10]

Nothing is measured here: the costs of a handshake for the server, and of one whose client has gone, are arguments, as
``python -m benchmarks.fleet`` measures them on a machine. The server takes connections in the order in which they came.
A client that is not connected after ``--timeout`` gives up, and its program tries again a second later. The server and
the kernel together keep max_handshakes and BACKLOG connections that wait; the kernel drops the SYN of others. The
random numbers are the same in each run.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections import deque

from sealwire import Limits
from sealwire.listeners import BACKLOG
from sealwire.session.validity import AGE_JITTER

WAITING = Limits().max_handshakes + BACKLOG
SYN = 1.0
"""Seconds after which a SYN is repeated, twice as many each time."""
PAUSE = 1.0
"""Seconds after which a program tries again."""


def restart(clients: int, processors: int, costs: tuple[float, float], timeout: float) -> tuple[float, float]:
    """Return the seconds until all clients are connected again, and the attempts of each, on average."""
    chance = random.Random(1)
    # When each comes next, when its attempt began, and when the kernel repeats its SYN. They notice within a second.
    coming = [(began := chance.random(), began, SYN) for _ in range(clients)]
    heapq.heapify(coming)
    free = [0.0] * processors
    queue: deque[float] = deque()
    attempts, connected, end = clients, 0, 0.0
    while connected < clients:
        now = heapq.heappop(free)
        while coming and (coming[0][0] <= now or not queue):
            came, began, repeated = heapq.heappop(coming)
            if came - began > timeout:
                attempts += 1
                began = came + chance.uniform(0.5, 1.0) * PAUSE
                heapq.heappush(coming, (began, began, SYN))
            elif len(queue) < WAITING:
                queue.append(began)
                now = max(now, came)
            else:
                heapq.heappush(coming, (came + repeated, began, 2 * repeated))
        began = queue.popleft()
        if now + costs[0] - began <= timeout:
            now += costs[0]
            connected += 1
            end = max(end, now)
        else:
            attempts += 1
            again = max(now, began + timeout) + chance.uniform(0.5, 1.0) * PAUSE
            heapq.heappush(coming, (again, again, SYN))
            now += costs[1]
        heapq.heappush(free, now)
    return end, attempts / clients


def old_age(clients: int, hours: int) -> list[int]:
    """Return the most handshakes in one second of each hour after a restart, by connections that reach their age."""
    chance = random.Random(1)
    age = Limits().max_connection_age
    seconds = [0] * int((hours + 1) * 3600)
    for _ in range(clients):
        moment = chance.random()
        while (moment := moment + age * chance.uniform(1 - AGE_JITTER, 1)) < len(seconds):
            seconds[int(moment)] += 1
    return [max(seconds[hour * 3600 : (hour + 1) * 3600]) for hour in range(hours)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handshake", type=float, default=0.0022, help="seconds of a processor (default: %(default)s)")
    parser.add_argument("--given-up", type=float, default=0.0003, help="the same if its client has gone")
    parser.add_argument("--timeout", type=float, default=10.0, help="of clients, for connecting (default: %(default)s)")
    options = parser.parse_args()
    costs = options.handshake, options.given_up
    print("| clients | processors | all are back after | attempts of each | most handshakes a second, hours 1 to 4 |")
    print("|---|---|---|---|---|")
    for clients in (1000, 10_000, 100_000):
        for processors in (1, 4, 16):
            seconds, attempts = restart(clients, processors, costs, options.timeout)
            peaks = ", ".join(map(str, old_age(clients, 4)))
            print(f"| {clients:,} | {processors} | {seconds:.1f} s | {attempts:.1f} | {peaks} |")


if __name__ == "__main__":
    main()
