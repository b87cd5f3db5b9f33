"""Messages that could stop, fill or kill a process, of which an exact allowlist in ``find_class`` stops none."""

from __future__ import annotations

from collections.abc import Callable

from pickling.assembler import blob, call, dict_, instance, integer, list_, message, name, text, tuple_
from sealwire.pickling import opcodes as op

NONE = bytes([op.NONE])
PUT = bytes([op.MEMOIZE])
PRIME = 2**61 - 1


def get(index):
    return bytes([op.BINGET, index])


def sharing(levels):
    """Each level refers to the one below twice."""
    parts = [bytes([op.EMPTY_TUPLE, op.MEMOIZE, op.BINGET, 0, op.TUPLE2])]
    parts += [bytes([op.MEMOIZE, op.BINGET, n, op.TUPLE2]) for n in range(1, levels)]
    return b"".join(parts)


def collide(numbers):
    return message(dict_(*[(integer(n), NONE) for n in numbers]))


def sets(count):
    return message(list_(*[bytes([op.EMPTY_SET])] * count))


MARK_TO_MARK = bytes([op.MARK]) * 900_000
DEEP = bytes([op.EMPTY_TUPLE]) + bytes([op.TUPLE1]) * 150_000


def named(module, qualname):
    """A name, as memo entry 0."""
    return name(module, qualname) + PUT


def frozensets(depth):
    return bytes([op.MARK]) * (depth - 1) + NONE + bytes([op.FROZENSET]) * (depth - 1)


def calls(function, arguments, count):
    """Calls of one function with one tuple of arguments, which is memo entry 1."""
    first = named(*function) + arguments + PUT + bytes([op.REDUCE])
    return message(list_(first, *[get(0) + get(1) + bytes([op.REDUCE])] * count))


FIBONACCI = [1, 1]
while FIBONACCI[-1].bit_length() < 14_283:
    FIBONACCI.append(sum(FIBONACCI[-2:]))
MEBIBYTE = 1 << 20

SHARED = {
    "a large key in many dicts": (
        lambda: message(
            op.MARK,
            sharing(20) + PUT,
            *[bytes([op.EMPTY_DICT]) + get(20) + NONE + bytes([op.SETITEM])] * 300,
            op.TUPLE,
        ),
        "LimitExceeded max_expanded_nodes",
    ),
    "a large key of deep frozensets": (
        lambda: message(
            op.MARK,
            frozensets(80) + PUT,
            *[get(n) + bytes([op.TUPLE2]) + PUT for n in range(15)],
            *[bytes([op.EMPTY_DICT]) + get(15) + NONE + bytes([op.SETITEM])] * 12,
            op.TUPLE,
        ).replace(PUT + get(0), PUT + get(0) + get(0), 1),
        "LimitExceeded max_expanded_nodes",
    ),
    "bytearrays of shared bytes": (
        lambda: calls(("builtins", "bytearray"), blob(bytes(MEBIBYTE)) + b"\x85", 2000),
        "LimitExceeded max_memory",
    ),
    "bytes of a shared str": (
        lambda: calls(("_codecs", "encode"), text("x" * MEBIBYTE) + text("latin1") + b"\x86", 1000),
        "LimitExceeded max_memory",
    ),
    "sets of a shared list": (
        lambda: calls(("builtins", "set"), list_(*[integer(n) for n in range(39_000)]) + b"\x85", 99),
        "LimitExceeded max_memory",
    ),
    "Counters of a shared dict": (
        lambda: calls(("collections", "Counter"), dict_(*[(integer(n), NONE) for n in range(43_000)]) + b"\x85", 43),
        "LimitExceeded max_memory",
    ),
    "bytearrays of shared bytes of protocol 2": (
        lambda: calls(
            ("builtins", "bytearray"),
            call("_codecs", "encode", text("x" * MEBIBYTE), text("latin1")) + b"\x85",
            900,
        ),
        "LimitExceeded max_memory: the objects of the message",
    ),
    "paths of a shared str": (
        lambda: calls(("pathlib", "PurePosixPath"), text("a/" * 16_000) + b"\x85", 5000),
        "LimitExceeded max_memory",
    ),
    "Fractions of shared numbers": (
        lambda: calls(("fractions", "Fraction"), integer(FIBONACCI[-2]) + integer(FIBONACCI[-1]) + b"\x86", 20_000),
        "LimitExceeded max_memory",
    ),
    "Decimals of a shared str": (
        lambda: calls(("decimal", "Decimal"), text("7" * 4300) + b"\x85", 20_000),
        "LimitExceeded max_memory",
    ),
    "Fractions that collide, each the key of its own dict": (
        lambda: message(
            list_(
                *[
                    dict_((call("fractions", "Fraction", integer(5 + n * PRIME), integer(7)), NONE))
                    for n in range(1, 8000)
                    if (5 + n * PRIME) % 7
                ]
            )
        ),
        "LimitExceeded max_expanded_nodes: hashing and comparing",
    ),
    "Decimals and a Fraction of one hash": (
        lambda: message(
            op.MARK,
            *[call("decimal", "Decimal", text(str(10**4000 + (7 - 10**4000) % PRIME + n * PRIME))) for n in range(99)],
            op.FROZENSET,
        ),
        "LimitExceeded max_expanded_nodes: hashing and comparing",
    ),
}
"""A shared part costs a byte or two in the message each time, and was made, hashed or compared each time."""

