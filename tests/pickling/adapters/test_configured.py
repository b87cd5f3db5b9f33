"""Configured types of every kind: both directions, and what a hostile peer makes of an allowed type."""

from __future__ import annotations

import copy
import datetime
import decimal
import pickle
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from pickling import shop
from pickling.assembler import blob, call, message, name, text
from sealwire import Allowlist, Codec, DecodeError, EncodeError, InvalidValue, LimitExceeded, Limits, TypeNotAllowed
from sealwire.pickling import opcodes as op
from support.titles import title

CODEC = Codec(Allowlist(*shop.TYPES))
PLAIN = [value for value in shop.VALUES if not isinstance(value, Exception)]


def forms(value: Any) -> list[bytes]:
    """Every pickle of a value: ours, and those of both of CPython's picklers."""
    picklers: list[Callable[..., bytes]] = [pickle.dumps, pickle._dumps]  # the Python one
    return [CODEC.encode(value), *(dumps(value, protocol) for dumps in picklers for protocol in range(2, 6))]


@pytest.mark.parametrize("value", shop.VALUES, ids=title)
def test_both_directions(value: Any) -> None:
    for data in forms(value):
        found = CODEC.decode(data)
        assert found == value
        assert type(found) is type(value)
        assert pickle.loads(data) == value, "an ordinary pickle"


@pytest.mark.parametrize("error", shop.ERRORS, ids=repr)
def test_exceptions(error: Exception) -> None:
    for data in [CODEC.encode(error), *(pickle.dumps(error, protocol) for protocol in (3, 4, 5))]:
        found = CODEC.decode(data)
        assert type(found) is type(error)
        assert (found.args, vars(found), str(found)) == (error.args, vars(error), str(error))
        assert found.__traceback__ is None


def test_shared_stays_shared() -> None:
    money = shop.Money(decimal.Decimal(1))
    first, second, box = CODEC.decode(CODEC.encode([money, money, shop.Box(money, [money])]))
    assert first is second is box.content is box.more[0]


def test_a_model_keeps_which_fields_were_set() -> None:
    for value in (shop.Model(a=1), shop.Model(a=1, b=[]), shop.OpenModel(a=1, z=2)):
        assert CODEC.decode(CODEC.encode(value)).model_fields_set == value.model_fields_set


def test_a_cached_property_is_not_a_field() -> None:
    value = shop.Cached(2)
    assert value.twice == 4
    for data in forms(value):
        found = CODEC.decode(data)
        assert found == value
        assert vars(found) == {"a": 2}
    assert b"twice" not in CODEC.encode(value)


def test_shallow_on_request() -> None:
    codec = Codec(Allowlist().allow(shop.Node, validate="shallow"))
    assert codec.decode(codec.encode(shop.Node(1, ["no node"]))).children == ["no node"]
    with pytest.raises(EncodeError, match=r"Node\.children"):
        codec.encode(shop.Node(1, "no list"))
    with pytest.raises(EncodeError, match=r"^\$\.children\[0\]: .*expected .*Node"):
        CODEC.encode(shop.Node(1, ["no node"]))


WRONG = {
    "$.items[0].y": {"items": [shop.Point(1, "x")]},
    "$.price": {"price": 1.5},
    "$.colors[value 0][0]": {"colors": {shop.Color.RED: ["x"]}},
    "$.colors[key 0]": {"colors": {1: [1]}},
    "$.kind": {"kind": "c"},
    "$.labels[0]": {"labels": [{"txt": "x"}]},
    "$.labels[0].lang": {"labels": [{"text": "x", "lang": 3}]},
    "$.box.content": {"box": shop.Box("s")},
    "$.maybe[value 0][0]": {"maybe": {"a": ["x"]}},
    "$.pairs[1]": {"pairs": (1, 2)},
    "$.pairs": {"pairs": (1, "2", 3)},
    "$.weight": {"weight": "1"},
    "$.tags": {"tags": ["a"]},
    "$.due": {"due": "2027-01-31"},
    "$.number": {"number": 1.0},
}


@pytest.mark.parametrize(("path", "changes"), WRONG.items(), ids=WRONG)
def test_fields_are_checked_deeply(path: str, changes: dict[str, Any]) -> None:
    """On both sides, and with the path: what a plain pickler writes of such a value is refused by decode."""
    value = shop.order(**changes)
    with pytest.raises(EncodeError) as told:
        CODEC.encode(value)
    assert str(told.value).startswith(f"{path}: ")
    with pytest.raises(InvalidValue) as refused:
        CODEC.decode(pickle.dumps(value, 5))
    assert str(refused.value) == str(told.value)
    assert refused.value.path == path


def test_numbers_are_taken_as_type_checkers_take_them() -> None:
    value = shop.order(weight=3, ratio=1.5, number=True, price=None)
    assert CODEC.decode(CODEC.encode(value)) == value


