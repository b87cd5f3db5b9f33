"""The types that an allowlist may have, and the refusals of others."""

from __future__ import annotations

import datetime
import decimal
import functools
import pathlib
import subprocess
import sys
import types
import uuid
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

import pytest

from pickling import shop
from sealwire import Codec, ConfigurationError, DecodeError, EncodeError, TypeNotAllowed
from sealwire.pickling import Allowlist


class Order:
    pass


class Called:
    def __call__(self) -> None: ...


class Meta(type):
    pass


@dataclass
class Reduced:
    a: int

    def __reduce__(self) -> Any:
        return Reduced, (self.a,)


@dataclass
class Stateful:
    a: int

    def __setstate__(self, state: Any) -> None: ...


class Tuple(NamedTuple):
    a: int


class StatefulTuple(Tuple):
    def __getnewargs__(self) -> Any:
        return (1,)


@dataclass
class Initial:
    a: int
    b: InitVar[int] = 0


@dataclass
class Callback:
    call: Callable[[], int]


@dataclass
class Untyped:
    kind: type[int]


@dataclass
class Lost:
    other: Missing  # noqa: F821 - on purpose


@dataclass
class HasMoney:
    money: shop.Money


class Structural(Protocol):
    a: int


@dataclass
class Vague:
    thing: Structural


class Empty(Enum):
    pass


class OwnReduce(Enum):
    A = 1

    def __reduce_ex__(self, protocol: Any) -> Any:
        return str, ("a",)


class Comparing(type):
    def __eq__(cls, other: object) -> bool:
        return cls is other

    __hash__ = None


class NoHash(metaclass=Comparing):
    pass


class ForgetfulError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"no {name}")
        self.length = len(name)


def function() -> None: ...


def local() -> type:
    @dataclass
    class Local:
        a: int

    return Local


REFUSED = {
    "a plain class": (Order, "declares no fields.*register"),
    "a callable class": (Called, "can be called.*register"),
    "a metaclass": (Meta, "metaclass"),
    "type": (type, "metaclass"),
    "a module type": (types.ModuleType, "another thing, or nothing|modules"),
    "a module": (sys, "a module"),
    "a function": (function, "a function.*could call it"),
    "a builtin": (eval, "a function.*could call it"),
    "a partial": (functools.partial(int), "a function"),
    "a value": ("Order", "value of type str"),
    "an alias": (list[int], "allow the class list"),
    "a list": ([shop.Money], r"a list of them: write Allowlist\(\*types\)"),
    "a value that is not hashable": (bytearray(), "a value of type bytearray"),
    "a class that is not hashable": (NoHash, "cannot be hashed.*__hash__"),
    "a local class": (local(), "cannot be named"),
    "Popen": (subprocess.Popen, "declares no fields"),
    "with __reduce__": (Reduced, "__reduce__ of its own.*register"),
    "with __setstate__": (Stateful, "__setstate__ of its own.*register"),
    "a tuple with __getnewargs__": (StatefulTuple, "__getnewargs__ of its own"),
    "an InitVar": (Initial, "InitVar.*register"),
    "an empty enum": (Empty, "no members"),
    "an enum with __reduce_ex__": (OwnReduce, "__reduce_ex__ of its own"),
    "SystemExit": (SystemExit, "only subclasses of Exception"),
    "an exception group": (ExceptionGroup, "only subclasses of Exception"),
    "an exception that forgets": (ForgetfulError, "its name would be lost; .*declare .*(length: …).*register"),
    "an annotation that is not there": (Lost, "'Missing' cannot be resolved"),
}


