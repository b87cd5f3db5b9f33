"""Exceptions of the usual styles: made again by their constructor or without it, or refused when registered."""

from __future__ import annotations

import configparser
import pickle
import re
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import pydantic
import pytest

from sealwire import Allowlist, Codec, ConfigurationError, EncodeError, InvalidValue

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Item:
    name: str


class Kept(Exception):
    """The constructor makes it again, by the names of its attributes."""

    def __init__(self, item: str, count: int = 0) -> None:
        if count < 0:
            raise ValueError
        super().__init__(f"{item}: only {count}")
        self.item, self.count = item, count


class Renamed(Exception):
    """The attribute has another name, and the annotation of the parameter."""

    def __init__(self, item: str) -> None:
        super().__init__(f"no {item}")
        self.sku = item


class Message(Exception):
    """Nothing but its message."""

    def __init__(self, item: Item) -> None:
        super().__init__(f"no {item.name}")


class Declaring(Exception):
    sku: str
    price: float = 0.0
    tags: list[str]
    hint: str | None = None
    where: ClassVar[str] = "here"

    def __init__(self, item: Item, *tags: str) -> None:
        super().__init__(f"no {item.name}")
        self.sku = item.name.upper()
        self.tags = [tag.lower() for tag in tags]
        if tags:
            self.price = 1.5


class Base(Exception):
    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code: int = code


class Derived(Base):
    def __init__(self, item: str, code: int) -> None:
        Base.__init__(self, f"no {item}", code=code)
        self.item = item


class Fixed(Base):
    def __init__(self, message: str) -> None:
        super().__init__(message, 7)


class Inherited(Base):
    pass


class ByKeyword(Exception):
    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class OnlyByKeyword(Exception):
    def __init__(self, *, name: str) -> None:
        super().__init__(name)


class Joined(Exception):
    def __init__(self, *parts: str) -> None:
        super().__init__("|".join(parts))


class Passed(Exception):
    def __init__(self, *parts: str) -> None:
        super().__init__(*parts)


class Swapped(Exception):
    def __init__(self, first: str, second: int) -> None:
        super().__init__(second, first)


class Filled(Exception):
    def __init__(self, code: int | None = None, tags: list[str] | None = None) -> None:
        if code is None:
            code = 7
        self.code = code
        self.tags = list(tags or ())
        super().__init__(f"code {code}" if tags else "")


class Converted(Exception):
    def __init__(self, code) -> None:  # not annotated, so that it takes what it returns
        super().__init__(int(code))


class Numbered(Exception):
    """The str is no value for the parameter again."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))


class Timed(Exception):
    at: float

    def __init__(self, item: str) -> None:
        super().__init__(f"{item} at {time()}")
        self.item = item
        self.at = 1.0


@dataclass
class OfDataclass(Exception):
    code: int


@attrs.define(auto_exc=True)
class OfAttrs(Exception):
    code: int


class Holding(Exception):
    """Its args are those that it was made with."""

    def __init__(self, code: int) -> None:
        self.code = code


class HeldTwice(Holding):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code)
        self.text = text


class Caused(Exception):
    def __init__(self, message: str, cause: Exception | None = None) -> None:
        super().__init__(message)
        self.__cause__ = cause


class Chosen(Exception):
    def __init__(self, code: int | None = None) -> None:
        self.code = 7 if code is None else code
        super().__init__()


class Qualified(pydantic.errors.PydanticUserError):
    """By the name of its base in a module, and by one that is none of its bases'."""

    def __init__(self, text: str) -> None:
        pydantic.errors.PydanticUserError.__init__(self, text, code=None)
        if not text:
            Item.__init__(self, text)


class Forwarding(Passed):
    def __init__(self, *parts: str) -> None:
        super().__init__(*parts)


class Function(Exception):
    __init__ = lambda self, code: setattr(self, "code", code)  # noqa: E731 - what the test is about


class Adding(Exception):
    def __init__(self, total: int) -> None:
        total += 1
        self.total: int
        super().__init__(f"{total}")


