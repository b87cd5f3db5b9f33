# cython: nonecheck=True
"""Surveys a value before it is pickled: would the decoder surely accept the pickle?

The decoder has the last word about what can be sent, but asking it means to decode whatever is encoded. Here the value
itself is walked instead. Everything is charged that the vetting pass would charge for the pickle: nodes, opcodes,
memory, depth, the lengths of str and integers, keys that collide. Fields of instances are checked as they would be when
they arrive. The answer is "surely" or "in doubt", never "no": what is in doubt goes the checked way
(:mod:`sealwire.pickling.encoder`), which also makes the errors.

Only exact types are looked at, and no code of a value runs. Containers are kept in a list when they are met, and opened
when their depth is reached, so that nothing recurses, and a cycle ends by being too deep. Shared parts count each time,
as in the decoder.
"""

cimport cython
from cpython.dict cimport PyDict_CheckExact
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.tuple cimport PyTuple_GET_SIZE, PyTuple_GetSlice
from cpython.unicode cimport PyUnicode_CheckExact

from sealwire.native.plain cimport Writer

from sealwire.native.collisions import CollisionCounter

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    object PyObject_GenericGetDict(object, void *)

ctypedef long long Count

# Bytes, as sealwire.pickling.nodes and .calls have them.
cdef Count OPCODE_MEMORY = 88
cdef Count TEXT_MEMORY = 4
cdef Count LONG_TEXT_COPIES = 2
cdef Count LIST_MEMORY = 160
cdef Count DICT_MEMORY = 320
cdef Count DICT_ITEM_MEMORY = 112  # a key and its value
cdef Count SET_MEMORY = 420
cdef Count SET_ITEM_MEMORY = 168
cdef Count TUPLE_MEMORY = 140
cdef Count TUPLE_ITEM_MEMORY = 16
cdef Count CALLED_MEMORY = 200
cdef Count COPIED_MEMORY = 128

# As sealwire.pickling.adapters.shapes has them.
cdef enum:
    ATTRIBUTES = 0
    NAMED = 1
    SLOTS = 2
    LISTED = 3
    ITEMS = 4
    MEMBER = 5

cdef Py_ssize_t SHORT = 256
"""Bytes below which a str is within any limit if a str of this length is, and bytes have a length of one byte."""
cdef Py_ssize_t LARGE = 65_536
"""Bytes from which on the pickler writes bytes outside of its frames."""
cdef Count PRIME = (1 << 61) - 1
"""The modulus of the hashes of numbers: smaller ints are their own hashes."""
cdef Count NARROW = 127
"""Bits of an int that costs nothing to hash."""


@cython.final
cdef class Plan:
    """The rules of a survey for the values of one class."""

    cdef object cls
    cdef int form
    cdef bint is_called
    cdef dict members
    cdef tuple names, exact_types, checks
    cdef Count memory

    def __init__(self, shape, Count memory):
        self.cls = shape.cls
        self.form = shape.form
        self.is_called = shape.is_called
        self.members = shape.members
        self.names = tuple(shape.checks)
        self.checks = tuple([check.check_value for check in shape.checks.values()])
        self.exact_types = tuple([check.exact_types for check in shape.checks.values()])
        self.memory = CALLED_MEMORY + memory
        if self.members is not None:  # the value is charged for each call
            self.memory += (TEXT_MEMORY + LONG_TEXT_COPIES) * max([9 + 4 * len(str(value)) for value in self.members.values()])

    cdef object parts(self, object value):
        """Return the container of the parts of a value that CPython writes, or None if that is in doubt."""
        cdef object parts
        if self.form == ITEMS:
            return PyTuple_GetSlice(value, 0, PyTuple_GET_SIZE(value))
        if self.form == ATTRIBUTES:
            parts = PyObject_GenericGetDict(value, NULL)
            return parts if PyDict_CheckExact(parts) else None  # one of a subclass can be put in its place
        if self.form == LISTED:
            return [getattr(value, name) for name in self.names]
        named = {name: getattr(value, name) for name in self.names}
        return (None, named) if self.form == SLOTS else named


