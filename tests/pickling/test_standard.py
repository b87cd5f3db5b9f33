"""The checked constructors: what each value type refuses, directly and as a key (where it is made at the end)."""

from __future__ import annotations

import datetime
import decimal
import pathlib
import subprocess
import sys
import uuid

import pytest

from pickling.assembler import blob, call, dict_, instance, integer, list_, message, name, text, tuple_
from sealwire.errors import DecodeError, InvalidValue, MalformedPickle, TypeNotAllowed
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder
from sealwire.pickling import opcodes as op
from sealwire.pickling.constructors import MAX_DECIMAL_DIGITS, MAX_PATH, MAX_PATH_PARTS
from sealwire.pickling.standard import standard_rules

DECODER = Decoder(Allowlist(), Limits())
NONE = bytes([op.NONE])
TRUE = bytes([op.NEWTRUE])
DAY = b"\x07\xe8\x01\x01"
LONG_INT = integer(2**14_000)


def decimal_(value):
    return call("decimal", "Decimal", text(value))


def uuid_(*pairs):
    return instance("uuid", "UUID", dict_(*pairs))


REFUSED = {
    "year 0": call("datetime", "datetime", blob(b"\0\0" + b"\1\1" + bytes(6))),
    "month 13": call("datetime", "datetime", blob(b"\x07\xe8\x0d\1" + bytes(6))),
    "30 February": call("datetime", "datetime", blob(b"\x07\xe8\2\x1e" + bytes(6))),
    "hour 24": call("datetime", "datetime", blob(DAY + b"\x18" + bytes(5))),
    "a million microseconds": call("datetime", "datetime", blob(DAY + bytes(3) + b"\x0f\x42\x40")),
    "datetime of other size": call("datetime", "datetime", blob(DAY)),
    "datetime of str": call("datetime", "datetime", text("x" * 10)),
    "datetime of integers": call("datetime", "datetime", integer(2024), integer(1), integer(1)),
    "datetime with a timedelta as zone": call(
        "datetime", "datetime", blob(DAY + bytes(6)), call("datetime", "timedelta", integer(0), integer(0), integer(0))
    ),
    "datetime with a str as zone": call("datetime", "datetime", blob(DAY + bytes(6)), text("UTC")),
    "date of year 0": call("datetime", "date", blob(b"\0\0\1\1")),
    "date of other size": call("datetime", "date", blob(b"\0\1\1")),
    "hour 24 of a time": call("datetime", "time", blob(b"\x18" + bytes(5))),
    "time of other size": call("datetime", "time", blob(b"")),
    "time with a zone of str": call("datetime", "time", blob(bytes(6)), text("UTC")),
    "timedelta of floats": call("datetime", "timedelta", bytes([op.BINFLOAT]) + bytes(8), integer(0), integer(0)),
    "timedelta out of range": call("datetime", "timedelta", integer(10**9), integer(0), integer(0)),
    "timedelta of a negative second": call("datetime", "timedelta", integer(1), integer(-1), integer(0)),
    "timedelta of too many seconds": call("datetime", "timedelta", integer(1), integer(86_400), integer(0)),
    "timedelta of bool": call("datetime", "timedelta", TRUE, integer(1), integer(0)),
    "timedelta of a huge integer": call("datetime", "timedelta", LONG_INT, integer(1), integer(0)),
    "timezone of a str": call("datetime", "timezone", text("UTC")),
    "timezone of more than a day": call(
        "datetime", "timezone", call("datetime", "timedelta", integer(1), integer(0), integer(0))
    ),
    "timezone with a number as name": call(
        "datetime", "timezone", call("datetime", "timedelta", integer(0), integer(9), integer(0)), integer(1)
    ),
    "timezone with too many parts": call("datetime", "timezone", NONE, NONE, NONE),
    "Decimal of an integer": call("decimal", "Decimal", integer(5)),
    "Decimal of no number": decimal_("five"),
    "Decimal of a huge exponent": decimal_("1E+999999999"),
    "Decimal of a tiny exponent": decimal_("1E-6145"),
    "Decimal of digits and exponent": decimal_("9" * 30 + "E+6140"),
    "Decimal in another form": decimal_("1e5"),
    "Decimal with spaces": decimal_(" 1"),
    "Decimal with underscores": decimal_("1_000"),
    "Decimal of other digits": decimal_("\N{ARABIC-INDIC DIGIT ONE}"),
    "Decimal of too many digits": decimal_("1" * (MAX_DECIMAL_DIGITS + 1)),
    "Decimal of far too many digits": decimal_("1" * 100_000),
    "signalling NaN": decimal_("sNaN"),
    "Fraction of a str": call("fractions", "Fraction", text("1e30000000")),
    "Fraction of str and int": call("fractions", "Fraction", text("1"), integer(1)),
    "Fraction by 0": call("fractions", "Fraction", integer(1), integer(0)),
    "Fraction by a negative": call("fractions", "Fraction", integer(1), integer(-2)),
    "Fraction not in lowest terms": call("fractions", "Fraction", integer(2), integer(4)),
    "UUID without state": instance("uuid", "UUID"),
    "UUID of a str": uuid_((text("int"), text("x"))),
    "UUID of bool": uuid_((text("int"), TRUE)),
    "UUID of too many bits": uuid_((text("int"), integer(2**128))),
    "UUID of a negative": uuid_((text("int"), integer(-1))),
    "UUID with another field": uuid_((text("int"), integer(1)), (text("hex"), text("x"))),
    "UUID without its field": uuid_((text("is_safe"), integer(0))),
    "UUID that is unsafely safe": uuid_((text("int"), integer(1)), (text("is_safe"), integer(7))),
    "UUID that is safe by a list": uuid_((text("int"), integer(1)), (text("is_safe"), list_(NONE))),
    "UUID of a list": instance("uuid", "UUID", list_(integer(1))),
    "UUID of None": instance("uuid", "UUID", NONE),
    "path of integers": call("pathlib", "PurePosixPath", integer(1)),
    "path of too many parts": call("pathlib", "PurePosixPath", *[text("a")] * (MAX_PATH_PARTS + 1)),
    "path that is too long": call("pathlib._local", "PureWindowsPath", text("a" * (MAX_PATH + 1))),
    "address of bytes": call("ipaddress", "IPv4Address", blob(b"\1\2\3\4")),
    "address of bool": call("ipaddress", "IPv4Address", TRUE),
    "address out of range": call("ipaddress", "IPv4Address", integer(2**32)),
    "address that is none": call("ipaddress", "IPv6Address", text("x")),
    "address that is too long": call("ipaddress", "IPv6Address", text("::1%" + "x" * 300)),
    "network of an integer": call("ipaddress", "IPv4Network", integer(5)),
    "network with host bits": call("ipaddress", "IPv4Network", text("10.0.0.1/8")),
    "interface that is none": call("ipaddress", "IPv4Interface", text("10.0.0.1/99")),
    "complex of integers": call("builtins", "complex", integer(1), integer(2)),
    "complex of a str": call("builtins", "complex", text("1j")),
    "bytearray of an integer": call("builtins", "bytearray", integer(2**30)),
    "bytearray of str and codec": call("builtins", "bytearray", text("x"), text("latin-1")),
    "set of a tuple": call("builtins", "set", tuple_(integer(1))),
    "set of str": call("builtins", "frozenset", text("abc")),
    "set of NaN": call("builtins", "set", list_(bytes([op.BINFLOAT]) + b"\x7f\xf8" + bytes(6))),
    "set of NaN in a tuple": call("builtins", "set", list_(tuple_(bytes([op.BINFLOAT]) + b"\x7f\xf8" + bytes(6)))),
    "deque of a list": call("collections", "deque", list_(integer(1))),
    "deque with items": call("collections", "deque", tuple_(integer(1))),
    "deque of an item and a long maxlen": call("collections", "deque", tuple_(), integer(2**2000)) + b"Na",
    "deque of a negative length": call("collections", "deque", tuple_(), integer(-1)),
    "deque of a long length": call("collections", "deque", tuple_(), integer(2**31)),
    "deque of a length that is bool": call("collections", "deque", tuple_(), TRUE),
    "Counter of a list": call("collections", "Counter", list_(text("a"))),
    "Counter that cannot be printed": call(
        "collections", "Counter", dict_((text("a"), tuple_(decimal_("NaN"))), (text("b"), decimal_("1")))
    ),
    "ZoneInfo that is none": call("builtins", "getattr", name("zoneinfo", "ZoneInfo"), text("_unpickle"))
    + tuple_(text("../../etc/passwd"), integer(1))
    + bytes([op.REDUCE]),
    "ZoneInfo of a number": call("builtins", "getattr", name("zoneinfo", "ZoneInfo"), text("_unpickle"))
    + tuple_(integer(1), integer(1))
    + bytes([op.REDUCE]),
    "ZoneInfo with a list": call("builtins", "getattr", name("zoneinfo", "ZoneInfo"), text("_unpickle"))
    + tuple_(text("UTC"), list_(NONE))
    + bytes([op.REDUCE]),
    "ZoneInfo without flag": call("builtins", "getattr", name("zoneinfo", "ZoneInfo"), text("_unpickle"))
    + tuple_(text("UTC"))
    + bytes([op.REDUCE]),
    "bytes that are no Latin-1": call("_codecs", "encode", text("€"), text("latin1")),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(data):
    with pytest.raises(InvalidValue) as error:
        DECODER.decode(message(list_(data)))
    assert "passwd" not in str(error.value)
    with pytest.raises(DecodeError):
        DECODER.decode(message(dict_((tuple_(data), NONE))))


def test_a_duplicate_in_a_set_by_its_list():
    with pytest.raises(MalformedPickle, match="twice"):
        DECODER.decode(message(call("builtins", "set", list_(integer(1), TRUE))))


@pytest.mark.parametrize("where", ["key", "element", "in a tuple", "in the list of a set"])
@pytest.mark.parametrize(
    "data",
    [
        decimal_("1.5"),
        uuid_((text("int"), integer(1))),
        call("datetime", "date", blob(DAY)),
        call("builtins", "bytes"),
        call("builtins", "frozenset", list_(integer(1))),
        call("builtins", "getattr", name("zoneinfo", "ZoneInfo"), text("_unpickle"))
        + tuple_(text("UTC"), integer(1))
        + bytes([op.REDUCE]),
    ],
    ids=["Decimal", "UUID", "date", "bytes", "frozenset", "ZoneInfo"],
)
def test_equal_objects_are_duplicate_keys(where, data):
    pair = {
        "key": dict_((data, NONE), (data, NONE)),
        "element": bytes([op.EMPTY_SET, op.MARK]) + data + data + bytes([op.ADDITEMS]),
        "in a tuple": dict_((tuple_(NONE, data), NONE), (tuple_(NONE, data), NONE)),
        "in the list of a set": call("builtins", "set", list_(data, data)),
    }[where]
    with pytest.raises(MalformedPickle, match="twice"):
        DECODER.decode(message(pair))


def test_nan_that_is_an_object_is_not_a_key():
    for data in (dict_((decimal_("NaN"), NONE)), dict_((tuple_(NONE, decimal_("NaN")), NONE))):
        with pytest.raises(InvalidValue, match="NaN"):
            DECODER.decode(message(data))


def test_an_object_equal_to_a_plain_key_is_a_duplicate():
    with pytest.raises(MalformedPickle, match="twice"):
        DECODER.decode(message(dict_((decimal_("1"), NONE), (integer(1), NONE))))


def test_what_stands_for_a_mere_factory_makes_nothing():
    global_rules = {rule.qualified_name: rule for rule in standard_rules()}
    for qualified_name in ("int", "list"):
        with pytest.raises(InvalidValue, match="may be named but not called"):
            global_rules[qualified_name].load("1")


def test_a_path_of_another_system_is_not_made_into_one_of_this():
    other = "WindowsPath" if type(pathlib.Path()) is pathlib.PosixPath else "PosixPath"
    with pytest.raises(TypeNotAllowed):
        DECODER.decode(message(call("pathlib", other, text("a"))))


def test_the_limits_of_values_are_met_exactly():
    assert DECODER.decode(message(decimal_("1" * MAX_DECIMAL_DIGITS))) == decimal.Decimal("1" * MAX_DECIMAL_DIGITS)
    for exponent in ("1E+6144", "1E-6144"):
        assert DECODER.decode(message(decimal_(exponent))) == decimal.Decimal(exponent)
    assert DECODER.decode(message(uuid_((text("int"), integer(2**128 - 1))))) == uuid.UUID(int=2**128 - 1)
    days = call("datetime", "timedelta", integer(-999_999_999), integer(0), integer(0))
    assert DECODER.decode(message(days)) == datetime.timedelta.min


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("old", ["set", "long", "int"])
def test_names_of_python_2_are_those_of_protocol_2(protocol, old):
    """As CPython has it, which otherwise looks for a module of that name."""
    data = message(call("collections", "defaultdict", name("__builtin__", old)), protocol=protocol)
    if protocol == 2:
        assert DECODER.decode(data).default_factory is {"set": set, "long": int, "int": int}[old]
    else:
        with pytest.raises(TypeNotAllowed):
            DECODER.decode(data)


_WATCHED = """
import pickle, sys
from sealwire import decode
from zoneinfo import ZoneInfo
data = pickle.dumps(ZoneInfo("Europe/Lisbon"))
seen = []
sys.addaudithook(lambda event, _: seen.append(event))
assert decode(data) == ZoneInfo("Europe/Lisbon")
print({"import", "os.listdir", "os.scandir", "os.walk"}.intersection(seen))
"""


def test_a_time_zone_imports_nothing():
    """The database was walked when the codec was made."""
    done = subprocess.run([sys.executable, "-c", _WATCHED], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("items", [b"(NNe", b"NaNa", b"Na(Ne", b"(Ne(Ne"])
def test_a_deque_of_more_items_than_its_maxlen(items):
    """CPython drops what is too much."""
    with pytest.raises(MalformedPickle, match="more items than its maxlen"):
        DECODER.decode(message(call("collections", "deque", tuple_(), integer(1)) + items))


_COMPARED = """
from sealwire import InvalidValue, decode
body = b"C\\x01aN\\x8c\\x01aN"
for value in (b"\\x80\\x04}(%su." % body, b"\\x80\\x04}(cuuid\\nUUID\\n)\\x81}\\x8c\\x03intK\\x01sbN%su." % body):
    try:
        decode(value)
    except InvalidValue as error:
        print(error)
"""


def test_keys_that_python_does_not_let_be_compared():
    done = subprocess.run([sys.executable, "-bb", "-c", _COMPARED], capture_output=True, text=True, check=True)
    assert done.stdout.count("a str and bytes of one content") == 2