ERRORS: list[Exception] = [
    Holding(1), HeldTwice(1, "a"), HeldTwice(1, text="a"),
    Kept("nails"), Kept("nails", count=3), Renamed("nails"), Message(Item("nails")), Declaring(Item("nails")),
    Declaring(Item("nails"), "A", "B"), Base("x"), Base("x", 5), Derived("nails", 3), Fixed("x"),
    Inherited("x", code=4), ByKeyword("x", code=5), OnlyByKeyword(name="x"), Joined("a", "b"), Passed("a", "b"),
    Passed(), Swapped("a", 1), Filled(), Filled(3, ["a"]), Converted("5"), Numbered(5), Timed("nails"), Caused("x"),
    Caused("x", ValueError()), Chosen(), Chosen(3), Forwarding("a", "b"), Function(3), Adding(4),
    re.error("missing )", "(", 0), configparser.DuplicateOptionError("a", "b", "c", 4), OfDataclass(5), OfAttrs(5),
]  # fmt: skip
CODEC = Codec(Allowlist(Item, *dict.fromkeys(map(type, ERRORS))))


def with_notes(error: Exception) -> Exception:
    error.add_note("a note")
    return error


def changed(error: Exception, **attributes: Any) -> Exception:
    vars(error).update(attributes)
    return error


@pytest.mark.parametrize(
    "error", [*ERRORS, with_notes(Renamed("x")), changed(Renamed("x"), more=[1])], ids=lambda each: type(each).__name__
)
def test_is_the_same_at_the_other_end(error: Exception) -> None:
    for data in (CODEC.encode(error), pickle.dumps(error, 5)):
        found = CODEC.decode(data)
        assert (type(found), found.args, vars(found), str(found)) == (type(error), error.args, vars(error), str(error))


