"""The whole of the reference implementation in one place, for tests to import from.

RefClient and RefServer are the two sides; ``protocol`` has the pure functions. Nothing here shares code with
``sealwire``: a test that lets one of these talk to it checks both against docs/protocol.md.
"""

from reference import protocol
from reference.actions import (
    answer,
    answer_partly,
    close,
    credit,
    do,
    drop,
    fault,
    grant,
    hold,
    nothing,
    part,
    parts,
    pong,
    raw,
    reject,
    send,
    silent,
    welcome,
)
from reference.client import Closed, RefClient
from reference.connection import Connection, Fault, Received
from reference.features import Features, entries, metadata
from reference.protocol import (
    Frame,
    Violation,
    binding,
    frame,
    hello_payload,
    hkdf,
    k_hello,
    log_hash,
    parse_frame,
    traffic_keys,
    welcome_payload,
)
from reference.rules import Rejected
from reference.server import RefServer
from reference.transport import End, Ended

__all__ = [
    "Closed",
    "Connection",
    "End",
    "Ended",
    "Fault",
    "Features",
    "Frame",
    "Received",
    "RefClient",
    "RefServer",
    "Rejected",
    "Violation",
    "answer",
    "answer_partly",
    "binding",
    "close",
    "credit",
    "do",
    "drop",
    "entries",
    "fault",
    "frame",
    "grant",
    "hello_payload",
    "hkdf",
    "hold",
    "k_hello",
    "log_hash",
    "metadata",
    "nothing",
    "parse_frame",
    "part",
    "parts",
    "pong",
    "protocol",
    "raw",
    "reject",
    "send",
    "silent",
    "traffic_keys",
    "welcome",
    "welcome_payload",
]