@cython.final
cdef class Survey:
    """Surveys values within one set of limits. Immutable; threads may share it.

    Args:
        limits: The limits (sealwire.limits.Limits).
        max_size: The most bytes of a pickle.
        dumps: Returns the pickle of a value.
        dump_pieces: Returns the pickle in pieces, so that large bytes are not copied.
        worth: Large bytes from which on a pickle is made in pieces.
        shapes: The shapes of classes (sealwire.pickling.adapters.shapes), each with the memory of a value.
        examining: Returns a context that bounds the steps of checks (sealwire.pickling.type_checks).
        registered: The classes that have a pickling function of their own, which can change.
    """

    cdef object limits, dumps, dump_pieces, examining, registered
    cdef Writer idle
    cdef dict plans
    cdef Count max_size, max_opcodes, max_nodes, max_memory, max_string, max_bits, max_depth, max_probes, worth

    def __init__(self, limits, Count max_size, dumps, dump_pieces, Count worth, shapes, examining, registered):
        self.plans = {id(shape.cls): Plan(shape, memory) for shape, memory in shapes}
        self.limits = limits
        self.examining = examining
        self.registered = registered
        self.dumps = dumps
        self.dump_pieces = dump_pieces
        self.worth = worth
        self.max_size = max_size
        self.max_opcodes = limits.max_nodes
        self.max_nodes = limits.max_expanded_nodes
        self.max_memory = limits.max_memory
        self.max_string = limits.max_string
        self.max_bits = limits.max_integer_bits
        self.max_depth = limits.max_depth
        self.max_probes = limits.max_probes

    def encode(self, value):
        """Return the pickle of a value, or a list of its pieces, if the decoder would surely accept it.

        Returns None if that is in doubt.
        """
        cdef Walk walk
        data = self.write(value)
        if data is not None:
            return data
        walk = Walk.__new__(Walk)
        walk.survey = self
        try:
            # No other thread runs between the two, so that what was surveyed is what is pickled.
            if not walk.over(value):
                return None
            data = self.dumps(value, 5) if walk.large_bytes < self.worth else self.dump_pieces(value)
            size = len(data) if type(data) is bytes else sum(map(len, data))
        except Exception:
            return None  # the checked way reports it
        finally:
            if walk.examination is not None:
                walk.examination.__exit__(None, None, None)
        return data if walk.covers(size) else None

    cdef bytes write(self, object value):
        """Return the pickle of plain data, or None if in doubt."""
        # No other thread comes between the first two statements.
        cdef Writer writer = self.idle
        self.idle = None
        try:
            if writer is None:
                writer = Writer(self.limits, self.max_size)
            data = writer.write(value)
        except Exception:
            return None
        self.idle = writer
        return data


