from __future__ import annotations

import pytest

from sealwire.cli.exit_statuses import MEANINGS, ExitStatus, status_of
from sealwire.errors import (
    BadTag,
    BadVersion,
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    EncodeError,
    HandshakeFailed,
    HandshakeRejected,
    NoServerAvailable,
    PeerNotAllowed,
    RemoteError,
    SealwireError,
    TransportError,
    TypeNotAllowed,
    because,
)
from sealwire.faults import Refuse
from support.documents import ROOT

REFUSED = HandshakeRejected("no", code=3)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigurationError("a.toml: no"), ExitStatus.ERROR),
        (FileNotFoundError(2, "No such file or directory", "a.pem"), ExitStatus.ERROR),
        (EncodeError("no"), ExitStatus.ERROR),
        (TypeNotAllowed("the reply's"), ExitStatus.ERROR),
        (TransportError("nothing listens"), ExitStatus.NO_CONNECTION),
        (HandshakeFailed("TLS with something else"), ExitStatus.NO_CONNECTION),
        (HandshakeRejected("overloaded", code=4), ExitStatus.NO_CONNECTION),
        (HandshakeRejected("another version", code=1), ExitStatus.NO_CONNECTION),
        (DeadlineExceeded("connecting"), ExitStatus.NO_CONNECTION),
        (DeadlineExceeded("waiting", sent=True), ExitStatus.DEADLINE),
        (RemoteError(20, "over before it was run"), ExitStatus.DEADLINE),
        (RemoteError(19, "the handler failed"), ExitStatus.FAULT),
        (Refuse(64, "no nails"), ExitStatus.FAULT),
        (RemoteError(17, "not authorised"), ExitStatus.REFUSED),
        (REFUSED, ExitStatus.REFUSED),
        (PeerNotAllowed("another"), ExitStatus.REFUSED),
        (because(HandshakeFailed("expired"), "certificate"), ExitStatus.REFUSED),
        (BadTag("altered"), ExitStatus.REFUSED),
        (BadVersion("in the middle"), ExitStatus.OUTCOME_UNKNOWN),
        (ConnectionClosed("before the reply"), ExitStatus.OUTCOME_UNKNOWN),
        (NoServerAvailable("none", failures={"a:1": REFUSED, "b:1": REFUSED}), ExitStatus.REFUSED),
        (NoServerAvailable("none", failures={"a:1": REFUSED, "b:1": TransportError()}), ExitStatus.NO_CONNECTION),
        (NoServerAvailable("none"), ExitStatus.NO_CONNECTION),
    ],
)  # fmt: skip
def test_each_error_has_its_status(error: SealwireError | OSError, status: ExitStatus) -> None:
    assert status_of(error) is status


def test_a_server_that_does_not_hold_the_key_is_refused() -> None:
    error = HandshakeFailed("it did not prove that it holds the key")
    error.__cause__ = BadTag("another key")
    assert status_of(error) is ExitStatus.REFUSED


def test_the_documentation_has_the_table() -> None:
    text = (ROOT / "docs/reference/exit-statuses.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert rows == [f"| {status:d} | {MEANINGS[status]} |" for status in ExitStatus]
