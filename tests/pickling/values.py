"""Accepted values, for Hypothesis; and how to compare them."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import pathlib
import pickle
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from fractions import Fraction

from hypothesis import strategies as st

PROTOCOLS = range(2, 6)
DUMPS = (pickle.dumps, pickle._dumps)

ZONES = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata")
zones = st.sampled_from(ZONES).map(zoneinfo.ZoneInfo)
timezones = st.builds(
    datetime.timezone,
    st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
)
tz = st.none() | zones | timezones
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)

keys = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=40),
    st.datetimes(timezones=tz),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False, min_value=-(10**40), max_value=10**40).filter(lambda value: len(str(value)) < 4000),
    st.fractions(),
    st.uuids(),
    st.ip_addresses(),
    st.complex_numbers(allow_nan=False),
    timezones,
    zones,
)
hashable = st.recursive(
    keys,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
leaves = st.one_of(
    hashable,
    st.floats(),
    st.binary(max_size=300).map(bytearray),
    st.integers(-(2**14_000), 2**14_000),
    st.sampled_from(
        [
            pathlib.PurePosixPath("/a/b"),
            pathlib.PureWindowsPath("c:/a"),
            pathlib.Path(),
            ipaddress.ip_network("10.0.0.0/8"),
            ipaddress.ip_network("fe80::/10"),
            ipaddress.ip_interface("10.1.2.3/8"),
            ipaddress.ip_interface("fe80::1%eth0/64"),
            ipaddress.ip_address("fe80::1%eth0"),
            uuid.UUID(int=5, is_safe=uuid.SafeUUID.safe),
            Fraction(1, 3),
            datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
        ]
    ),
)


def _defaultdict(factory, items):
    return defaultdict(factory, items)


values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(hashable, inner, max_size=5),
        st.sets(hashable, max_size=5),
        st.frozensets(hashable, max_size=5),
        st.lists(st.tuples(hashable, inner), max_size=4).map(OrderedDict),
        st.dictionaries(hashable, st.integers(), max_size=4).map(Counter),
        st.builds(
            _defaultdict, st.sampled_from([None, list, dict, int, set]), st.dictionaries(hashable, inner, max_size=3)
        ),
        st.builds(deque, st.lists(inner, max_size=4), st.none() | st.integers(0, 9)),
        # Shared on purpose.
        inner.map(lambda item: [item, item]),
    ),
    max_leaves=15,
)


def same(one: object, other: object) -> bool:
    """Equal in type and value, all the way down; NaN is the same as NaN, 0.0 is not the same as -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        if type(one) is defaultdict and one.default_factory is not other.default_factory:
            return False
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple | deque):
        if type(one) is deque and one.maxlen != other.maxlen:
            return False
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return one == other and Counter(map(type, one)) == Counter(map(type, other))
    if isinstance(one, float | complex):
        return repr(one) == repr(other)
    if isinstance(one, datetime.datetime | datetime.time):
        return repr(one) == repr(other)
    if isinstance(one, decimal.Decimal):
        return str(one) == str(other)
    if isinstance(one, uuid.UUID) and one.is_safe is not other.is_safe:
        return False
    return one == other
