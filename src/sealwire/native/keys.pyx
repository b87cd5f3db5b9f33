"""Keys that are not short str: the twin of :mod:`sealwire.pickling.dict_keys` and :mod:`sealwire.pickling.key_costs`.

Those modules have the reasons, and the rules in Python. Nothing here recurses into a key: a tuple's parts are known
before the tuple itself is asked for.
"""

from sealwire.native.collisions cimport CollisionCounter
from sealwire.native.ints cimport Ints, breathe

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1


class InDoubt(Exception):
    """The twin does not accept this, and leaves it to the reference."""


cdef long long wide_bits(object value) except -1:
    """Return the length of an int in units of 128 bits; rounded down, and 0 for most."""
    cdef int overflow = 0
    PyLong_AsLongLongAndOverflow(value, &overflow)
    return 0 if not overflow else value.bit_length() // 128


cdef class KeyCosts:
    """Charges for the keys of one message. The values of keys are kept, so that no id is used twice."""

    def __cinit__(self, long long max_expanded_nodes=0):
        self.weights = {}
        self.hashing = {}
        self.remaining = max_expanded_nodes

    cdef int reset(self, long long max_expanded_nodes) except -1:
        """Begin with another message."""
        self.remaining = max_expanded_nodes
        if self.weights:
            self.weights = {}
        if self.hashing:
            self.hashing = {}

    cdef int charge(self, long long cost) except -1:
        self.remaining -= cost
        if self.remaining < 0:
            raise InDoubt

    cdef int charge_hashing(self, list keys) except -1:
        """Charge for hashing keys, whose values need not be hashable."""
        cdef long long cost = 0
        for key in keys:
            kind = type(key)
            if kind is int:
                cost += wide_bits(key)
            elif kind is tuple:
                cost += self.hashing_cost(key)
        self.charge(cost)

    cdef long long hashing_cost(self, object key) except -1:
        """Return the cost of hashing a key. That of a tuple is found out at its first use."""
        kind = type(key)
        if kind is int:
            return wide_bits(key)
        if kind is not tuple:
            return 0
        if id(key) not in self.hashing:
            self.find_hashing_cost(key)
        return self.hashing[id(key)][1]

    cdef int find_hashing_cost(self, tuple key) except -1:
        """Find the costs of a tuple and of the tuples in it, from the inside to the outside."""
        cdef list pending = [key]
        cdef long long cost
        while pending:
            outer = pending[len(pending) - 1]
            if id(outer) in self.hashing:
                pending.pop()
                continue
            missing = [item for item in outer if type(item) is tuple and id(item) not in self.hashing]
            if missing:
                pending += missing
                continue
            pending.pop()
            cost = len(outer)
            for item in outer:
                cost += self.hashing_cost(item)
            self.hashing[id(outer)] = (outer, cost)

    cdef long long weight(self, object key) except -1:
        """Return the weight of a key. That of a tuple or frozenset is found out at its first use."""
        kind = type(key)
        if kind is tuple or kind is frozenset:
            if id(key) not in self.weights:
                self.find_weight(key)
            return self.weights[id(key)][1]
        if kind is int:
            return 1 + wide_bits(key)
        if kind is str or kind is bytes:
            return 1 + len(key) // 16
        return 1

    cdef int find_weight(self, object key) except -1:
        """Find the weights of a tuple or frozenset and of those in it, from the inside to the outside."""
        cdef list pending = [key]
        cdef long long weight
        while pending:
            outer = pending[len(pending) - 1]
            if id(outer) in self.weights:
                pending.pop()
                continue
            missing = [
                item for item in outer if type(item) in (tuple, frozenset) and id(item) not in self.weights
            ]
            if missing:
                pending += missing
                continue
            pending.pop()
            weight = 1
            for item in outer:
                weight += self.weight(item)
            if type(outer) is frozenset:
                weight += self.alike_cost(list(outer))
            self.weights[id(outer)] = (outer, weight)

    def alike_cost(self, list keys) -> int:
        """Return the cost of comparing the keys of equal hashes in one dict or set."""
        cdef dict groups = {}
        cdef long long cost = 0
        cdef long long weights
        hashes = [hash(key) for key in keys]
        if len(set(hashes)) == len(hashes):
            return 0
        for value, key in zip(hashes, keys):
            groups.setdefault(value, []).append(key)
        for group in groups.values():
            if len(group) > 1:
                weights = 0
                for key in group:
                    weights += self.weight(key)
                cost += (len(group) - 1) * weights
        return cost


