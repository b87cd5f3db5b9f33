"""Exceptions: their arguments, attributes and notes."""

from __future__ import annotations

import pickle
import subprocess
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pickling import shop
from pickling.assembler import blob, call, dict_, integer, message, text, tuple_
from sealwire import Allowlist, Codec, EncodeError, InvalidValue, LimitExceeded, TypeNotAllowed

if TYPE_CHECKING:
    from pathlib import Path


class WithCode(Exception):
    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        if code < 0:
            raise ValueError
        self.code = code


class WithText(Exception):
    def __init__(self, amount: int, currency: str, /) -> None:
        super().__init__(f"{amount} {currency}")
        self.amount, self.currency = amount, currency


class WithMessage(Exception):
    def __init__(self, amount: int, currency: str = "EUR", *, rate: float = 1.0) -> None:
        super().__init__(f"{amount} {currency} {rate}")
        self.amount, self.currency, self.rate = amount, currency, rate


class Declared(Exception):
    retries: int = 0
    tags: list[str]
    where: ClassVar[str] = "here"
    level = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.answer = None
        self.length = len(message)

    @property
    def double(self) -> int:
        return 2 * self.retries


class Late(Exception):
    path: Path


class Odd(UnicodeDecodeError):
    def __init__(self, start: int) -> None:
        super().__init__("utf-8", b"abc", start, start + 1, "odd")
        self.args = (start,)
        self.start_at = start


class Unset(UnicodeEncodeError):
    def __init__(self) -> None:
        pass


TYPES = (
    WithCode, WithText, WithMessage, Declared, Late, Odd, Unset, UnicodeDecodeError, UnicodeEncodeError,
    UnicodeTranslateError, SyntaxError, IndentationError, subprocess.CalledProcessError, subprocess.TimeoutExpired,
)  # fmt: skip
HERE = __name__
CODEC = Codec(Allowlist(*shop.TYPES))
KINDS = Codec(Allowlist(*TYPES))
OWN = Codec(Allowlist(ImportError, ModuleNotFoundError, AttributeError, NameError))


def raised(function: Callable[[], Any]) -> Exception:
    try:
        function()
    except Exception as error:
        return error.with_traceback(None)
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        ImportError("x"),
        ImportError("x", name="m", path="p"),
        raised(lambda: __import__("not_installed_anywhere")),
        raised(lambda: None.foo),
        raised(lambda: not_defined),  # noqa: F821 - wrong, as the test wants it
        AttributeError("x"),
    ],
    ids=repr,
)
def test_exceptions_of_cpython_that_have_a_name(error: Any) -> None:
    for data in (OWN.encode(error), *(pickle.dumps(error, protocol) for protocol in (3, 4, 5))):
        found, expected = OWN.decode(data), pickle.loads(data)
        assert (type(found), found.args) == (type(error), error.args)
        assert getattr(found, "name", None) == getattr(expected, "name", None)
        assert getattr(found, "path", None) == getattr(expected, "path", None)


def test_the_parts_of_an_exception_are_in_the_path() -> None:
    error = ValueError("a", object())
    error.detail = 1
    with pytest.raises(EncodeError, match=r"^\$\.args\[1\]: object is not on the allowlist"):
        CODEC.encode(error)
    error = ValueError("a")
    error.detail = [object()]
    with pytest.raises(EncodeError, match=r"^\$\.detail\[0\]: object"):
        CODEC.encode(error)


def test_exceptions_with_the_attributes_of_their_kind() -> None:
    codec = Codec(Allowlist(ImportError, ModuleNotFoundError, AttributeError))
    values: list[Exception] = [ImportError("a", name="b", path="c"), ModuleNotFoundError("a", name="b"), ImportError()]
    try:
        _ = None.missing
    except AttributeError as error:
        values.append(error)
    for value in values:
        for protocol in range(3, 6):
            got = codec.decode(pickle.dumps(value, protocol))
            assert type(got) is type(value)
            assert got.__reduce__() == value.__reduce__()
        assert repr(codec.decode(codec.encode(value))) == repr(value)
    data = pickle.dumps(ImportError("a", name="b"), 3)
    with pytest.raises(InvalidValue, match="its name must be str"):
        codec.decode(data.replace(b"X\1\0\0\0b", b"]"))
    with pytest.raises(InvalidValue, match="another exception"):
        codec.decode(data.replace(b"name", b"mane"))


def changed(error: Exception, **attributes: Any) -> Exception:
    """An exception to which a program has added attributes."""
    vars(error).update(attributes)
    return error


