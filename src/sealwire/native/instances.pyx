# cython: nonecheck=True
"""Makes instances out of what was built in their places: the twin of :mod:`sealwire.pickling.resolve` and of
:mod:`sealwire.pickling.adapters.record`, which have the reasons.

Whatever goes wrong here leaves the message to the reference, which builds it once more and reports the path: a value of
another type, a constructor that fails or that keeps other values.
"""

cimport cython
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object)

from collections import Counter, OrderedDict, defaultdict, deque
from functools import partial

cdef frozenset LEAVES = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
cdef frozenset MAPPINGS = frozenset((OrderedDict, defaultdict, Counter))
cdef object DEQUE = deque
cdef object CALL = partial

# The forms of state that stand for the fields of an instance.
cdef enum:
    IN_DICT = 1
    IN_SLOTS = 2
    IN_ORDER = 4


cdef inline bint is_leaf(object item):
    """Return True for a value that contains no others."""
    return (
        PyUnicode_CheckExact(item) or PyLong_CheckExact(item) or PyFloat_CheckExact(item) or item is None
        or item is True or item is False or type(item) in LEAVES
    )


class InDoubt(Exception):
    """The reference must decide."""


@cython.final
cdef class Fields:
    """Makes the instances of one class out of the values of all its fields. Immutable; threads may share it.

    Args:
        checks: The check of each field (sealwire.pickling.type_checks.Check), by name.
        construct: Makes an instance of the values, in this order.
        same: Tells if two values are the same.
    """

    cdef tuple names, exact_types, checks
    cdef object construct, same
    cdef Py_ssize_t count

    def __init__(self, checks, construct, same):
        self.names = tuple(checks)
        self.exact_types = tuple([check.exact_types for check in checks.values()])
        self.checks = tuple([check.check_value for check in checks.values()])
        self.construct = construct
        self.same = same
        self.count = len(self.names)

    cdef object make(self, tuple values):
        """Return the instance of these values. Raises anything."""
        cdef Py_ssize_t index
        cdef object value, kept
        for index in range(self.count):
            value = values[index]
            if type(value) not in <frozenset>self.exact_types[index]:
                self.checks[index](value)
        made = self.construct(*values)
        for index in range(self.count):
            value = values[index]
            kept = getattr(made, self.names[index])
            if kept is not value and not self.same(value, kept):
                raise InDoubt
        return made


@cython.final
cdef class Resolver:
    """Resolves messages that have no objects among their keys. Immutable; threads may share it.

    Args:
        placeholders: For each class of placeholders its loader, its Fields or None, and the forms of its state.
        calls: The functions whose arguments are the fields of an instance, each with its Fields.
        max_depth: As in Limits.
    """

    cdef dict placeholders, calls
    cdef Py_ssize_t max_depth

    def __init__(self, placeholders, calls, Py_ssize_t max_depth):
        self.placeholders = placeholders
        self.calls = {id(function): fields for function, fields in calls}
        self.max_depth = max_depth

    def resolve(self, value):
        """Return the real value, with containers changed in place. Raises anything if that is in doubt."""
        cdef Resolving resolving = Resolving.__new__(Resolving)
        resolving.placeholders = self.placeholders
        resolving.calls = self.calls
        resolving.room = self.max_depth + 1
        resolving.done = {}
        return value if is_leaf(value) else resolving.resolve(value)


@cython.final
cdef class Resolving:
    """The resolution of one message."""

    cdef dict placeholders, calls, done
    cdef Py_ssize_t room
    """Levels of nesting that remain."""

    cdef object resolve(self, object value):
        """Return what a part that is not a leaf becomes; of a part that is shared, each time the same."""
        cdef tuple known
        # One reference is the container's, and one the caller's. What has no other is met only once; what has is kept,
        # so that it never has fewer, and no other object gets its id.
        if Py_REFCNT(value) <= 2:
            return self.make(value)
        if id(value) not in self.done:
            self.done[id(value)] = value, self.make(value)
        known = self.done[id(value)]
        return known[1]

    cdef object make(self, object value):
        cdef object kind = type(value), made
        if self.room == 0:
            raise InDoubt
        self.room -= 1
        if kind is list:
            made = self.fill_list(<list>value)
        elif kind is dict:
            made = self.fill_dict(<dict>value)
        elif kind is tuple:
            made = self.make_tuple(<tuple>value)
        elif kind in self.placeholders:
            made = self.make_instance(<list>value, <tuple>self.placeholders[kind])
        elif kind is CALL:
            made = self.make_call(value.func, self.make_tuple(value.args))
        elif kind in MAPPINGS:
            for key, item in list(value.items()):
                if not is_leaf(item):
                    value[key] = self.resolve(item)
            made = value
        elif kind is DEQUE:
            items = self.fill_list(list(value))
            value.clear()
            value.extend(items)
            made = value
        else:
            made = value
        self.room += 1
        return made

    cdef list fill_list(self, list value):
        cdef Py_ssize_t index
        cdef object item
        for index in range(len(value)):
            item = value[index]
            if not is_leaf(item):
                value[index] = self.resolve(item)
        return value

    cdef dict fill_dict(self, dict value):
        cdef object key, item
        for key, item in value.items():
            if not is_leaf(item):
                value[key] = self.resolve(item)
        return value

    cdef tuple make_tuple(self, tuple value):
        cdef object item
        return tuple([item if is_leaf(item) else self.resolve(item) for item in value])

    cdef object make_call(self, object function, tuple arguments):
        cdef Fields fields = self.calls.get(id(function))
        if fields is None or len(arguments) != fields.count:
            return function(*arguments)
        return fields.make(arguments)

    cdef object make_instance(self, list placeholder, tuple plan):
        cdef object load = plan[0], state, part
        cdef Fields fields = plan[1]
        cdef int forms = plan[2]
        cdef bint is_alone
        if fields is None or len(placeholder) != 1:
            return load(*self.make_tuple(tuple(placeholder)))
        # State that is shared must be resolved in its place, for all that share it.
        state = placeholder[0]
        is_alone = Py_REFCNT(state) <= 2
        if forms & IN_SLOTS and type(state) is tuple and len(<tuple>state) == 2 and (<tuple>state)[0] is None:
            part = (<tuple>state)[1]
            is_alone = is_alone and Py_REFCNT(part) <= 2
        else:
            part = state
        if not is_alone or len(part) != fields.count:
            return load(*self.make_tuple(tuple(placeholder)))
        if type(part) is dict and forms & (IN_DICT | IN_SLOTS):
            values = [(<dict>part)[name] for name in fields.names]
        elif (type(part) is tuple or type(part) is list) and forms & IN_ORDER:
            values = list(part)
        else:
            return load(*self.make_tuple(tuple(placeholder)))
        return fields.make(tuple(self.fill_list(values)))