def changed(value: Any, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The pickle of an instance whose dict was changed behind its back."""
    value = copy.copy(value)
    change(vars(value))
    return pickle.dumps(value, 5)


HOSTILE = {
    "a field too many": changed(shop.Money(decimal.Decimal(1)), lambda d: d.update(admin=True)),
    "a field too few": changed(shop.Money(decimal.Decimal(1)), lambda d: d.pop("currency")),
    "a method shadowed": changed(shop.Frozen("a", 1), lambda d: d.update(__eq__=1)),
    "__class__": changed(shop.Frozen("a", 1), lambda d: d.update(__class__=1)),
    "__post_init__ refuses": changed(shop.Money(decimal.Decimal(1)), lambda d: d.update(currency="toolong")),
    "a computed field": changed(shop.Total(2, 3), lambda d: d.update(total=7)),
    "a computed field of another type": changed(shop.Total(1, 1), lambda d: d.update(total=True)),
    "a frozen field": changed(shop.Frozen("a", 1), lambda d: d.update(size="big")),
    "an attribute of an exception": changed(shop.OutOfStock("a", 1), lambda d: d.update(left=99)),
    "an attribute too many of an exception": changed(ValueError("x"), lambda d: d.update(other="x")),
    "an attrs class": changed(shop.Loose(1), lambda d: d.update(c=1)),
    "a pydantic model": changed(shop.Model(a=1), lambda d: d.update(a="1")),
    "a pydantic model's field too many": changed(shop.Model(a=1), lambda d: d.update(z="1")),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_state_that_no_instance_has(data: bytes) -> None:
    pickle.loads(data)  # it is what the attacker wanted
    with pytest.raises(InvalidValue):
        CODEC.decode(data)


FROZEN = name("pickling.shop", "Frozen")
COLOR = name("pickling.shop", "Color")
POINT = name("pickling.shop", "Point")
STATE = b"}(" + text("name") + text("a") + text("size") + b"K\x01u"

GAMES = {
    "build upon a class": message(FROZEN, b"N", b"}(", text("size"), b"K\x01u", b"\x86", op.BUILD),
    "build upon an enum": message(COLOR, b"}(", text("RED"), b"K\x09u", op.BUILD),
    "build upon a member": message(COLOR, b"K\x01\x85", op.REDUCE, b"}(", text("_value_"), b"K\x09u", op.BUILD),
    "call a dataclass": message(FROZEN, text("a"), b"K\x01\x86", op.REDUCE),
    "new with arguments": message(FROZEN, text("a"), b"K\x01\x86", op.NEWOBJ),
    "state twice": message(FROZEN, b")", op.NEWOBJ, STATE, op.BUILD, STATE, op.BUILD),
    "items into an instance": message(FROZEN, b")", op.NEWOBJ, b"(", b"K\x01", b"e"),
    "pairs into an instance": message(FROZEN, b")", op.NEWOBJ, b"(", text("a"), b"K\x01", b"u"),
    "items into a named tuple": message(POINT, b"K\x01G?\xf0\0\0\0\0\0\0\x86", op.NEWOBJ, b"(", b"K\x01", b"e"),
    "state for a named tuple": message(POINT, b"K\x01G?\xf0\0\0\0\0\0\0\x86", op.NEWOBJ, b"}", op.BUILD),
    "a class as a field": message(FROZEN, b")", op.NEWOBJ, b"}(", text("name"), FROZEN, b"u", op.BUILD),
    "a class as a value": message(FROZEN),
    "a class in a list": message(b"](", FROZEN, b"e"),
    "a class as an argument": message(COLOR, COLOR, b"\x85", op.REDUCE),
    "a member through getattr": message(name("builtins", "getattr"), COLOR, text("RED"), b"\x86", op.REDUCE),
    "a method through getattr": message(name("builtins", "getattr"), FROZEN, text("__init__"), b"\x86", op.REDUCE),
    "an attribute by a dotted name": message(name("pickling.shop", "Frozen.__init__")),
    "an outer class called": message(name("pickling.shop", "Outer"), b")", op.NEWOBJ),
    "an outer class as a value": message(name("pickling.shop", "Outer")),
    "rebuild of another class": message(name("msgspec._utils", "rebuild"), FROZEN, b"}\x86", op.REDUCE),
    "rebuild of a value": message(name("msgspec._utils", "rebuild"), b"K\x01}\x86", op.REDUCE),
    "a member that is not there": message(COLOR, b"K\x63\x85", op.REDUCE),
    "a member by an equal of another type": message(COLOR, b"\x88\x85", op.REDUCE),
    "an unknown flag": message(name("pickling.shop", "Access"), b"K\x09\x85", op.REDUCE),
    "a negative flag": message(name("pickling.shop", "Access"), b"J\xff\xff\xff\xff\x85", op.REDUCE),
    "an exception with wrong arguments": message(name("pickling.shop", "OutOfStock"), b"K\x01\x85", op.REDUCE),
    "an exception of no name": message(name("builtins", "SystemExit"), b")", op.REDUCE),
    "state for an exception twice": message(
        name("builtins", "ValueError"), b")", op.REDUCE, b"}", op.BUILD, b"}", op.BUILD
    ),
    "state for an exception that is no dict": message(name("builtins", "ValueError"), b")", op.REDUCE, b"]", op.BUILD),
    "an instance of bytes": message(name("pickling.shop", "Nothing"), b")", op.NEWOBJ, blob(b"x"), op.BUILD),
}


@pytest.mark.parametrize("data", GAMES.values(), ids=GAMES)
def test_games_with_an_allowed_name(data: bytes) -> None:
    before = {cls: dict(vars(cls)) for cls in (shop.Frozen, shop.Color, shop.Access, shop.Point, shop.OutOfStock)}
    with pytest.raises(DecodeError):
        CODEC.decode(data)
    assert {cls: dict(vars(cls)) for cls in before} == before


def test_types_that_are_not_on_the_list() -> None:
    small = Codec(Allowlist(shop.Color))
    for value in (shop.Size.S, shop.Money(decimal.Decimal(1)), shop.Point(1), ValueError("x")):
        with pytest.raises(TypeNotAllowed):
            small.decode(pickle.dumps(value, 5))


def test_hostile_hashes_of_instances() -> None:
    """A frozen dataclass hashes as its fields do, which a peer chooses."""
    keys = {shop.FrozenSlotted(n): None for n in range(400)}
    data = CODEC.encode(keys)
    assert CODEC.decode(data) == keys
    evil = {shop.FrozenStruct(n * (2**61 - 1)): None for n in range(1, 400)}
    if len({hash(key) for key in evil}) < 10:
        with pytest.raises(LimitExceeded, match="max_probes"):
            CODEC.decode(pickle.dumps(evil, 5))


def test_deep_instances() -> None:
    value = shop.Node(0)
    for _ in range(80):
        value = shop.Node(1, [value])
    with pytest.raises(LimitExceeded, match="max_depth"):
        CODEC.decode(pickle.dumps(value, 5))
    with pytest.raises(EncodeError, match=r"max_depth|deep"):
        CODEC.encode(value)
    small = Codec(Allowlist(shop.Frozen), limits=Limits(max_memory=20_000))
    with pytest.raises(LimitExceeded, match="max_memory"):
        small.decode(pickle.dumps([shop.Frozen("a", n) for n in range(100)], 5))


def test_cycles_through_instances() -> None:
    node = shop.Node(1)
    node.children.append(node)
    with pytest.raises(EncodeError, match="cycle"):
        CODEC.encode(node)
    with pytest.raises(DecodeError, match="cycle"):
        CODEC.decode(pickle.dumps(node, 5))


class Hours(datetime.tzinfo):
    def __init__(self, hours: int) -> None:
        self.hours = hours

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta:
        del moment
        return datetime.timedelta(hours=self.hours)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hours) and self.hours == other.hours

    def __hash__(self) -> int:
        return self.hours


def test_datetimes_with_a_zone_of_a_registered_type() -> None:
    codec = Codec(Allowlist(shop.Frozen).register(Hours, dump=lambda zone: (zone.hours,), load=Hours))
    moment = datetime.datetime(2027, 1, 1, tzinfo=Hours(3))
    time = datetime.time(1, tzinfo=Hours(2))
    for value in (moment, time, [moment, moment.tzinfo], {moment: [moment]}, (moment, moment)):
        assert codec.decode(codec.encode(value)) == value
    found, zone = codec.decode(codec.encode([moment, moment.tzinfo]))
    assert (type(found.tzinfo), found.tzinfo.hours) == (Hours, 3)
    assert found.tzinfo is zone
    plain = [datetime.datetime(2027, 1, 1), datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)]
    assert codec.decode(pickle.dumps(plain, 5)) == plain
    with pytest.raises(InvalidValue, match="its tzinfo is not a time zone"):
        codec.decode(message(call("datetime", "datetime", blob(bytes(10)), FROZEN + b")\x81" + STATE + b"b")))


@pytest.mark.parametrize("factory", [shop.Nothing, shop.Color, lambda: 1], ids=title)
def test_a_factory_is_not_a_configured_type(factory: Any) -> None:
    """Calling it could have an effect."""
    with pytest.raises(EncodeError, match=r"; the factory of a defaultdict is None or one of Counter, Decimal, "):
        CODEC.encode(defaultdict(factory))
