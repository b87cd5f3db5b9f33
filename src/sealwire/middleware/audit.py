"""The audit log: one line for each request, when it has ended."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from sealwire.authorisation import type_name
from sealwire.events import emit
from sealwire.faults import Refuse
from sealwire.handler_parts import PartsOfMessage
from sealwire.listeners import address_text
from sealwire.middleware.chain import CallNext
from sealwire.middleware.outcome import observe
from sealwire.session.context import Context
from sealwire.session.parts import RequestCancelled

_LONGEST: Final = 80
"""Characters of the name of an exception's type."""


def audit(context: Context, message: Any, call_next: CallNext) -> Any:
    """Record each request of a server, at level INFO, with the logger ``sealwire.audit``: a middleware.

    A line has the client's identity and address, the type of the message, the outcome, the seconds that it took and
    the request's id; nothing of the message or the reply. It is the event ``request.ended`` of the audit log: a record
    has all that is known as its attribute ``audit``, a dict. The outcome is ``answered``, ``refused`` with the code of
    the fault, ``cancelled``, or ``failed`` with the type of the exception. As the outermost middleware it also sees
    what the others refuse and answer.

    Args:
        context: The context of the request.
        message: The message.
        call_next: Passes it on.

    Returns:
        The reply, as ``call_next`` returned it.
    """
    begun = monotonic()
    kind = "parts" if isinstance(message, PartsOfMessage) else type_name(type(message))

    def done(error: BaseException | None) -> None:
        outcome, seconds = _outcome(error), round(monotonic() - begun, 6)
        source = context._session.source(context.sequence)._replace(request=context.request_id)
        client = f"{context.peer or 'anonymous'} from {address_text(context.client_address)}"
        emit(
            "request.ended", f"{client}: {kind} {outcome} in {seconds:.3f} s, request {context.request_id}",
            **source.fields | {"peer": str(context.peer or "anonymous")}, type=kind, outcome=outcome, seconds=seconds,
        )  # fmt: skip

    return observe(context, message, call_next, done)


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "answered"
    if isinstance(error, Refuse) and not error.received:
        return f"refused with fault {error.code}"
    name = type(error).__name__
    if isinstance(error, RequestCancelled | GeneratorExit) or name == "CancelledError":  # asyncio's, not imported here
        return "cancelled"
    # A handler may create a class with a name from a message.
    return f"failed with {name[:_LONGEST]}" if name.isidentifier() else "failed"
