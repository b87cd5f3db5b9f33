from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest

import sealwire
from sealwire import errors
from sealwire.errors import ConnectionClosed, DeadlineExceeded, HandshakeRejected, RemoteError, SealwireError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


def example(kind: type[Exception]) -> Exception:
    """An error of that class, as the package raises it."""
    if kind is HandshakeRejected:
        return HandshakeRejected("refused", code=3)
    if kind is ConnectionClosed:
        return ConnectionClosed("gone", code=1, last=7)
    if kind is RemoteError:
        return RemoteError(19, "the handler failed")
    if kind is DeadlineExceeded:
        return DeadlineExceeded("late", sent=True)
    return kind("what was wrong")


def drawn(tree: str) -> Iterator[tuple[str, str, str | None]]:
    """Each class of the tree in the docstring, with the built-in class beside it and the class above it."""
    above: list[str] = []
    for line in tree.splitlines():
        match = re.fullmatch(r"    ((?:[│ ]   )*(?:[├└]── )?)([A-Z]\w+)(?: \((\w+)\))?(?:  .*)?", line)
        if match:
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            yield match[2], above[depth - 1] if depth else "Exception", match[3]


def test_the_tree_in_the_docstring_is_the_hierarchy() -> None:
    assert errors.__doc__ is not None
    expected = list(drawn(errors.__doc__.partition("Apart from")[0]))
    assert expected == [
        (
            kind.__name__,
            kind.__bases__[0].__name__,
            kind.__bases__[1].__name__ if len(kind.__bases__) > 1 else None,
        )
        for kind in CLASSES
    ]
    assert len(expected) > 20


@pytest.mark.parametrize("kind", CLASSES)
def test_is_public_and_has_a_docstring(kind: type[Exception]) -> None:
    assert getattr(sealwire, kind.__name__) is kind
    assert kind.__name__ in sealwire.__all__
    assert inspect.getdoc(kind)
    assert issubclass(kind, SealwireError)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.TruncatedFrame, EOFError),
        (errors.TransportError, OSError),
        (errors.DeadlineExceeded, TimeoutError),
    ],
)
def test_is_caught_as_what_a_caller_may_expect(kind: type[Exception], builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match="what was wrong"):
        raise kind("what was wrong")


def test_a_protocol_error_is_not_a_transport_error() -> None:
    for kind in CLASSES:
        assert not (issubclass(kind, errors.ProtocolError) and issubclass(kind, OSError))


@pytest.mark.parametrize("kind", CLASSES)
def test_text(kind: type[Exception]) -> None:
    expected = "the server answered fault 19: the handler failed" if kind is RemoteError else example(kind).args[0]
    assert str(example(kind)) == expected


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_crosses_process_pools_whole(kind: type[Exception], copied: Any) -> None:
    error = example(kind)
    again = copied(error)
    assert type(again) is kind
    assert (str(again), vars(again)) == (str(error), vars(error))


class TestAttributes:
    def test_connection_closed(self) -> None:
        assert (ConnectionClosed("x").code, ConnectionClosed("x").last) == (None, None)
        error = ConnectionClosed("x", code=0, last=0)
        assert (error.code, error.last) == (0, 0)

    def test_handshake_rejected(self) -> None:
        assert HandshakeRejected("x", code=4).code == 4
        assert HandshakeRejected("x").code == 3  # as an unknown code is read

    def test_deadline_exceeded(self) -> None:
        assert not DeadlineExceeded("x").sent
        assert DeadlineExceeded("x", sent=True).sent

    def test_remote_error(self) -> None:
        error = RemoteError(16, "malformed")
        assert (error.code, error.text) == (16, "malformed")
