"""A server's peers on one socket, told apart by their addresses; without the socket, and without threads.

Nothing is kept of an address that has not answered a cookie. From then on it has an association, which counts as
pending until its client has proved who it is, and then as established; each state has its own bound. An established
association gives way to one from the same address only when that is established as well: whoever has seen a cookie can
write the address on a datagram.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from sealwire.admission import GRACE
from sealwire.channel.server import FAULT_TEXTS
from sealwire.dtls.association import ServerAssociation
from sealwire.dtls.listener import Listener
from sealwire.dtls.records import client_random, is_encrypted
from sealwire.errors import PayloadTooLarge, RemoteProtocolError, SealwireError
from sealwire.handler import log_lapse, log_refusal
from sealwire.listening import address_text
from sealwire.security import Security
from sealwire.wire.events import Closed, Established, Event, Request
from sealwire.wire.frames import CloseCode, FaultCode, Payload, RejectCode

logger = logging.getLogger("sealwire.server")

_PENDING_LOOK: Final = 0.05
"""Seconds between two looks at those whose handshake may have to be sent again."""


class Endpoint:
    """send: sends a datagram to an address. handle: takes a request that is in hand from now on; whoever has it calls
    send_reply or send_fault, then release. To be used by one thread at a time.
    """

    def __init__(
        self,
        security: Security,
        *,
        send: Callable[[bytes, Any], None],
        handle: Callable[[ServerAssociation, Request, float | None], None],
    ) -> None:
        self._security = security
        self._limits = security.limits
        self._send = send
        self._handle = handle
        self._listener = Listener(security)
        self._established: dict[Any, ServerAssociation] = {}
        self._pending: dict[Any, ServerAssociation] = {}
        self._next_sweep = 0.0
        self._leaving = False
        self.in_hand = 0
        """Requests in the hands of handlers."""

    @property
    def pause(self) -> float:
        """Seconds until handle_timeouts is due."""
        if self._pending:
            return _PENDING_LOOK
        return max(0.0, min(self._next_sweep - monotonic(), self._limits.reload_interval))

    @property
    def peers(self) -> int:
        """Associations that there are."""
        return len(self._established) + len(self._pending)

    def datagram_received(self, datagram: bytes, address: Any) -> None:
        """What came from an address. Never raises for what is in it."""
        for association in self._addressees(datagram, address):
            try:
                events = association.datagram_received(datagram)
            except SealwireError as error:
                self._failed(association, error)
                continue
            for event in events:
                self._happened(association, event)
            self._flush(association)
            # Who was answered REJECT may ask again, if the answer was lost.
            if association.gone or (association.ended and association.rejected is None):
                self._forget(association)

    def handle_timeouts(self) -> None:
        """Send again, look whether associations still hold, and end those that are idle or took too long."""
        now = monotonic()
        for association in list(self._pending.values()):
            if association.open:
                self._look(association, now)
            elif now >= association.since + self._limits.handshake_timeout:
                logger.info("%s: did not complete the handshake in time", address_text(association.address))
                self._forget(association)
            elif now >= association.timeout:
                try:
                    association.handle_timeout()
                    self._flush(association)
                except SealwireError as error:
                    self._failed(association, error)
        if now < self._next_sweep:
            return
        self._next_sweep = now + min(self._limits.reload_interval, self._limits.idle_timeout / 2)
        for association in list(self._established.values()):
            self._look(association, now)

    def send_reply(self, association: ServerAssociation, request: int, payload: Payload) -> None:
        """Answer a request; FAULT 18 where the payload is over what a datagram takes. Without effect where the
        association has ended, or ends now. Raises PayloadTooLarge.
        """
        if self._lapsed(association) or not association.open:
            return
        try:
            association.protocol.send_reply(request, payload)
        except PayloadTooLarge:
            self.send_fault(association, request, FaultCode.TOO_LARGE)
            raise
        self._flush(association)

    def send_fault(self, association: ServerAssociation, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT."""
        if association.open:
            association.protocol.send_fault(request, code, FAULT_TEXTS[FaultCode(code)] if text is None else text)
            self._flush(association)

    def release(self, association: ServerAssociation) -> None:
        """A request is not in hand any more."""
        self.in_hand -= 1
        association.in_hand -= 1
        association.active = monotonic()
        if self._leaving and not association.in_hand:
            self._end(association, CloseCode.GOING_AWAY)
        else:
            self._lapsed(association)

    def stay(self) -> None:
        """Serve, again perhaps."""
        self._leaving = False

    def leave(self) -> None:
        """Take no more requests; say so to all, or when what they asked is answered."""
        self._leaving = True
        for association in self._all():
            if not association.in_hand:
                self._end(association, CloseCode.GOING_AWAY)

    def close(self) -> None:
        """End all."""
        for association in self._all():
            self._end(association, CloseCode.GOING_AWAY)

    def _addressees(self, datagram: bytes, address: Any) -> list[ServerAssociation]:
        here = [table[address] for table in (self._established, self._pending) if address in table]
        random = client_random(datagram)
        if random is None:
            # Each drops what is not sealed with its own keys.
            return here if is_encrypted(datagram) else [each for each in here if each is self._pending.get(address)]
        repeated = [each for each in here if each.random == random]
        if not repeated:
            self._greet(datagram, address, random)
        return repeated

    def _all(self) -> list[ServerAssociation]:
        return [*self._established.values(), *self._pending.values()]

    def _greet(self, datagram: bytes, address: Any, random: bytes) -> None:
        if self._leaving:
            return
        found = self._listener.listen(datagram, address)
        if isinstance(found, list):
            for answer in found:
                self._send(answer, address)
            return
        if address in self._pending:
            # He has answered a cookie, so he is there, and has begun anew (RFC 6347, section 4.2.8).
            self._forget(self._pending[address])
        if len(self._pending) >= self._limits.max_handshakes and not self._make_room():
            return
        association = ServerAssociation(
            self._security, *found, address=address, random=random, busy=self._busy
        )  # fmt: skip
        self._pending[address] = association
        try:
            association.begin()
        except SealwireError as error:
            self._failed(association, error)
        else:
            self._flush(association)

    def _make_room(self) -> bool:
        oldest = next(iter(self._pending.values()))
        if monotonic() - oldest.since < GRACE:
            return False
        self._forget(oldest)
        return True

    def _happened(self, association: ServerAssociation, event: Event) -> None:
        address = association.address
        if not association.ended and association.authenticated and self._pending.get(address) is association:
            self._established.pop(address, None)
            if len(self._established) >= self._limits.max_connections:
                self._end(association, CloseCode.GOING_AWAY)
                return
            del self._pending[address]
            self._established[address] = association
        if isinstance(event, Request):
            self._asked(association, event)
        elif isinstance(event, Closed):
            self._forget(association)
        elif isinstance(event, Established):
            association.active = monotonic()

    def _asked(self, association: ServerAssociation, request: Request) -> None:
        now = association.active = monotonic()
        if self._leaving or association.lapse is not None or not association.open:
            return
        if (
            self.in_hand >= self._limits.max_in_flight_total
            or association.in_hand >= self._limits.max_in_flight
        ):  # fmt: skip
            self.send_fault(association, request.sequence, FaultCode.OVERLOADED)
            return
        deadline = None if request.wait is None else now + request.wait
        association.protocol.hand_over(request.sequence)
        self.in_hand += 1
        association.in_hand += 1
        self._handle(association, request, deadline)

    def _look(self, association: ServerAssociation, now: float) -> None:
        idle = not association.in_hand and now >= association.active + self._limits.idle_timeout
        if not self._lapsed(association) and idle:
            self._end(association, CloseCode.IDLE)

    def _lapsed(self, association: ServerAssociation) -> bool:
        """Look, where it is time to, whether what it was made by still holds. Where not it takes no more requests, and
        ends: at once, or when those in hand are answered. Whether it has ended now."""
        if not association.open:
            return False
        lapse = association.lapse = association.lapse or association.look()
        if lapse is None or (association.in_hand and not lapse.at_once):
            return False
        log_lapse(association.address, association.peer, lapse)
        self._end(association, lapse.code)
        return True

    def _failed(self, association: ServerAssociation, error: SealwireError) -> None:
        if isinstance(error, RemoteProtocolError) and association.key_id:
            logger.warning("%s: ended: %s", address_text(association.address), error)
        else:
            log_refusal(association.address, association.peer, error, dropped=False)
        self._flush(association)
        # Who was answered REJECT may ask again, if the answer was lost.
        if association.rejected is None:
            self._forget(association)

    def _flush(self, association: ServerAssociation) -> None:
        for datagram in association.datagrams_to_send():
            self._send(datagram, association.address)

    def _end(self, association: ServerAssociation, code: int) -> None:
        for datagram in association.close(code):
            self._send(datagram, association.address)
        self._forget(association)

    def _forget(self, association: ServerAssociation) -> None:
        for table in (self._established, self._pending):
            if table.get(association.address) is association:
                del table[association.address]

    def _busy(self) -> int | None:
        if self._leaving:
            return RejectCode.SHUTTING_DOWN
        return RejectCode.OVERLOADED if len(self._established) >= self._limits.max_connections else None
