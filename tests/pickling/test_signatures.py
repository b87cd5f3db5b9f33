"""The types that a signature declares. tests/test_contract.py tests what a server makes of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from sealwire.pickling.signatures import read_signature


def test_a_function_without_parameters_declares_no_message() -> None:
    def nothing() -> int:
        return 1

    signature = read_signature(nothing)
    assert (signature.parameter, signature.message, signature.reply) == ("message", Any, int)


def test_parts() -> None:
    def both(message: Iterator[int]) -> Generator[str, None, bytes]:
        yield str(next(message))
        return b""

    signature = read_signature(both)
    assert (signature.message, signature.takes_parts) == (int, True)
    assert (signature.part, signature.reply) == (str, bytes)


def test_functions_in_c_say_nothing() -> None:
    assert read_signature(int).message is Any
