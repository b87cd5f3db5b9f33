"""The errors of calls that cannot be made: on another loop, thread or process, at the wrong time, or without a feature.

The connection is not at fault, and goes on.
"""

from __future__ import annotations

from sealwire.errors import FeatureNotSupported, InvalidState


def other_loop() -> InvalidState:
    """Explain that a client is in use on another event loop."""
    return InvalidState("this client is in use on another event loop, which runs; make one client for each event loop")


def no_loop() -> InvalidState:
    """Explain that no event loop runs."""
    return InvalidState(
        "no event loop runs here; use the client in a coroutine, and in a forked child start a loop with asyncio.run"
    )


def of_parent() -> InvalidState:
    """Explain that a forked child has taken up something of its parent's connection."""
    return InvalidState("this belongs to the parent process; call send_requests again in the forked child")


def busy_below() -> InvalidState:
    """Explain that a signal handler, for example, has interrupted a call of the client that it uses itself."""
    return InvalidState(
        "this thread is in the middle of another call of this client, which a signal handler, a finalizer or a log "
        "handler has interrupted; use a separate client there"
    )


def lent() -> InvalidState:
    """Explain that a loop over ``send_requests`` is continued while another thread's call uses its connection."""
    return InvalidState(
        "another thread is in the body of this loop over send_requests, and its call uses the loop's connection; use "
        "one loop and one client for each thread"
    )


def nothing_awaited() -> InvalidState:
    """Explain a call that would wait for a reply although no request is unanswered."""
    return InvalidState("no request is unanswered, so no reply will come; send_msg first")


def no_context() -> InvalidState:
    """Return the error for a handler's ``context`` outside of ``respond``."""
    return InvalidState("only respond has a context, and not handle, which reads its requests itself")


def no_part_now(*, answered: bool) -> InvalidState:
    """Return the error for a handler's message in parts when it cannot be used."""
    if answered:
        return InvalidState("the request has been answered; a handler must take its parts before it returns")
    return InvalidState("only the thread of its handler takes the parts of a request; hand them on in a queue")


def part_is_awaited() -> InvalidState:
    """Return the error for the next part of a stream while another thread, or this one, waits for it."""
    return InvalidState("another thread, or a call that this one has interrupted, takes the next part of this stream")


def stream_in_use() -> InvalidState:
    """Return the error for two tasks that wait for the next part of one stream."""
    return InvalidState("another task waits for the next part of this stream; each task needs a stream of its own")


def not_in_parts(address: str) -> FeatureNotSupported:
    """Return the error for requests or replies in parts at a server that does not know them."""
    return FeatureNotSupported(
        f"the server at {address} takes and gives messages only as a whole: an older version of Sealwire, or a handler "
        "that reads its requests itself"
    )


def no_metadata(address: str) -> FeatureNotSupported:
    """Return the error for metadata at a server that does not know it."""
    return FeatureNotSupported(f"the server at {address} takes no metadata: an older version of Sealwire")


def no_parts_on_udp() -> FeatureNotSupported:
    """Return the error for requests or replies in parts on UDP."""
    return FeatureNotSupported(
        "UDP carries no messages in parts: datagrams can be lost; use the clients and servers on TCP or a Unix socket"
    )
