"""The middleware that holds the clients of a server to rules by peer and type of message."""

from __future__ import annotations

from typing import Any, Final

from sealwire.authorisation import Authorisation, Rule, type_name
from sealwire.errors import ConfigurationError, RemoteError
from sealwire.failures import report_message
from sealwire.faults import Refuse
from sealwire.handler_parts import PartsOfMessage
from sealwire.middleware.chain import CallNext
from sealwire.middleware.parts import checked_parts
from sealwire.session.context import Context
from sealwire.wire.frames import FaultCode

NOT_AUTHORISED: Final = "this client may not send messages of this type"
"""The text of the FAULT, which has code 17."""


class NotAuthorised(Refuse):
    """No rule allows this peer to send a message of this type."""

    def __init__(self) -> None:
        # The code is Sealwire's own: as for any other type that is not accepted, no handler has seen the message.
        RemoteError.__init__(self, FaultCode.TYPE_NOT_ALLOWED, NOT_AUTHORISED)


class Authorise:
    """Refuses messages that no rule allows; see :func:`authorise`.

    Attributes:
        rules: The rules.
    """

    def __init__(self, rules: Authorisation) -> None:
        self.rules: Final = rules

    def __call__(self, context: Context, message: Any, call_next: CallNext) -> Any:
        """Pass a message on, or raise NotAuthorised."""
        if isinstance(message, PartsOfMessage):
            return call_next(context, checked_parts(message, lambda part: self._judge(context, part)))
        self._judge(context, message)
        return call_next(context, message)

    def _judge(self, context: Context, message: Any) -> None:
        cls = type(message)
        if self.rules.allows(context.peer, cls):
            return
        name = type_name(cls)
        why = f"of type {name}: no rule of authorise allows it"
        report_message(context._session, context.sequence, "not_authorised", why, name)
        raise NotAuthorised


def authorise(*rules: Rule | Authorisation | None) -> Authorise:
    """Return a middleware for servers that refuses each message that no rule allows.

    A message is judged by its own, exact type, whatever it contains; a message in parts part by part, as its handler
    takes them. A refused message gets FAULT 17 with the text "this client may not send messages of this type", and a
    warning in the log of ``sealwire.server`` with the peer and the type.

    The rules of a configuration (``Security.authorisation``) are applied without this, before all middleware. In the
    list of middleware, ``authorise(security.authorisation)`` moves them to its place.

    Args:
        rules: Rules, or the rules of a Security alone, which must have some.

    Raises:
        ConfigurationError: There is no rule, or an argument is not a Rule.
    """
    if len(rules) == 1 and isinstance(rules[0], Authorisation):
        return Authorise(rules[0])
    if any(each is None for each in rules):
        raise ConfigurationError("authorise: this Security has no rules; give it some, or leave authorise() out")
    return Authorise(Authorisation(rules))  # type: ignore[arg-type]  # which checks them
