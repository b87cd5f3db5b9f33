"""Stand-ins are inert, and what is shared is resolved once."""

from __future__ import annotations

import uuid
from collections import OrderedDict, deque
from functools import partial

import pytest

from sealwire import Limits
from sealwire.errors import InvalidValue, LimitExceeded, MalformedPickle
from sealwire.pickling.placeholders import placeholder_class
from sealwire.pickling.resolve import Resolver, methods

calls = []


def load(state):
    calls.append(state)
    return ("made", *state) if isinstance(state, tuple) else state


StandIn = placeholder_class(load)
StandInWith = placeholder_class(lambda arguments, *state: (arguments, state), with_arguments=True)


def instance(state):
    made = StandIn()
    made.__setstate__(state)
    return made


def resolve(value):
    calls.clear()
    return Resolver(Limits(), methods([StandIn, StandInWith, load]), {"declared"}).resolve(value)


def test_a_placeholder_runs_nothing():
    calls.clear()
    first, second = instance(1), instance(1)
    assert first != second
    assert len({first, second}) == 2
    assert hash(first) == object.__hash__(first)
    assert calls == []


def test_everything_is_reached():
    value = [
        instance((1,)), (2, instance((3,))), {"a": instance((4,))}, {instance((5,)): 6}, {instance((7,))},
        frozenset([instance((8,))]), deque([instance((9,))]), OrderedDict({(instance((10,)), 1): instance((11,))}),
        partial(load, (instance((12,)),)), {(1, 2): 3}, {"x"}, "leaf", uuid.UUID(int=1),
    ]  # fmt: skip
    assert resolve(value) == [
        ("made", 1), (2, ("made", 3)), {"a": ("made", 4)}, {("made", 5): 6}, {("made", 7)},
        frozenset([("made", 8)]), deque([("made", 9)]), OrderedDict({(("made", 10), 1): ("made", 11)}),
        ("made", ("made", 12)), {(1, 2): 3}, {"x"}, "leaf", uuid.UUID(int=1),
    ]  # fmt: skip


def test_shared_once():
    shared = instance((1,))
    first, second, inner = resolve([shared, shared, [shared]])
    assert first is second is inner[0]
    assert calls == [(1,)]


def test_arguments_and_state():
    called, new = StandInWith(1, [2]), StandInWith.__new__(StandInWith, 3)
    new.__setstate__({"a": instance((4,))})
    assert resolve([called, new, StandInWith()]) == [
        ((1, [2]), ()), ((3,), ({"a": ("made", 4)},)), ((), ()),
    ]  # fmt: skip


def test_path_to_what_is_wrong():
    def refuse(_):
        raise InvalidValue("wrong")

    bad = placeholder_class(refuse)()
    bad.__setstate__(1)
    value = [0, (1, {"declared": [bad]}), 2]
    with pytest.raises(InvalidValue, match=r"^\$\[1\]\[1\]\.declared\[0\]: wrong$"):
        Resolver(Limits(), methods([type(bad)]), {"declared"}).resolve(value)
    with pytest.raises(InvalidValue, match=r"^\$\[1\]\[1\]\.<value 0>\[0\]: wrong$"):
        Resolver(Limits(), methods([type(bad)])).resolve(value)


def test_keys_that_turn_out_equal():
    for value in ({instance((1,)): 1, instance((1,)): 2}, {instance((1,)), instance((1,))}):
        with pytest.raises(MalformedPickle, match="twice"):
            resolve(value)


def test_keys_that_turn_out_to_collide():
    with pytest.raises(LimitExceeded, match="max_probes"):
        resolve({instance(n * (2**61 - 1)): None for n in range(1, 999)})


def test_a_set_may_have_more_keys_of_one_hash_than_a_dict():
    """As many times more as CPython examines neighbouring slots of it at once."""

    def keys():
        return [instance(n * (2**61 - 1)) for n in range(1, 41)]

    def resolve_with_few_probes(value):
        return Resolver(Limits(max_probes=8), methods([StandIn])).resolve(value)

    assert len(resolve_with_few_probes(set(keys()))) == 40
    assert len(resolve_with_few_probes(partial(frozenset, keys()))) == 40
    with pytest.raises(LimitExceeded, match="max_probes: the keys of a dict"):
        resolve_with_few_probes(dict.fromkeys(keys()))


NAN = float("nan")


@pytest.mark.parametrize("value", [{NAN: 1}, {NAN}, frozenset([NAN])], ids=["dict", "set", "frozenset"])
def test_keys_that_vetting_has_checked_are_not_checked_again(value):
    """Vetting refuses NaN itself, which shows here who looks at the keys."""
    assert resolve(value) is value
    (key,) = value
    nested = dict.fromkeys([(key,)]) if type(value) is dict else type(value)([(key,)])
    assert Resolver(Limits(), methods([]), has_object_keys=False).resolve(nested) is nested
    with pytest.raises(InvalidValue, match="NaN"):
        resolve(nested)