@pytest.mark.parametrize(
    "error",
    [
        WithCode("x"),
        WithCode("x", 5),
        WithCode("x", code=5),
        WithText(1, "EUR"),
        WithMessage(3),
        WithMessage(3, "NOK", rate=11.5),
        changed(WithCode("x", 5), seen=True),
        Declared("x"),
        changed(Declared("x"), retries=3, tags=["a"], answer={"a": 1}, length=7, level=2, more=[None]),
        changed(Late("x"), hint="look"),
        Odd(1),
        Unset(),
        UnicodeDecodeError("utf-8", b"abc", 2, 3, "bad"),
        UnicodeTranslateError("abc", 0, 3, "bad"),
        SyntaxError("m", ("f", 1, 2, "a b", 1, 4)),
        SyntaxError("m", ("f", 1, 0, None)),
        SyntaxError(),
        subprocess.CalledProcessError(1, ["a"], output="o", stderr="e"),
        subprocess.TimeoutExpired(["a"], 5, output=b"x"),
    ],
    ids=repr,
)
def test_attributes_beyond_the_arguments(error: Exception) -> None:
    for data in (KINDS.encode(error), pickle.dumps(error, 5)):
        found = KINDS.decode(data)
        assert (type(found), found.args, vars(found)) == (type(error), error.args, vars(error))
        assert traceback.format_exception(found) == traceback.format_exception(error)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (changed(WithCode("x"), code="5"), "expected int for code"),
        (changed(WithCode("x"), code=-5), r"does not accept these values \(ValueError\)"),
        (changed(WithMessage(3), amount=4), "another exception of these arguments, with other args"),
        (changed(Declared("x"), retries="3"), "expected int for retries"),
        (changed(Declared("x"), tags=["a", 1]), r"\$\.tags\[1\]: .*expected str for tags"),
        (changed(Declared("x"), where="there"), "expected what the constructor makes"),
        (changed(Declared("x"), length=7.5), "its length must be int"),
        (changed(Declared("x"), level=True), "its level must be int"),
        (changed(Declared("x"), double=2), "its double cannot be set"),
        (changed(Declared("x"), with_traceback=2), "its with_traceback cannot be set"),
        (changed(Declared("x"), args=(1,)), "its args cannot be set"),
        (changed(Declared("x"), **{"no name": 1}), "an attribute with a name that none has"),
        (changed(Declared("x"), __cause__=None), "an attribute with a name that none has"),
        (changed(Late("x"), path="p"), "expected what the constructor makes"),
    ],
    ids=repr,
)
def test_attributes_that_are_refused(error: Exception, reason: str) -> None:
    for refused, act in (
        (EncodeError, lambda: KINDS.encode(error)),
        (InvalidValue, lambda: KINDS.decode(pickle.dumps(error, 5))),
    ):
        with pytest.raises(refused, match=reason):
            act()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_modules_that_python_2_called_otherwise(protocol: int) -> None:
    """At protocol 2 CPython writes commands for subprocess, and reads that again; later it means another module."""
    error = subprocess.CalledProcessError(1, ["a"])
    data = pickle.dumps(error, protocol)
    assert vars(KINDS.decode(data)) == vars(error)
    if protocol == 2:
        assert b"ccommands\n" in data
        with pytest.raises(TypeNotAllowed):
            KINDS.decode(data.replace(b"\x80\x02", b"\x80\x03"))


@pytest.mark.parametrize("name", ["OSError", "IOError", "EnvironmentError"])
def test_names_of_oserror_in_python_2(name: str) -> None:
    data = b"\x80\x02cexceptions\n%b\nX\x01\0\0\0x\x85R." % name.encode()
    found = Codec(Allowlist(OSError)).decode(data)
    assert (type(found), found.args) == (type(pickle.loads(data)), ("x",))


def test_too_many_attributes_and_too_few() -> None:
    many = dict_(*((text(f"a{n}"), integer(n)) for n in range(65)))
    with pytest.raises(InvalidValue, match="at most 64"):
        KINDS.decode(message(call(HERE, "Declared", text("x")), many, b"b"))
    with pytest.raises(InvalidValue, match="another exception of these arguments, with code"):
        KINDS.decode(message(call(HERE, "WithCode", text("x")), b"}b"))


def test_too_many_arguments() -> None:
    with pytest.raises(InvalidValue, match="not the arguments that its constructor declares"):
        KINDS.decode(message(call(HERE, "WithCode", text("x"), integer(1), integer(2))))


