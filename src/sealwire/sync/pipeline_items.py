"""The items of a loop over ``send_requests``: what the caller's iterable produces, encoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from sealwire.errors import EncodeError, PayloadTooLarge
from sealwire.retry import Resend
from sealwire.security import Security
from sealwire.wire.frames import Payload, VerifiedPayload

_INSTANT: Final = (list, tuple, range, deque)
"""Iterables that have their next item at once: replies need not be looked for before."""


class Request:
    """An item of the iterable.

    Args:
        index: Its position, from 0.

    Attributes:
        index: As given.
        payload: The encoded request; None if there is none.
        answer: Its reply or fault, or the error of an item that cannot be sent; None until there is one.
        resend: Decides if it may be sent again, and until when; None before it is sent.
    """

    __slots__ = ("answer", "index", "payload", "resend")

    def __init__(self, index: int) -> None:
        self.index = index
        self.payload: Payload | None = None
        self.answer: VerifiedPayload | Exception | None = None
        self.resend: Resend | None = None


class Items:
    """The items of one iterable.

    Args:
        iterable: The messages.
        security: Its codec encodes them.
        return_errors: True if the items after one that cannot be sent are wanted.

    Attributes:
        is_instant: True if the next item is there at once.
        more: True until the last item was taken.
    """

    def __init__(self, iterable: Iterable[Any], security: Security, *, return_errors: bool) -> None:
        self.is_instant = type(iterable) in _INSTANT
        self.more = True
        self._iterator = iter(iterable)
        self._security = security
        self._return_errors = return_errors
        self._next_index = 0

    def take(self) -> Request | None:
        """Return the next item, or None after the last one. The iterable's exception is an item, too."""
        request = Request(self._next_index)
        try:
            value = next(self._iterator)
        except StopIteration:
            self.more = False
            return None
        except Exception as error:
            self.more = False
            error.add_note(f"raised by the iterable of send_requests in place of item {request.index} (counted from 0)")
            request.answer = error
        else:
            try:
                request.payload = self._security.codec.encode_pieces(value)
            except Exception as error:
                self.refuse(request, error)
        self._next_index += 1
        return request

    def refuse(self, request: Request, error: Exception) -> None:
        """Let the error of an item that cannot be sent take the place of its reply."""
        place = f"item {request.index} of send_requests (counted from 0)"
        if isinstance(error, EncodeError | PayloadTooLarge):
            error.args = (f"{place}: {error}",)
        else:
            error.add_note(f"raised while {place} was encoded")
        request.answer = error
        self.more = self.more and self._return_errors
