"""The declarations of handlers are compiled when their server is made, and then hold for each message and reply."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType, TypedDict

import msgspec
import pytest

from sealwire import (
    Allowlist,
    AsyncTCPServer,
    Codec,
    ConfigurationError,
    DecodeError,
    EncodeError,
    InvalidValue,
    LimitExceeded,
    Limits,
    PreforkTCPServer,
    RequestHandler,
    Security,
    Service,
    ThreadingTCPServer,
    TypeNotAllowed,
)
from sealwire.codec import RawCodec
from sealwire.contract import Contract, UndeclaredMessage
from sealwire.dtls import UDPServer
from sealwire.failures import fault_code
from sealwire.handler import handler_class
from sealwire.testing import Throwaway
from support.throwaway import security as security_of


@dataclass
class Item:
    name: str
    price: Decimal


@dataclass
class Order:
    items: list[Item]


@dataclass
class Special(Order):
    pass


@dataclass
class Evil(Order):
    """On no list."""


@dataclass
class Cancel:
    number: int


class Color(Enum):
    RED = 1


class Labelled(TypedDict):
    order: Order
    tags: list[str]


Json = dict[str, "Json"] | list["Json"] | int | None
Number = NewType("Number", Cancel)
TYPES = (Item, Order, Special, Cancel, Color)


@pytest.fixture(scope="module")
def security(place: Throwaway) -> Security:
    return security_of(place, "server", peers=["dns:a.example"], codec=Codec(Allowlist(*TYPES)))


def contract(handler: Any, security: Security) -> Contract:
    return Contract(handler_class(handler, coroutines=True), security)


def refusal(made: Contract, security: Security, message: Any) -> tuple[int, str]:
    """Of a message from a peer that sends what it wants."""
    with pytest.raises(DecodeError) as refused:
        made.decode(pickle.dumps(message, 5))
    return fault_code(refused.value), str(refused.value)


# Messages


def orders(message: Order | Cancel) -> Any: ...
def several(wanted: list[Order]) -> Any: ...
def mapped(message: dict[str, Order]) -> Any: ...
def pair(message: tuple[int, Order]) -> Any: ...
def labelled(message: Labelled) -> Any: ...
def json(message: Json) -> Any: ...
def literal(message: Literal["a", "b", Color.RED]) -> Any: ...
def new_type(message: Annotated[Number, "of a cancelled order"]) -> Any: ...
def floats(message: float) -> Any: ...
def maybe(message: list[int] | None) -> Any: ...
def parts(message: Iterator[Cancel]) -> Any: ...


ORDER = Order([Item("a", Decimal(1))])
WRONG = Order([Item("a", Decimal(1)), Item("b", 2)])
ACCEPTED: list[tuple[Any, list[Any]]] = [
    (orders, [ORDER, Special([]), Cancel(1)]),
    (several, [[], [ORDER], [Special([])]]),
    (mapped, [{}, {"a": ORDER}]),
    (pair, [(1, ORDER)]),
    (labelled, [{"order": ORDER, "tags": []}]),
    (json, [None, 1, {"a": [{"b": None}, 3]}]),
    (literal, ["a", "b", Color.RED]),
    (new_type, [Cancel(3)]),
    (floats, [1.5, 1, True]),
    (maybe, [None, [], [1]]),
    (lambda message: None, [1, "x", ORDER]),
]
REFUSED: list[tuple[Any, Any, int, str]] = [
    (orders, 5, 17, "message: expected Order | Cancel, got int; declared by"),
    (orders, [ORDER], 17, "got list"),
    (orders, WRONG, 16, "message.items[1].price: Item.price: expected decimal.Decimal, got int"),
    (orders, Evil([]), 17, "not on the allowlist"),
    (several, ORDER, 17, "wanted: expected list[Order], got Order"),
    (several, (ORDER,), 17, "got tuple"),
    (several, [ORDER, Cancel(1)], 16, "wanted[1]: expected Order, got Cancel; declared by"),
    (several, [ORDER, WRONG], 16, "wanted[1].items[1].price"),
    (several, [Evil([])], 17, "not on the allowlist"),
    (mapped, {"secret": Cancel(1)}, 16, "message[value 0]: expected Order"),
    (mapped, {1: ORDER}, 16, "message[key 0]: expected str"),
    (pair, (1,), 16, "of 1 items"),
    (pair, (ORDER, 1), 16, "message[0]: expected int"),
    (labelled, {"order": ORDER, "tags": [1]}, 16, "message.tags[0]: expected str, got int"),
    (labelled, {"order": ORDER}, 16, "it lacks tags"),
    (json, {"a": [{"b": "x"}]}, 16, "message[value 0][0][value 0]: "),
    (literal, "c", 16, "message: expected Literal"),
    (literal, 5, 17, "got int"),
    (new_type, 3, 17, "got int"),
    (floats, "1.5", 17, "got str"),
    (maybe, [1, "x"], 16, "message[1]: expected int, got str"),
    (parts, Cancel(1), 17, "not declared for a message of type Cancel"),
]  # fmt: skip


@pytest.mark.parametrize(("handler", "messages"), ACCEPTED)
def test_messages_of_the_declared_type(security: Security, handler: Any, messages: list[Any]) -> None:
    made = contract(handler, security)
    for message in messages:
        assert made.decode(security.codec.encode(message)) == message


@pytest.mark.parametrize(("handler", "message", "code", "why"), REFUSED)
def test_messages_of_other_types(security: Security, handler: Any, message: Any, code: int, why: str) -> None:
    found = refusal(contract(handler, security), security, message)
    assert found[0] == code
    assert why in found[1].replace("tests.test_contract.", "")
    assert "secret" not in found[1]


def test_what_is_not_declared_costs_nothing(security: Security) -> None:
    class Handler(RequestHandler):
        def respond(self, message: Any) -> object:
            return message

    class ByHand(RequestHandler):
        def handle(self) -> None:
            pass

    for handler in (Handler, ByHand, lambda message: None):
        made = contract(handler, security)
        assert made.decode == made.decode_part == security.decode
        assert made.encode == made.encode_part == security.codec.encode_pieces


def test_parts_of_a_message(security: Security) -> None:
    made = contract(parts, security)
    assert made.decode_part(security.codec.encode(Cancel(1))) == Cancel(1)
    with pytest.raises(UndeclaredMessage):
        made.decode_part(security.codec.encode(ORDER))
    assert made.operation(iter(())).signature.function is parts
    for handler in (parts, Shop, lambda message: None):
        contract(handler, security).expect_parts()
    for handler in (orders, Lists):
        with pytest.raises(UndeclaredMessage, match="not declared for a message in parts"):
            contract(handler, security).expect_parts()


def test_the_steps_of_a_check_are_bounded(place: Throwaway) -> None:
    limits = Limits(max_expanded_nodes=100)
    small = security_of(place, "server", codec=Codec(limits=limits), limits=limits)

    def deep(message: list[list[int]]) -> list[list[int]]: ...

    made = contract(deep, small)
    with pytest.raises(LimitExceeded, match="max_expanded_nodes"):
        made.decode(pickle.dumps([[1], *[[]] * 90, *([x] for x in range(5)), ["x"]], 5))

    def positive(message: Any) -> list[str | Annotated[int, msgspec.Meta(gt=0)]]: ...

    made = contract(positive, small)
    assert made.encode([1] * 20)
    with pytest.raises(EncodeError, match="reply: max_expanded_nodes") as failed:
        made.encode([1] * 80)
    assert failed.value.over_limit


def test_a_check_that_needs_more_than_the_stack(place: Throwaway) -> None:
    limits = Limits(max_depth=490)
    deep = security_of(place, "server", codec=Codec(limits=limits), limits=limits)
    payload = b"\x80\x05" + b"]" * 480 + b"N" + b"a" * 480 + b"."
    assert deep.codec.decode(payload)
    with pytest.raises(LimitExceeded, match="max_depth"):
        contract(json, deep).decode(payload)


def test_a_recursive_reply(security: Security) -> None:
    def echo(message: Any) -> Json: ...

    made = contract(echo, security)
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(EncodeError):
        made.encode(cycle)
    assert made.encode([{"a": 1}]) == security.codec.encode([{"a": 1}])


# Replies


def replies(message: Any) -> list[Order] | memoryview | None: ...
def progress(message: Any) -> Generator[int, None, list[Order]]: ...
def stream(message: Any) -> Iterator[Order]: ...


def test_replies(security: Security) -> None:
    made = contract(replies, security)
    for reply in (None, [ORDER], [Special([])], memoryview(b"x")):
        assert made.encode(reply) == security.codec.encode_pieces(reply)
    for wrong, why in (
        (
            5,
            r"^reply: expected list\[tests\.test_contract\.Order\] \| memoryview \| None, got int; declared by",
        ),
        ([ORDER, 5], r"^reply\[1\]: expected tests\.test_contract\.Order, got int; "),
        ([object()], r"^\$\[0\]: object is not on the allowlist"),
    ):
        with pytest.raises(EncodeError, match=why) as failed:
            made.encode(wrong)
        assert not failed.value.over_limit


def test_parts_of_a_reply(security: Security) -> None:
    made = contract(progress, security)
    assert made.encode_part(1) == security.codec.encode(1)
    assert made.encode([ORDER]) == security.codec.encode([ORDER])
    made_of_parts = contract(stream, security)
    assert made_of_parts.encode_part(ORDER) == security.codec.encode(ORDER)
    assert made_of_parts.encode(None) == security.codec.encode(None)
    for encode, wrong in ((made.encode_part, [ORDER]), (made.encode, 1), (made_of_parts.encode, ORDER)):
        with pytest.raises(EncodeError, match=r"^reply: expected"):
            encode(wrong)


def test_raw_payloads(place: Throwaway) -> None:
    raw = security_of(place, "server", codec=RawCodec())

    def echo(message: bytes) -> bytes | bytearray: ...

    made = contract(echo, raw)
    assert made.decode(b"x") == b"x"
    assert made.encode(bytearray(b"x")) == b"x"
    with pytest.raises(EncodeError, match="reply: expected bytes"):
        made.encode(memoryview(b"x"))
    with pytest.raises(ConfigurationError, match=r"parameter message of .*Order is not on the allowlist"):
        contract(orders, raw)


# Servers


def unlisted(message: Evil) -> None: ...
def answer_unlisted(message: Any) -> list[Evil]: ...
def a_function(message: Callable[[], int]) -> None: ...
def unknown(message: "Nowhere") -> None: ...  # noqa: F821, UP037 - what the test is about


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (unlisted, "parameter message of unlisted: Evil is not on the allowlist; "
         "allow it as well, or make the list of what handlers declare: Allowlist.from_handler"),
        (answer_unlisted, "the reply of answer_unlisted: Evil is not on the allowlist"),
        (a_function, "is not a value that can be sent"),
        (unknown, "the annotation 'Nowhere' cannot be resolved in its module"),
    ],
)  # fmt: skip
def test_servers_are_not_made(security: Security, handler: Any, why: str) -> None:
    for kind in (ThreadingTCPServer, AsyncTCPServer, PreforkTCPServer, UDPServer):
        with pytest.raises(ConfigurationError) as refused:
            kind(("127.0.0.1", 0), handler, security)
        assert why in str(refused.value).replace("tests.test_contract.", "")


# Services


class Shop(Service):
    def place(self, order: Order) -> int: ...
    def place_special(self, message: Special) -> int: ...
    def cancel(self, message: Cancel | None) -> None: ...
    def count(self, message: int) -> int: ...
    def weigh(self, message: float) -> float: ...
    def upload(self, message: Iterator[Item]) -> int: ...


def test_methods_are_chosen_by_the_declared_type(security: Security) -> None:
    made = contract(Shop, security)

    def chosen(message: Any) -> str:
        return str(made.operation(made.decode(security.codec.encode(message))).signature.function.__name__)

    found = [chosen(message) for message in (ORDER, Special([]), Cancel(1), None, 1, True, 1.5)]
    assert found == ["place", "place_special", "cancel", "cancel", "count", "count", "weigh"]
    assert made.operation(iter([])).signature.name == "tests.test_contract.Shop.upload"
    assert refusal(made, security, "x")[0] == 17
    assert refusal(made, security, WRONG) == (
        16, "message.items[1].price: tests.test_contract.Item.price: expected decimal.Decimal, got int"
    )  # fmt: skip
    assert refusal(made, security, Evil([]))[0] == 17
    with pytest.raises(TypeNotAllowed, match="not declared for a message of type str"):
        contract(type("One", (Service,), {"cancel": Shop.cancel}), security).operation("x")


SpecialOnes = NewType("SpecialOnes", Special)


class Forms(Service):
    def any_order(self, message: Order) -> None: ...
    def special(self, message: Annotated[SpecialOnes, "x"] | None) -> None: ...
    def number(self, message: float) -> None: ...
    def one(self, message: Literal[1]) -> None: ...
    def labelled(self, message: Labelled) -> None: ...
    def mapping(self, message: Mapping[str, int]) -> None: ...


def test_the_nearest_of_several(security: Security) -> None:
    made = contract(Forms, security)
    messages = (ORDER, Special([]), None, 1.5, True, 1, {"order": ORDER, "tags": []}, OrderedDict(a=1))
    assert [made.operation(message).signature.function.__name__ for message in messages] == [
        "any_order", "special", "special", "number", "number", "one", "labelled", "mapping",
    ]  # fmt: skip
    assert refusal(made, security, 2) == (
        16,
        f"message: expected Literal[1], got int; declared by {__name__}.Forms.one",
    )


class Lists(Service):
    def many(self, orders: list[Order]) -> None: ...
    def pairs(self, message: tuple[int, int]) -> None: ...


def test_the_content_is_checked_for_the_chosen_method(security: Security) -> None:
    made = contract(Lists, security)
    assert refusal(made, security, [ORDER, 1])[1].startswith("orders[1]: expected tests.test_contract.Order, got int")
    assert refusal(made, security, (1, "x"))[1].startswith("message[1]: expected int")


class Derived(Shop):
    def place(self, order: Order) -> int:
        return 1

    def more(self, message: str) -> None: ...


def test_a_service_derived_from_another(security: Security) -> None:
    made = contract(Derived, security)
    assert made.operation(ORDER).signature.function is Derived.place
    assert made.operation("x").signature.function is Derived.more
    assert made.operation(1).signature.function is Shop.count


class Twice(Service):
    def one(self, message: list[Order]) -> None: ...
    def other(self, message: list[Cancel]) -> None: ...


class Alike(Service):
    def one(self, message: Order | Cancel) -> None: ...
    def other(self, message: Cancel) -> None: ...


class Vague(Service):
    def one(self, message: Order) -> None: ...
    def other(self, message): ...


class Anything(Service):
    def one(self, message: Any) -> None: ...


class Mixed(Service):
    def one(self, message: Order) -> None: ...
    async def other(self, message: Cancel) -> None: ...


class TwoUploads(Service):
    def one(self, message: Iterator[int]) -> None: ...
    def other(self, message: Iterator[str]) -> None: ...


class Nothing(Service):
    def _of_no_message(self) -> None: ...


AMBIGUOUS = {
    Twice: "Twice.one and Twice.other both take messages of type list; declare types that",
    Alike: "Alike.one and Alike.other both take messages of type Cancel",
    Vague: "Vague.other: annotate its parameter message: the declared type of a message chooses the",
    Anything: "Anything.one: annotate its parameter message",
    Mixed: "Mixed: either all of its methods (one, other) are `async`, or none",
    TwoUploads: "one and TwoUploads.other: only one function of a service can take a message in parts",
    Nothing: "Nothing needs a method for each type of messages",
}


@pytest.mark.parametrize(("service", "why"), AMBIGUOUS.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_services_that_choose_no_method(security: Security, service: type, why: str) -> None:
    for kind in (AsyncTCPServer, PreforkTCPServer) if service is not Mixed else (AsyncTCPServer,):
        with pytest.raises(ConfigurationError) as refused:
            kind(("127.0.0.1", 0), service, security)
        assert why in str(refused.value).replace("tests.test_contract.", "")


@pytest.mark.parametrize("name", ["respond", "handle"])
def test_services_with_methods_of_other_handlers(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Odd is a Service and has a {name} of its own; give the method"):
        type("Odd", (Service,), {name: lambda self, message: message})


def test_coroutines_need_a_server_that_runs_them(security: Security) -> None:
    class OnTheLoop(Service):
        async def one(self, message: Order) -> None: ...

    with pytest.raises(ConfigurationError, match="this server runs no coroutines"):
        ThreadingTCPServer(("127.0.0.1", 0), OnTheLoop, security)


def test_an_invalid_value_has_the_path_of_its_root() -> None:
    error = InvalidValue("why")
    assert (str(error), error.path) == ("why", "$")
    error.root = "message"
    assert (str(error), error.path) == ("message: why", "message")