def test_attributes_are_compared_by_type() -> None:
    """True is not the 1 that was passed."""
    error = shop.OutOfStock("nails", 1)
    with pytest.raises(InvalidValue, match="with other args"):
        CODEC.decode(pickle.dumps(changed(error, left=True), 5))


def test_state_of_later_versions_of_python() -> None:
    """3.12 repeats the arguments of an AttributeError, and has the name that an ImportError did not find."""
    state = dict_((text("name"), text("n")), (text("args"), tuple_(text("x"))))
    found = OWN.decode(message(call("builtins", "AttributeError", text("x")), state, b"b"))
    assert (found.args, found.name) == (("x",), "n")
    state = dict_((text("name"), text("n")), (text("name_from"), text("evil")))
    found = OWN.decode(message(call("builtins", "ImportError", text("x")), state, b"b"))
    assert (found.name, getattr(found, "name_from", None)) == ("n", None)


def unicode(name: str, content: bytes, start: int, end: int) -> bytes:
    codec = () if name == "UnicodeTranslateError" else (text("utf-8"),)
    return call("builtins", name, *codec, content, integer(start), integer(end), text(""))


def syntax(message: bytes, *details: bytes) -> bytes:
    return call("builtins", "SyntaxError", message, tuple_(text("f"), *details))


UNUSABLE = {
    "far before the bytes": unicode("UnicodeDecodeError", blob(b"abc"), -(2**40), 1 - 2**40),
    "after the bytes": unicode("UnicodeDecodeError", blob(b"abc"), 3, 4),
    "before its start": unicode("UnicodeEncodeError", text("abc"), 2, 1),
    "in nothing": unicode("UnicodeTranslateError", text(""), 0, 0),
    "by a subclass": call(HERE, "Odd", integer(-(2**40))) + dict_((text("start_at"), integer(-(2**40)))) + b"b",
    "a gigabyte of carets": syntax(text("m"), integer(1), integer(1), text("x"), integer(1), integer(10**9)),
    "a column far to the left": syntax(text("m"), integer(1), integer(-(2**40)), text("x")),
    "a line that is none": syntax(text("m"), integer(2**31), integer(1), text("x")),
    "a line of text": syntax(text("m"), text("1"), integer(1), text("x")),
    "text that is a number": syntax(text("m"), integer(1), integer(1), integer(5)),
    "a message that is a number": syntax(integer(1), integer(1), integer(1), b"N"),
}


@pytest.mark.parametrize("data", UNUSABLE.values(), ids=UNUSABLE)
def test_what_the_code_of_cpython_presumes(data: bytes) -> None:
    """Their own constructors take such values; then str() crashes, and traceback prints without end."""
    with pytest.raises(InvalidValue, match=r"its (start and end|lineno|offset|end_offset|text|msg) "):
        KINDS.decode(message(data))


def test_subclasses_of_oserror_at_protocol_2() -> None:
    """It has one name for all of them, and CPython's constructor chooses by the number."""
    both = Codec(Allowlist(OSError, FileNotFoundError))
    data = pickle.dumps(FileNotFoundError(2, "no such file", "/tmp/x"), 2)
    got = both.decode(data)
    assert type(got) is FileNotFoundError
    assert (got.args, got.filename) == ((2, "no such file"), "/tmp/x")
    for codec, sent in ((Codec(Allowlist(OSError)), data), (both, pickle.dumps(PermissionError(13, "no"), 2))):
        with pytest.raises(
            InvalidValue, match="its constructor makes another exception of these arguments, of another"
        ):
            codec.decode(sent)


class Many(Exception):
    def __init__(self, *numbers: int) -> None:
        super().__init__(*numbers)


def test_the_checks_of_shared_arguments_and_attributes_are_charged() -> None:
    """Seven bytes more for one more exception of sixty attributes, whose checks take a fifth of a millisecond."""
    codec = Codec(Allowlist(Late, Many))
    attributes = dict_(*((text(f"a{n}"), integer(n)) for n in range(60)))
    numbers = tuple_(*map(integer, range(60)))
    for name, parts, again in (
        ("Late", tuple_() + b"R" + attributes + b"\x94b", b"h\x00)Rh\x01b"),
        ("Many", numbers + b"\x94R", b"h\x00h\x01R"),
    ):
        start = b"\x80\x04](" + text(HERE) + text(name) + b"\x93\x94" + parts
        assert len(codec.decode(start + 9 * again + b"e.")) == 10
        with pytest.raises(LimitExceeded, match="max_expanded_nodes: checking"):
            codec.decode(start + 5000 * again + b"e.")