cdef class KeyTable:
    """The keys of one dict or set so far. In doubt about duplicates, and about keys that collide too often."""

    def __init__(self, bint is_set, long long max_probes):
        self.is_set = is_set
        self.max_probes = max_probes
        self.uncounted = max_probes * (8 if is_set else 1)
        self.keys = []
        self.key_hashes = []
        self.distinct = set()
        self.are_dense = True
        self.are_keyed = True
        self.groups = {}
        self.weights = {}
        self.alike_cost = 0

    def add(self, list keys not None, KeyCosts costs not None) -> bool:
        """Add the next keys. Returns False if in doubt."""
        try:
            self.put(keys, costs)
        except InDoubt:
            return False
        return True

    cdef int put(self, list keys, KeyCosts costs) except -1:
        """Add the next keys, at least one. Raises InDoubt."""
        cdef Py_ssize_t have = len(self.keys)
        cdef Py_ssize_t expected = have
        cdef Py_hash_t value
        cdef list hashes = []
        for key in keys:
            value = hash(key)
            hashes.append(value)
            kind = type(key)
            if kind is not str and kind is not bytes:
                self.are_keyed = False
            if value != expected:
                self.are_dense = False
            expected += 1
            breathe(expected)
        self.key_hashes += hashes
        if self.counter is not None:
            self.count(self.counter, hashes)
        elif expected > self.uncounted and not self.are_keyed and not self.are_dense:
            self.counter = CollisionCounter(self.is_set, self.max_probes)
            self.count(self.counter, self.key_hashes)
        self.keys += keys
        if not self.groups:
            self.distinct.update(hashes)
            if len(self.distinct) == expected:
                return 0
            self.groups.update(zip(self.key_hashes[:have], self.keys))
        for one, key in zip(hashes, keys):
            self.put_alike(one, key, costs)
            have += 1
            breathe(have)

    cdef int count(self, CollisionCounter counter, list hashes) except -1:
        """Count the probes of the next hashes, or of all; and in a set of hashes, whose hashes may be others."""
        cdef list again = [hash(value) for value in hashes]
        if not counter.add(hashes):
            raise InDoubt
        if self.counter_of_hashes is None:
            if again == hashes:
                return 0
            self.counter_of_hashes = CollisionCounter(self.is_set, self.max_probes)
            again = [hash(value) for value in self.key_hashes]
        if not self.counter_of_hashes.add(again):
            raise InDoubt

    cdef int put_alike(self, object value, object key, KeyCosts costs) except -1:
        cdef long long weight, cost
        if value not in self.groups:
            self.groups[value] = key
            return 0
        group = self.groups[value]
        if type(group) is not list:
            self.weights[value] = costs.weight(group)
            group = self.groups[value] = [group]
        weight = costs.weight(key)
        cost = len(group) * weight + self.weights[value]
        costs.charge(cost)
        self.alike_cost += cost
        self.weights[value] += weight
        if key in group:
            raise InDoubt
        group.append(key)


cdef int check_pairs(list pairs, KeyCosts costs, long long max_probes) except -1:
    """Check the arguments of all Fractions of a message, each with its hash."""
    cdef list hashes = []
    cdef long long size = 0
    cdef long long weights = 0
    cdef long long weight
    last = None
    for pair in sorted(pairs):
        if pair == last:
            continue
        last = pair
        value, first, second = pair
        if not hashes or value != hashes[len(hashes) - 1]:
            hashes.append(value)
            size = weights = 0
        weight = 1 + costs.weight(first) + costs.weight(second)
        if size:
            costs.charge(size * weight + weights)
        size += 1
        weights += weight
    if len(hashes) > max_probes and not CollisionCounter(False, max_probes).add(hashes):
        raise InDoubt