@cython.final
@cython.freelist(4)
cdef class Walk:
    """The walk over one value, and what was charged for it."""

    cdef Survey survey
    cdef object examination
    """Entered by the first check that is more than a lookup."""
    cdef bint are_copied
    """A call at this depth has arguments with parts."""
    cdef Plan last
    cdef set named
    """The ids of the classes that were met."""
    cdef list unopened
    """The containers that were met, in the order of their depths."""
    cdef Count depth
    """Of the containers that are being opened."""
    cdef Count nodes, opcodes, memory, key_cost, large_texts, large_bytes, longest_text, copies

    cdef bint over(self, object value) except -1:
        """Return True if the decoder would surely accept the value, apart from the size of its pickle."""
        cdef Py_ssize_t at = 0, stop
        cdef object item
        self.unopened = []
        if not (self.charge(1, 4) and self.see(value)):
            return False
        while self.depth < self.survey.max_depth:
            self.depth += 1
            stop = len(self.unopened)
            if at == stop:
                return True
            while at < stop:
                item = self.unopened[at]
                if not (self.open_dict(<dict>item) if PyDict_CheckExact(item) else self.open(item)):
                    return False
                at += 1
            self.copies += self.are_copied
            self.are_copied = False
        return at == len(self.unopened)

    cdef bint covers(self, Count size) except -1:
        """Return True if what was charged is surely within the limits, for a pickle of this size."""
        cdef Survey survey = self.survey
        # Each class is named once. Frames have 64 KiB, or end for what is as large.
        cdef Count opcodes = self.opcodes + (0 if self.named is None else 8 * len(self.named)) + (size >> 14)
        # Whatever is part of arguments is charged once for each call that it is in, and for one at most at each depth.
        cdef Count memory = self.memory + self.copies * COPIED_MEMORY * self.nodes + TEXT_MEMORY * size + OPCODE_MEMORY * opcodes
        memory += LONG_TEXT_COPIES * self.longest_text
        return size <= survey.max_size and opcodes <= survey.max_opcodes and memory <= survey.max_memory

    cdef inline bint charge(self, Count parts, Count opcodes) except -1:
        """Charge for parts, of two opcodes each, and for other opcodes."""
        self.nodes += parts
        self.opcodes += 2 * parts + opcodes
        return self.nodes <= self.survey.max_nodes

    # One part

    cdef inline bint see(self, object item) except -1:
        """Return True if a part is a good leaf, or is not a leaf and was kept to be opened."""
        if PyUnicode_CheckExact(item):
            return self.is_good_text(<str>item)
        if PyLong_CheckExact(item):
            return self.is_good_integer(item)
        if PyFloat_CheckExact(item) or item is None or item is True or item is False:
            return True
        return self.see_other(item)

    cdef bint see_other(self, object item) except -1:
        cdef object kind
        cdef Plan plan
        if PyDict_CheckExact(item):
            self.unopened.append(item)
            return True
        kind = type(item)
        if kind is list or kind is tuple or kind is set or kind is frozenset:
            if kind is not tuple or item:  # the empty tuple is a leaf
                self.unopened.append(item)
            return True
        if kind is bytes:
            return self.is_good_bytes(len(<bytes>item))
        if kind is bytearray:
            self.memory += TUPLE_MEMORY
            return self.is_good_bytes(len(<bytearray>item))
        plan = self.plan(kind)
        if plan is None:
            return False
        if plan.form == MEMBER:
            return self.see_member(item, plan)
        self.unopened.append(item)
        return True

    cdef Plan plan(self, object kind):
        """Return the plan of a class, or None."""
        if self.last is None or self.last.cls is not kind:
            self.last = self.survey.plans.get(id(kind))
            if self.last is not None:
                if kind in self.survey.registered:
                    self.last = None
                    return None
                if self.named is None:
                    self.named = set()
                self.named.add(id(kind))
        return self.last

    cdef inline bint is_good_text(self, str value) except -1:
        cdef Py_ssize_t size = len(value)
        if PyUnicode_IS_ASCII(value) and size < SHORT and self.survey.max_string >= SHORT:
            return True
        return self.is_good_size(size) and self.is_good_long_text(value)

    cdef bint is_good_long_text(self, str value) except -1:
        cdef Py_ssize_t size
        # Refuses lone surrogates. The pickler asks for the same, and the str keeps it.
        PyUnicode_AsUTF8AndSize(value, &size)
        if size >= LARGE:
            self.large_texts += size
        self.longest_text = max(self.longest_text, <Count>size)
        return self.is_good_size(size)

    cdef bint is_good_bytes(self, Py_ssize_t size) except -1:
        if size >= SHORT:
            self.memory -= (TEXT_MEMORY - 1) * size  # a byte of bytes takes one byte
        if size >= LARGE:
            self.large_bytes += size
        return self.is_good_size(size)

    cdef bint is_good_size(self, Py_ssize_t size) except -1:
        return size <= self.survey.max_string and self.large_texts + self.large_bytes <= self.survey.max_size

    cdef inline bint is_good_integer(self, object value) except -1:
        cdef int overflow = 0
        PyLong_AsLongLongAndOverflow(value, &overflow)
        return (overflow == 0 and self.survey.max_bits >= 64) or self.bits(value) <= self.survey.max_bits

    cdef Count bits(self, object value) except -1:
        return value.bit_length()

    # Containers

    cdef bint open(self, object item) except -1:
        """Charge for the parts of a container and see each of them."""
        cdef object kind
        if PyDict_CheckExact(item):
            return self.open_dict(<dict>item)
        kind = type(item)
        if kind is list:
            return self.open_list(<list>item)
        if kind is tuple:
            return self.open_tuple(<tuple>item)
        if kind is set or kind is frozenset:
            return self.open_set(item)
        return self.open_instance(item, self.plan(kind))

    cdef bint open_list(self, list items) except -1:
        cdef object item
        cdef Py_ssize_t count = len(items)
        self.memory += LIST_MEMORY
        if not self.charge(count, 2 + (count >> 8)):  # two opcodes for each batch of 1,000
            return False
        for item in items:
            if not self.see(item):
                return False
        return True

    cdef bint open_tuple(self, tuple items) except -1:
        cdef object item
        self.memory += TUPLE_MEMORY + TUPLE_ITEM_MEMORY * len(items)
        if not self.charge(len(items), 1):
            return False
        for item in items:
            if not self.see(item):
                return False
        return True

    cdef bint open_dict(self, dict items) except -1:
        cdef object key, item
        cdef bint are_texts = True
        cdef Py_ssize_t count = len(items)
        self.memory += DICT_MEMORY + DICT_ITEM_MEMORY * count
        if not self.charge(2 * count, 4 + (count >> 8)):
            return False
        for key, item in items.items():
            if not PyUnicode_CheckExact(key):
                are_texts = False
            elif not self.is_good_text(<str>key):
                return False
            if not self.see(item):
                return False
        return are_texts or self.are_good_keys(list(items), False)

    cdef bint open_set(self, object items) except -1:
        cdef Py_ssize_t count = len(items)
        self.memory += SET_MEMORY + SET_ITEM_MEMORY * count
        return self.charge(count, 2 + (count >> 8)) and self.are_good_keys(list(items), True)

    # Instances

    cdef bint open_instance(self, object item, Plan plan) except -1:
        """Charge for an instance and check its fields; its parts are opened after it, one level below."""
        cdef object parts = plan.parts(item), fields, part
        cdef Py_ssize_t index, count = len(plan.names)
        if parts is None:
            return False
        fields = parts[1] if plan.form == SLOTS else parts
        self.memory += plan.memory
        if not self.charge(1, 3):
            return False
        self.unopened.append(parts)
        if len(fields) != count:
            return False
        for index in range(count):
            part = fields[index] if plan.form >= LISTED else (<dict>fields)[plan.names[index]]
            if type(part) not in <frozenset>plan.exact_types[index]:
                self.check(plan.checks[index], part)
        return not plan.is_called or self.charge_arguments(list((<dict>fields).values()))

    cdef bint charge_arguments(self, list values) except -1:
        """Charge for the content of the arguments of a call, which a message can share between many calls."""
        for value in values:
            if type(value) is str:
                self.memory += 4 * TEXT_MEMORY * len(<str>value)
            elif type(value) is bytes or type(value) is bytearray:
                self.memory += TEXT_MEMORY * len(value)
            elif type(value) is int:
                self.memory += TEXT_MEMORY * (9 + self.bits(value))
            elif value is not None and type(value) is not float and type(value) is not bool:
                self.are_copied = True
        return True

    cdef bint see_member(self, object item, Plan plan) except -1:
        """Charge for a member of an enum: a call with a tuple of its value, two levels deep."""
        self.memory += plan.memory + TUPLE_MEMORY + TUPLE_ITEM_MEMORY
        return id(item) in plan.members and self.charge(2, 3) and self.depth + 2 <= self.survey.max_depth

    cdef int check(self, object check, object part) except -1:
        """Check a part with more than its type. Raises what the check raises."""
        if self.examination is None:
            examination = self.survey.examining()
            examination.__enter__()
            self.examination = examination
        check(part)
        return 0

    # Keys

    cdef bint are_good_keys(self, list keys, bint is_set) except -1:
        """Return True if the keys of a dict or set, not all of them str, are plain, not NaN, and hardly collide."""
        cdef object key, kind
        cdef bint are_keyed = True, are_dense = True, are_own_hashes = True, has_text = False, has_bytes = False
        cdef Count number, index = 0, longest = 0
        cdef int overflow = 0
        for key in keys:
            kind = type(key)
            if kind is int:
                number = PyLong_AsLongLongAndOverflow(key, &overflow)
                if (overflow or self.survey.max_bits < 64) and self.bits(key) > min(NARROW, self.survey.max_bits):
                    return False
                are_keyed = False
                are_dense = are_dense and not overflow and number == index
                are_own_hashes = are_own_hashes and not overflow and 0 <= number < PRIME
            elif kind is str or kind is bytes:
                if not self.see(key):
                    return False
                are_dense = False
                has_text = has_text or kind is str
                has_bytes = has_bytes or kind is bytes
                longest = max(longest, <Count>len(key))
            elif (kind is float and key == key) or kind is bool or key is None:
                are_keyed = are_dense = are_own_hashes = False
            else:
                return False
            index += 1
        if has_text and has_bytes:
            are_keyed = are_own_hashes = False  # a str and bytes of one content have one hash
        if are_keyed or are_dense:
            return True
        return self.are_hashes_apart(keys, is_set, are_own_hashes, 2 + (longest >> 4))

    cdef bint are_hashes_apart(self, list keys, bint is_set, bint are_distinct, Count weight) except -1:
        """Return True if keys surely take few probes, and few comparisons with others of the same hash."""
        cdef list hashes = list(map(hash, keys))
        cdef Count count = len(keys)
        if not are_distinct and len(set(hashes)) != count:
            # No more, if all of them were alike and as heavy as the heaviest.
            self.key_cost += weight * count * count
            if self.key_cost > self.survey.max_nodes:
                return False
        if count <= self.survey.max_probes * (8 if is_set else 1):
            return True
        return CollisionCounter(is_set, self.survey.max_probes).add(hashes)
