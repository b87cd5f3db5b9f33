"""Measures values of plain types; values of other types are left to :func:`sealwire.aio.threads.is_large`."""

from cpython.bytes cimport PyBytes_CheckExact
from cpython.dict cimport PyDict_CheckExact
from cpython.float cimport PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact

cdef Py_ssize_t SMALL = 64
"""Bytes of an object apart from its characters, bytes or entries, about."""
cdef Py_ssize_t ENTRY = 8
"""Bytes of an item of a list or tuple."""
cdef Py_ssize_t PAIR = 100
"""Bytes of a key and its value in a dict."""
cdef int DEPTH = 50

cdef enum:
    LARGE = -1
    IN_DOUBT = -2
    FAILED = -3


def is_large(value, Py_ssize_t room):
    """Return True if a value and its parts have more than about ``room`` bytes in memory; None if that is in doubt."""
    cdef Py_ssize_t left = left_over(value, room, DEPTH)
    return None if left == IN_DOUBT else left == LARGE


cdef Py_ssize_t left_over(object value, Py_ssize_t room, int depth) except FAILED:
    """Return how much of ``room`` a value leaves over; LARGE, or IN_DOUBT if it has a part of another type."""
    cdef int overflow = 0
    cdef Py_ssize_t size = 0
    if PyUnicode_CheckExact(value):
        size = len(<str>value)
    elif PyLong_CheckExact(value):
        PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return IN_DOUBT
    elif PyBytes_CheckExact(value):
        size = len(<bytes>value)
    elif PyDict_CheckExact(value):
        return left_by_dict(<dict>value, room, depth - 1)
    elif PyList_CheckExact(value):
        return left_by_items(value, len(<list>value), room, depth - 1)
    elif PyTuple_CheckExact(value):
        return left_by_items(value, len(<tuple>value), room, depth - 1)
    elif not (value is None or value is True or value is False or PyFloat_CheckExact(value)):
        return IN_DOUBT
    return LARGE if size > room - SMALL else room - SMALL - size


cdef Py_ssize_t left_by_dict(dict value, Py_ssize_t room, int depth) except FAILED:
    if not depth:
        return IN_DOUBT
    if len(value) > room // PAIR:
        return LARGE
    room -= SMALL + PAIR * len(value)
    for key, item in value.items():
        room = left_over(key, room, depth)
        if room < 0:
            return room
        room = left_over(item, room, depth)
        if room < 0:
            return room
    return room if room >= 0 else LARGE


cdef Py_ssize_t left_by_items(object value, Py_ssize_t count, Py_ssize_t room, int depth) except FAILED:
    """Return what a list or tuple leaves over."""
    if not depth:
        return IN_DOUBT
    if count > room // ENTRY:
        return LARGE
    room -= SMALL + ENTRY * count
    for item in value:
        room = left_over(item, room, depth)
        if room < 0:
            return room
    return room if room >= 0 else LARGE