@pytest.mark.parametrize(("thing", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason(thing: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Allowlist(uuid.UUID, thing)


def test_a_class_that_is_not_hashable_is_not_registered() -> None:
    with pytest.raises(ConfigurationError, match="cannot be hashed"):
        Allowlist().register(NoHash, dump=lambda _: (), load=NoHash)


FIELDS = {
    "a function": (Callback, r"Callback\.call: .*not a value that can be sent"),
    "a class": (Untyped, r"Untyped\.kind: .*not a value that can be sent"),
    "a protocol": (Vague, r"Vague\.thing: .*says nothing"),
    "a type that is not allowed": (HasMoney, r"HasMoney\.money: pickling\.shop\.Money is not on the allowlist; allow"),
}


@pytest.mark.parametrize(("cls", "reason"), FIELDS.values(), ids=FIELDS)
def test_fields_that_cannot_be(cls: type, reason: str) -> None:
    """Judged when the list is complete, so that types may be named in any order."""
    allowlist = Allowlist(cls)
    with pytest.raises(ConfigurationError, match=reason):
        Codec(allowlist)


def test_any_order() -> None:
    for types_ in ((HasMoney, shop.Money), (shop.Money, HasMoney)):
        codec = Codec(Allowlist(*types_))
        value = HasMoney(shop.Money(decimal.Decimal(1)))
        assert codec.decode(codec.encode(value)) == value


def test_a_class_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle names the class that is there now; an older one of that name must not be taken for it."""
    old = shop.Nothing
    monkeypatch.setattr(shop, "Nothing", dataclass(type("Nothing", (), {"__module__": shop.__name__})))
    with pytest.raises(ConfigurationError, match="another thing"):
        Allowlist(old)
    Allowlist(shop.Nothing)


def test_standard_types_need_not_be_named_but_may() -> None:
    allowlist = Allowlist(uuid.UUID, datetime.date, int, pathlib.Path, pathlib.PurePath, shop.Label)
    assert uuid.UUID in allowlist
    assert uuid.UUID in Allowlist()
    assert Order not in allowlist
    assert repr(allowlist) == "Allowlist()"
    assert repr(Allowlist(shop.Money, without=["paths"])) == "Allowlist(pickling.shop.Money, without=['paths'])"


def test_immutable_once_in_use() -> None:
    allowlist = Allowlist(shop.Color).allow(shop.Size)
    with pytest.raises(AttributeError):
        allowlist.types = ()
    codec = Codec(allowlist)
    for change in (
        lambda: allowlist.allow(shop.Money),
        lambda: allowlist.register(shop.Temperature, dump=lambda t: (t.kelvin,), load=shop.Temperature),
    ):
        with pytest.raises(ConfigurationError, match="in use"):
            change()
    assert shop.Money not in allowlist
    with pytest.raises(EncodeError):
        codec.encode(shop.Money(decimal.Decimal(1)))


def test_union() -> None:
    left = Allowlist(shop.Color, without=["paths", "uuid"])
    right = Allowlist(shop.Size, shop.Color, without=["uuid"])
    Codec(left)
    both = left | right
    assert {adapter.cls for adapter in both.adapters} == {shop.Color, shop.Size}
    assert both.without == {"uuid"}
    codec = Codec(both)
    assert codec.decode(codec.encode([shop.Color.RED, shop.Size.S, pathlib.PurePosixPath("/a")]))
    assert {adapter.cls for adapter in left.adapters} == {shop.Color}
    with pytest.raises(TypeError):
        left | 3


def test_groups_that_are_off() -> None:
    everything = Codec()
    values = {
        "datetime": datetime.date(2027, 1, 1), "numbers": decimal.Decimal(1), "uuid": uuid.UUID(int=1),
        "paths": pathlib.PurePosixPath("/a"),
    }  # fmt: skip
    for group, value in values.items():
        codec = Codec(Allowlist(without=[group]))
        with pytest.raises(EncodeError, match="is not on the allowlist"):
            codec.encode([value])
        with pytest.raises(TypeNotAllowed):
            codec.decode(everything.encode([value]))
        rest = [other for name, other in values.items() if name != group]
        assert codec.decode(codec.encode(rest)) == rest
    with pytest.raises(ConfigurationError, match=r"no group 'date'.*datetime, numbers"):
        Allowlist(without="date")


def test_bad_arguments() -> None:
    with pytest.raises(ConfigurationError, match="'deep' or 'shallow'"):
        Allowlist().allow(shop.Money, validate="no")
    with pytest.raises(ConfigurationError, match="standard value type"):
        Allowlist().register(uuid.UUID, dump=lambda u: (u.int,), load=lambda n: uuid.UUID(int=n))
    with pytest.raises(ConfigurationError, match="for a class"):
        Allowlist().register("Order", dump=repr, load=repr)
    with pytest.raises(ConfigurationError, match="dump must be a function"):
        Allowlist().register(Order, dump=3, load=repr)


def test_a_registered_type() -> None:
    def load(kelvin: Any) -> shop.Temperature:
        if type(kelvin) is not float or kelvin < 0:
            raise ValueError("Hunter2")
        return shop.Temperature(kelvin)

    codec = Codec(Allowlist().register(shop.Temperature, dump=lambda t: (t.kelvin,), load=load))
    value = {shop.Temperature(1.0): [shop.Temperature(2.0)]}
    assert codec.decode(codec.encode(value)) == value
    with pytest.raises(EncodeError, match=r"^\$\.<key 0>: .*Temperature does not accept .*\(ValueError\)$"):
        codec.encode({shop.Temperature(-1.0): 1})
    data = codec.encode([shop.Temperature(1.0)]).replace(b"G?\xf0", b"G\xbf\xf0")
    with pytest.raises(DecodeError, match=r"^\$\[0\]: .*\(ValueError\)$") as caught:
        codec.decode(data)
    assert "Hunter2" not in str(caught.value)


def test_an_adapter_that_misbehaves() -> None:
    for dump, load, why in (
        (lambda t: [t.kelvin], shop.Temperature, r"cannot be taken apart \(TypeError\)"),
        (lambda t: 1 / 0, shop.Temperature, r"cannot be taken apart \(ZeroDivisionError\)"),
        (lambda t: (t.kelvin,), lambda k: k, "another type"),
        (lambda t: (t,), shop.Temperature, "cycle|taken apart|deep"),
        (lambda t: (object(),), shop.Temperature, "object is not on the allowlist"),
    ):
        codec = Codec(Allowlist().register(shop.Temperature, dump=dump, load=load))
        with pytest.raises(EncodeError, match=why):
            codec.encode([shop.Temperature(1.0)])


# From a file

GOOD = """
service = "other tables are not looked at"
[allowlist]
types = ["pickling.shop:Money", "pickling.shop:Outer.Inner"]
shallow = ["pickling.shop:Node"]
without = ["paths"]
[[allowlist.adapters]]
type = "pickling.shop:Temperature"
dump = "pickling.test_allowlist:dump_temperature"
load = "pickling.shop:Temperature"
"""

BAD = {
    "unknown key": ('tpes = ["a:B"]', r"unknown key 'allowlist\.tpes'; did you mean types\?"),
    "no list": ('types = "a:B"', r"allowlist\.types: expected a list of strings"),
    "no strings": ("types = [1]", r"allowlist\.types: expected a list of strings"),
    "no colon": ('types = ["shop.Order"]', r'allowlist\.types: .*expected "module:Class"'),
    "no module": (
        'types = ["nosuch.thing:Order"]',
        r"allowlist\.types: nosuch\.thing:Order: .*no module 'nosuch'",
    ),
    "no class": ('types = ["pickling.shop:Oder"]', r"pickling\.shop has no Oder"),
    "a function": ('types = ["pickling.shop:order"]', r"allowlist\.types: .*a function"),
    "a plain class": ('types = ["pickling.shop:Temperature"]', "register an adapter"),
    "no group": ('without = ["dates"]', r"allowlist\.without: there is no group 'dates'"),
    "half an adapter": ('[[allowlist.adapters]]\ntype = "a:B"', r"allowlist\.adapters: expected tables of type, dump"),
    "no function": (
        '[[allowlist.adapters]]\ntype = "pickling.shop:Temperature"\ndump = "pickling.shop:GLOBAL"\nload = "a:b"',
        r"allowlist\.adapters: pickling\.shop:GLOBAL: pickling\.shop has no GLOBAL",
    ),
}


def dump_temperature(value: shop.Temperature) -> tuple[float]:
    return (value.kelvin,)


def test_from_toml(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "sealwire.toml"
    file.write_text(GOOD)
    allowlist = Allowlist.from_toml(file)
    assert [adapter.cls for adapter in allowlist.adapters] == [
        shop.Money, shop.Outer.Inner, shop.Node, shop.Temperature,
    ]  # fmt: skip
    assert allowlist.without == {"paths"}
    codec = Codec(allowlist)
    value = [shop.Node(1, ["no node"]), shop.Temperature(2.0)]  # shallow
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize(("text", "reason"), BAD.values(), ids=BAD)
def test_a_bad_table(tmp_path: pathlib.Path, text: str, reason: str) -> None:
    file = tmp_path / "sealwire.toml"
    file.write_text(f"[allowlist]\n{text}\n")
    with pytest.raises(ConfigurationError, match=f"sealwire.toml: .*{reason}"):
        Allowlist.from_toml(file)


def test_a_module_that_misses_another_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "misses.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "sealwire.toml"
    path.write_text('[allowlist]\ntypes = ["misses:Order"]\n')
    reason = "misses cannot be imported: ModuleNotFoundError at .*misses.py:1: No module named 'not_installed_anywhere'"
    with pytest.raises(ConfigurationError, match=reason):
        Allowlist.from_toml(path)


def test_a_file_that_is_none(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read"):
        Allowlist.from_toml(tmp_path / "none.toml")
    for text, reason in (("allowlist = 3", "expected a table"), ("[allow", "not valid TOML")):
        (tmp_path / "a.toml").write_text(text)
        with pytest.raises(ConfigurationError, match=rf"a\.toml: .*{reason}"):
            Allowlist.from_toml(tmp_path / "a.toml")


def test_without_is_a_list_of_groups() -> None:
    with pytest.raises(ConfigurationError, match=r"without must be a list of .*, not int"):
        Allowlist(without=5)