DANGEROUS: dict[str, tuple[Callable[[], bytes], str]] = {
    **SHARED,
    "a deep tuple as a key": (lambda: message(dict_((DEEP, NONE))), "LimitExceeded max_depth"),
    "a deep tuple": (lambda: message(DEEP), "LimitExceeded max_depth"),
    "deep lists": (
        lambda: message(bytes([op.EMPTY_LIST]) * 150_000, bytes([op.APPEND]) * 149_999),
        "LimitExceeded max_depth",
    ),
    "deep marks": (lambda: message(MARK_TO_MARK, bytes([op.TUPLE]) * 99_000), "LimitExceeded max_"),
    "many marks": (lambda: message(MARK_TO_MARK, MARK_TO_MARK), "LimitExceeded max_memory"),
    "shared tuples as a key": (lambda: message(dict_((sharing(90), NONE))), "LimitExceeded max_expanded_nodes"),
    "shared tuples": (lambda: message(sharing(40)), "LimitExceeded max_expanded_nodes"),
    "shared frozensets": (
        lambda: message(bytes([op.MARK]) + sharing(21) + bytes([op.FROZENSET]), op.MEMOIZE, get(0), op.TUPLE2),
        "LimitExceeded max_expanded_nodes",
    ),
    "a memo index": (lambda: message(NONE, bytes([op.LONG_BINPUT, 0, 0, 0, 4])), "MalformedPickle a memo index"),
    "a larger memo index": (
        lambda: message(NONE, bytes([op.LONG_BINPUT]) + b"\xff" * 4),
        "MalformedPickle a memo index",
    ),
    "empty sets": (lambda: sets(900_000), "LimitExceeded max_memory"),
    "empty dicts": (lambda: message(list_(*[bytes([op.EMPTY_DICT])] * 900_000)), "LimitExceeded max_memory"),
    "empty deques": (
        lambda: message(name("collections", "deque"), op.MEMOIZE, *[get(0) + b")R"] * 300_000),
        "LimitExceeded max_memory",
    ),
    "sets, one as the value of all": (
        lambda: message(dict_(*[(integer(n), b"\x8f") for n in range(400_000)])),
        "LimitExceeded max_",
    ),
    "a length beyond the end": (
        lambda: message(bytes([op.BINBYTES8]) + (2**62).to_bytes(8, "little")),
        "LimitExceeded max_string",
    ),
    "a length within the limit": (
        lambda: message(bytes([op.BINUNICODE8]) + (2**23).to_bytes(8, "little")),
        "MalformedPickle the pickle is truncated",
    ),
    "a long integer": (lambda: message(integer(1 << 40_000_000)), "LimitExceeded max_integer_bits"),
    "multiples of 2**61 - 1": (lambda: collide(n * PRIME for n in range(50_000)), "LimitExceeded max_probes"),
    "the same in a set": (
        lambda: message(op.EMPTY_SET, op.MARK, *[integer(n * PRIME) for n in range(20_000)], op.ADDITEMS),
        "LimitExceeded max_probes",
    ),
    "the same in a frozenset": (
        lambda: message(op.MARK, *[integer(n * PRIME) for n in range(20_000)], op.FROZENSET),
        "LimitExceeded max_probes",
    ),
    "the same in the list of a set": (
        lambda: message(call("builtins", "set", list_(*[integer(n * PRIME) for n in range(20_000)]))),
        "LimitExceeded max_probes",
    ),
    "the same in an OrderedDict": (
        lambda: message(
            call("collections", "OrderedDict"),
            op.MARK,
            *[integer(n * PRIME) + NONE for n in range(20_000)],
            op.SETITEMS,
        ),
        "LimitExceeded max_probes",
    ),
    "the same one by one": (
        lambda: message(op.EMPTY_DICT, *[integer(n * PRIME) + NONE + bytes([op.SETITEM]) for n in range(20_000)]),
        "LimitExceeded max_probes",
    ),
    "the same in a Counter": (
        lambda: message(call("collections", "Counter", dict_(*[(integer(n * PRIME), NONE) for n in range(20_000)]))),
        "LimitExceeded max_probes",
    ),
    "the same in tuples": (
        lambda: message(dict_(*[(tuple_(integer(n * PRIME)), NONE) for n in range(20_000)])),
        "LimitExceeded max_probes",
    ),
    "floats of one slot": (
        lambda: message(
            dict_(
                *[(b"G" + (n << 52 | 5).to_bytes(8, "big"), NONE) for n in range(1, 2000)],
                *[(integer(n * PRIME), NONE) for n in range(1, 20_000)],
            )
        ),
        "LimitExceeded max_probes",
    ),
    "UUIDs": (
        lambda: message(
            dict_(*[(instance("uuid", "UUID", dict_((text("int"), integer(n * PRIME)))), NONE) for n in range(9000)])
        ),
        "LimitExceeded max_probes",
    ),
    "Decimals": (
        lambda: message(dict_(*[(call("decimal", "Decimal", text(str(n * PRIME))), NONE) for n in range(20_000)])),
        "LimitExceeded max_probes",
    ),
    "Decimals in the list of a set": (
        lambda: message(
            call(
                "builtins",
                "frozenset",
                list_(*[call("decimal", "Decimal", text(str(n * PRIME))) for n in range(20_000)]),
            )
        ),
        "LimitExceeded max_probes",
    ),
    "a Fraction that computes": (
        lambda: message(call("fractions", "Fraction", text("1e30000000"))),
        "InvalidValue fractions.Fraction",
    ),
    "a Decimal that prints": (
        lambda: message(call("decimal", "Decimal", text("1E+999999999"))),
        "InvalidValue decimal.Decimal",
    ),
    "a datetime that crashes": (
        lambda: message(call("datetime", "datetime", blob(bytes([0, 0, 1, 1, 0, 0, 0, 0, 0, 0])))),
        "InvalidValue datetime.datetime",
    ),
    "a path of many parts": (
        lambda: message(call("pathlib", "PureWindowsPath", *[text("a" * 20)] * 200_000)),
        "LimitExceeded max_memory",
    ),
    "a bytearray by its length": (
        lambda: message(call("builtins", "bytearray", integer(2**33))),
        "InvalidValue bytearray",
    ),
    "a long path": (
        lambda: message(call("pathlib", "PureWindowsPath", *[text("a" * 250)] * 250)),
        "InvalidValue pathlib",
    ),
}
"""The function that makes each message, some of which take a while; and the beginning of its refusal."""
