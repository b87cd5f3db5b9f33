"""Functions around each request, at either end: ``around(context, message, call_next)``.

A server or client that is given ``middleware=[outermost, …, innermost]`` calls the first of them in place of the
handler, or of sending the request. It may look at the message, pass it on or another one, with
``call_next(context, message)``, look at the reply and return it or another one, answer without passing anything on, or
raise :class:`~sealwire.Refuse`::

    def only_by_day(context, message, call_next):
        if not 6 <= datetime.now().hour < 22:
            raise Refuse(70, "closed until six")
        return call_next(context, message)

    ThreadingTCPServer(address, handler, security, middleware=[only_by_day])

A middleware is a part of the program, not of its input: what it passes on and returns is checked like what the handler
returns, and an exception that it raises is the handler's failure (FAULT 19).

*Coroutine functions* may stand around handlers that are coroutine functions, and in clients on asyncio;
``await call_next(context, message)`` is the reply there. An ordinary function may stand there as well, and then returns
what ``call_next`` returns, an awaitable, without having seen the reply. :func:`observe` works in both.

*Clients.* Middleware is around ``send_request``, ``stream`` and ``send_parts``; its ``context`` is a
:class:`CallContext`, with metadata to fill::

    def with_tenant(context, message, call_next):
        context.metadata["tenant"] = "north"
        return call_next(context, message)

It is around each item of ``AsyncClientPool.send_requests``, but around no other ``send_requests``. Around ``stream``,
``call_next`` returns the stream before its request was sent, and the middleware returns that; on asyncio it runs when
the first part is asked for. Around ``send_parts`` the message is the iterable of parts.

*In parts.* The message of a request in parts is an iterator over them (an async iterator for coroutine functions), and
``call_next`` returns a generator if the handler is one, before its body has begun: to look at the parts, return a
generator of your own that yields them. The same holds for an async generator, after ``await``.
"""

from __future__ import annotations

from sealwire.authorisation import Authorisation, Rule
from sealwire.middleware.audit import audit
from sealwire.middleware.authorise import authorise
from sealwire.middleware.calling import CallContext
from sealwire.middleware.chain import CallNext, Middleware
from sealwire.middleware.measure import measure
from sealwire.middleware.outcome import observe

__all__ = ["Authorisation", "CallContext", "CallNext", "Middleware", "Rule", "audit", "authorise", "measure", "observe"]
