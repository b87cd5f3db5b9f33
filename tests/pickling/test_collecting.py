"""The allowlist that a signature says."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pydantic
import pytest

from pickling import declared
from pickling.declared import (
    Box,
    Cancel,
    Circle,
    Deep,
    Inner,
    Item,
    Labels,
    Lost,
    Model,
    Note,
    Order,
    Orders,
    Plain,
    Point,
    Receipt,
    Shop,
    Special,
    Status,
)
from sealwire import Allowlist, Codec, ConfigurationError, EncodeError, TypeNotAllowed
from sealwire.pickling.signatures import Signature, read_signature

HERE = "pickling.declared"
OF_ORDER = {
    Order: f"parameter message of {HERE}.Orders.respond",
    Cancel: f"parameter message of {HERE}.Orders.respond",
    Item: f"{HERE}.Order.items",
    Status: f"{HERE}.Order.status",
    Box: f"{HERE}.Order.box",
    Deep: f"{HERE}.Order.box",
    Note: f"{HERE}.Order.labels",
    Receipt: f"the reply of {HERE}.Orders.respond",
}
BOTH = {Cancel, Receipt}


def test_the_closed_set_and_where_each_type_was_found() -> None:
    found = Allowlist.from_handler(Orders)
    assert {adapter.cls: found.origin(adapter.cls) for adapter in found.adapters} == OF_ORDER
    codec = Codec(found)
    order = Order([Item("nails", declared.Decimal(1))], box=Box(Deep(1)), labels={"a": {"note": Note("x")}})
    assert codec.decode(codec.encode(order)) == order
    with pytest.raises(EncodeError, match="Special is not on the allowlist"):
        codec.encode(Special([]))


class Tolerant(pydantic.BaseModel):
    """A model with annotations that no message could have in another type: pydantic checks them."""

    call: Callable[[int], int] | None = None
    anything: object = None


def test_what_pydantic_itself_checks_is_not_held_to_the_rules_for_annotations() -> None:
    def respond(message: Tolerant) -> None: ...

    assert [adapter.cls for adapter in Allowlist.from_handler(respond).adapters] == [Tolerant]

    def refused(message: Callable[[int], int]) -> None: ...

    with pytest.raises(ConfigurationError, match="Callable"):
        Allowlist.from_handler(refused)


@pytest.mark.parametrize(
    ("handler", "types"),
    [
        (Shop, {*OF_ORDER}),
        (declared.Unannotated, set()),
        (declared.ByHand, set()),
        (declared.Static, {Cancel}),
        pytest.param(declared.Called(), BOTH, id="an object"),
        (declared.wrapped, BOTH),
        (declared.with_context, BOTH),
        pytest.param(functools.partial(declared.with_context, context=1), BOTH, id="a partial"),
        (declared.coroutine, BOTH),
        (declared.generated, BOTH),
        (declared.progress, BOTH),
        (declared.generated_on_the_loop, BOTH),
        (declared.iterable, BOTH),
        (declared.a_list, BOTH),
        pytest.param(declared.Called().__call__, BOTH, id="a method"),
        (len, set()),
        (declared.forms, {Cancel, Item, Status, Note, Model, Inner, Lost, Point, declared.np.ndarray}),
    ],
)
def test_handlers(handler: Any, types: set[type]) -> None:
    found = Allowlist.from_handler(handler)
    assert {adapter.cls for adapter in found.adapters} == types
    Codec(found)


def test_several_and_unions() -> None:
    found = Allowlist.from_handler(declared.wrapped, Orders) | Allowlist(Special)
    assert found.origin(Cancel) == f"parameter message of {HERE}.wrapped"
    assert found.origin(Special) is None
    codec = Codec(found)
    with pytest.raises(ConfigurationError, match="in use"):
        found.allow_handlers(declared.forms)
    assert codec.decode(codec.encode(Special([]))) == Special([])


def test_subclasses_of_a_base_that_is_none_itself() -> None:
    with pytest.raises(
        ConfigurationError, match=r"parameter message of pickling\.declared\.shapes: .*Shape cannot be allowed"
    ):
        Allowlist.from_handler(declared.shapes)
    found = Allowlist(Circle).allow_handlers(declared.shapes)
    assert {adapter.cls for adapter in found.adapters} == {Circle, declared.np.ndarray}


def test_types_that_need_an_adapter() -> None:
    with pytest.raises(
        ConfigurationError, match=r"parameter message of .*plain: .*Plain cannot be allowed by itself: .*register"
    ):
        Allowlist.from_handler(declared.plain)
    found = Allowlist().register(Plain, dump=lambda plain: (plain.number,), load=Plain)
    found.allow_handlers(declared.plain)
    assert found.origin(Plain) is None


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (declared.unseen, "parameter message of pickling.declared.unseen: the annotation 'Unseen' cannot be resolved"),
        (declared.a_class, r"parameter message of .*a_class: type\[.*\] is not a value that can be sent"),
        (Order, "Order must be derived from sealwire.RequestHandler"),
        (5, "a handler must be a class derived from sealwire.RequestHandler or a function"),
    ],
)
def test_what_declares_no_list(handler: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Allowlist.from_handler(handler)


def test_groups_that_are_switched_off() -> None:
    with pytest.raises(
        ConfigurationError, match=r"pickling\.declared\.Item\.price: decimal\.Decimal is a standard .*off"
    ):
        Allowlist(without=["numbers"]).allow_handlers(Orders)


def test_in_the_configuration_file(tmp_path: Any) -> None:
    path = tmp_path / "sealwire.toml"
    path.write_text(f'[allowlist]\nhandlers = ["{HERE}:Orders", "{HERE}:generated"]\ntypes = ["{HERE}:Special"]\n')
    found = Allowlist.from_toml(path)
    assert {adapter.cls for adapter in found.adapters} == {*OF_ORDER, Special}
    for entry, why in ((f"{HERE}:unseen", "allowlist.handlers: parameter"), (f"{HERE}:nosuch", "allowlist.handlers: ")):
        path.write_text(f'[allowlist]\nhandlers = ["{entry}"]\n')
        with pytest.raises(ConfigurationError, match=why):
            Allowlist.from_toml(path)
    path.write_text("[allowlist]\nhandlers = 5\n")
    with pytest.raises(ConfigurationError, match=r"allowlist\.handlers: expected a list of strings"):
        Allowlist.from_toml(path)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (declared.generated, (Cancel, False, None, Receipt)),
        (declared.progress, (Cancel, False, Receipt, int)),
        (declared.generated_on_the_loop, (Cancel, False, None, Receipt)),
        (declared.iterable, (Cancel, True, None, Receipt)),
        (declared.coroutine, (Cancel, False, Receipt, None)),
        (len, (Any, False, Any, None)),
        (int, (Any, False, Any, None)),
    ],
)
def test_parts(function: Any, expected: Any) -> None:
    found = read_signature(function)
    assert (found.message, found.takes_parts, found.reply, found.part) == expected


def test_a_typed_dict_is_not_a_type_of_its_own() -> None:
    assert Labels not in {adapter.cls for adapter in Allowlist.from_handler(declared.forms).adapters}
    assert Signature("f", None, "message").places == [("parameter message of f", Any), ("the reply of f", Any)]


def test_a_list_from_a_handler_refuses_what_is_not_declared() -> None:
    codec, sender = Codec(Allowlist.from_handler(Orders)), Codec(Allowlist.from_handler(Orders) | Allowlist(Special))
    with pytest.raises(TypeNotAllowed, match="Special"):
        codec.decode(sender.encode(Special([])))
