"""The time of one call of a client, the same arithmetic for every client."""

from __future__ import annotations


class CallTime:
    """The time of one call: ``wait`` seconds for all of it, and ``timeout`` more for its first connection.

    The clock starts with the call. Waiting behind other requests of the same client counts, and so does connecting
    again after the connection was lost. So the caller gets a reply or an error after ``timeout + wait`` seconds at the
    latest, and nothing is sent for it later.

    Args:
        timeout: Seconds for a connection.
        wait: Seconds for the request.
        now: The present time.

    Attributes:
        deadline: The time at which the caller stops waiting, as far as it is known: the first connection postpones it.
        connected: True if the call has had a connection, so that the time for another one counts.
        sent: True if the request was sent on a connection that was lost, and the server may have acted on it.
    """

    def __init__(self, *, timeout: float, wait: float, now: float) -> None:
        self._timeout = timeout
        self.connected = False
        self._begun = now
        self.deadline = now + wait
        self.sent = False

    def begin_connecting(self, now: float) -> float:
        """Return the time by which a connection must be made, by this call or by another one that it waits for."""
        self._begun = now
        return now + self._timeout if not self.connected else min(now + self._timeout, self.deadline)

    def end_connecting(self, now: float) -> None:
        """Note that a connection was made: only the first one's time does not count."""
        if not self.connected:
            self.connected = True
            self.deadline += now - self._begun
