"""The work of a ClientPool beside its calls, in threads of their own.

Names are looked up, and servers that were left out are tried, in short-lived threads; connections without requests are
pinged in that of :mod:`sealwire.sync.keep_alive`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from sealwire.errors import SealwireError, TransportError
from sealwire.fork import this_process
from sealwire.pool.addresses import Lookup
from sealwire.pool.servers import Server
from sealwire.session import explain
from sealwire.sync.client_connection import ClientChannel
from sealwire.sync.connecting import resolve
from sealwire.sync.keep_alive import PATIENCE

if TYPE_CHECKING:
    from sealwire.pool.shared_roster import Call, SharedRoster


class Chores:
    """Looks names up, tries servers that were left out, and pings idle connections.

    Args:
        shared: The servers.
        timeout: Seconds for a connection that no call waits for.
    """

    def __init__(self, shared: SharedRoster, timeout: float) -> None:
        self._shared = shared
        self._timeout = timeout

    def begin(self) -> None:
        """Look names up, and try servers that were left out, if that is due."""
        with self._shared.lock:
            now = monotonic()
            lookups = list(self._shared.roster.begin_lookups(now))
            probe = self._shared.call(None)
            due = not self._shared.roster.closed and self._shared.roster.begin_probe(probe, now)
        for lookup in lookups:
            _in_thread(partial(self._look_up, lookup), f"sealwire names {lookup.address}")
        if due:
            _in_thread(partial(self._probe, probe), f"sealwire probe {probe.server}")

    def _look_up(self, lookup: Lookup) -> None:
        found: Any = explain.unresolved(str(lookup.address))
        try:
            found = resolve(lookup.address.host, lookup.address.port)
        except TransportError as error:
            found = error
        finally:
            with self._shared.lock:
                self._shared.roster.update(lookup, found, monotonic())
        self._shared.close_dropped()

    def _probe(self, call: Call) -> None:
        server = call.server
        assert server is not None  # it was chosen
        with call:
            try:
                call.channel = self._shared.open(server, monotonic() + self._timeout)
            except SealwireError as error:
                with self._shared.lock:
                    self._shared.roster.failed(server, error, monotonic())
            else:
                with self._shared.lock:
                    self._shared.made(call, server, call.channel)
        self._shared.close_dropped()

    def ping_idle(self, seconds: float) -> None:
        """Send a PING on each connection that has been idle for ``seconds``.

        Each takes a place meanwhile, as a request does, so it never meets one on its connection.
        """
        if self._shared.process is not this_process() or self._shared.roster.closed:
            return
        for server in list(self._shared.roster.servers):
            while self._ping_one(server, monotonic() - seconds):
                pass

    def _ping_one(self, server: Server[ClientChannel], before: float) -> bool:
        """Send a PING on the connection that was used longest ago, if that was before a time."""
        with self._shared.call(None) as call:
            with self._shared.lock:
                oldest = next(iter(list(server.idle)), None)
                if oldest is None or oldest.idle_since > before or not server.has_room:
                    return False
                self._shared.roster.take(call, server)
            try:
                call.channel = channel = server.idle.popleft()
            except IndexError:  # a request was faster
                return False
            if channel.usable():
                try:
                    channel.ping(monotonic() + PATIENCE)
                except SealwireError:
                    channel.interrupt()
            # What is not in order is closed with the call.
        return True


def _in_thread(function: Callable[[], None], name: str) -> None:
    """Run a function in a thread of its own; in this one if the process has too many."""
    try:
        threading.Thread(target=function, name=name, daemon=True).start()
    except RuntimeError:
        function()