def without(error: Exception, name: str) -> Exception:
    del vars(error)[name]
    return error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (changed(Renamed("x"), sku=5), "Renamed: expected str for sku, got int"),
        (changed(Declaring(Item("x")), sku=None), "expected str for sku, got NoneType"),
        (changed(Declaring(Item("x")), tags=["a", 1]), r"\$\.tags\[1\]: .*expected str for tags"),
        (changed(Declaring(Item("x")), price="1"), "expected float for price, got str"),
        (changed(Declaring(Item("x")), hint=5), "expected str | None for hint, got int"),
        (changed(Declaring(Item("x")), where="there"), "expected what the constructor makes"),
        (changed(Message(Item("x")), with_traceback=1), "its with_traceback cannot be set"),
        (changed(Message(Item("x")), __cause__=None), "an attribute with a name that none has"),
        (without(Declaring(Item("x")), "sku"), "Declaring: it lacks sku, which its __init__ always sets"),
        (changed(Kept("x"), count=-5), "Kept does not accept these values"),
        (changed(Derived("x", 1), code="x"), "expected int for code"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_declared_attributes_are_checked(error: Exception, why: str) -> None:
    with pytest.raises(EncodeError, match=why):
        CODEC.encode(error)
    with pytest.raises(InvalidValue, match=why):
        CODEC.decode(pickle.dumps(error, 5))


def test_it_is_not_run_when_it_could_not_make_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec(Allowlist(Numbered, Kept))
    notes = {adapter.cls: list(adapter.notes()) for adapter in codec.allowlist.adapters}
    assert notes == {
        Numbered: ["puts any accepted values into its arguments; its __init__ does not run"],
        Kept: ["runs __init__ on values that a peer chose"],
    }
    ran: list[type] = []
    for cls in (Numbered, Kept):

        def count(self: Exception, *parts: Any, _original: Any = cls.__init__, **named: Any) -> None:
            ran.append(type(self))
            _original(self, *parts, **named)

        monkeypatch.setattr(cls, "__init__", count)
    for error in (Numbered(5), Kept("x")):
        data = pickle.dumps(error, 5)
        ran.clear()
        assert type(codec.decode(data)) is type(error)
        assert set(ran) == (set() if type(error) is Numbered else {Kept})


class Undeclared(Exception):
    def __init__(self, item: str) -> None:
        super().__init__(f"no {item}")
        self.sku = item.upper()


class Scaled(Exception):
    def __init__(self, price: int) -> None:
        super().__init__()
        self.price = price * 100
        self.price += 1


class Twisted(Exception):
    def __init__(self, price: int) -> None:
        super().__init__()
        price = price + 1
        self.price = price


class Unpacked(Exception):
    def __init__(self, pair: tuple[int, int]) -> None:
        super().__init__()
        self.first, self.second = pair


class Files(OSError):
    def __init__(self, name: str) -> None:
        super().__init__(f"no {name}")


class Choosing(Exception):
    def __init__(self, item: str) -> None:
        if item:
            super().__init__(item)
        else:
            super().__init__("nothing", item)


class Renewed(Exception):
    def __new__(cls, *arguments: Any) -> Any:
        return ValueError.__new__(ValueError, *arguments)

    def __init__(self, item: str) -> None:
        super().__init__(f"no {item}")


class Unseen(Exception):
    path: Path

    def __init__(self, name: str) -> None:
        super().__init__(f"no {name}")
        self.path = name


class Foreign(Exception):
    at: Item

    def __init__(self, item: Item) -> None:
        super().__init__("x")
        self.at = item
        self.more = Item("x")


class Wrong(Exception):
    at: Foreign

    def __init__(self, item: str) -> None:
        super().__init__(f"no {item}")
        self.at = Foreign(Item(item))


exec(
    "class Hidden(Exception):\n def __init__(self, item):\n  super().__init__('no ' + item)\n  self.sku = item.upper()"
)
exec("class Shown(Exception):\n def __init__(self, item):\n  super().__init__('no ' + item)\n  self.item = item")


@pytest.mark.parametrize(
    ("cls", "why"),
    [
        (Undeclared, r"its item would be lost; keep each parameter in an attribute of its name, declare its attributes "
         r"in the class \(sku: …\), or register an adapter"),
        (Scaled, r"its price would be lost; .*\(price: …\)"),
        (Twisted, r"\(price: …\)"),
        (Unpacked, r"its pair would be lost; .*\(first: …\)"),
        (Files, "its name would be lost; keep each parameter in an attribute of its name, or register an adapter"),
        (Unseen, "the annotation 'Path' cannot be resolved in its module"),
        (Foreign, r"\(more: …\)"),
        (globals()["Hidden"], r"its item would be lost; .*\(sku: …\)"),
    ],
)  # fmt: skip
def test_refused_when_it_is_registered(cls: type, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{cls.__name__}: .*{why}"):
        Allowlist(cls)


def test_a_class_that_makes_another() -> None:
    codec, error = Codec(Allowlist(Renewed)), Exception.__new__(Renewed, "x")
    with pytest.raises(InvalidValue, match="another exception of these arguments, of another type"):
        codec.decode(pickle.dumps(error, 5))


def test_refused_when_the_list_is_complete() -> None:
    with pytest.raises(ConfigurationError, match=r"Wrong\.at: .*Foreign is not on the allowlist"):
        Codec(Allowlist(Wrong))


def test_one_that_chooses_its_arguments() -> None:
    codec = Codec(Allowlist(Choosing))
    for error in (Choosing("a"), Choosing("")):
        assert codec.decode(codec.encode(error)).args == error.args


def test_without_source() -> None:
    codec = Codec(Allowlist(globals()["Shown"]))
    error = globals()["Shown"]("nails")
    assert codec.decode(codec.encode(error)).args == ("no nails",)


def test_types_of_its_attributes_are_found() -> None:
    def fails(message: int) -> Declaring | Wrong | None: ...

    with pytest.raises(ConfigurationError, match="Foreign"):
        Allowlist.from_handler(fails)

    def answers(message: int) -> Message | None: ...

    # What it made its message of is not sent.
    assert {adapter.cls for adapter in Allowlist.from_handler(answers).adapters} == {Message}
