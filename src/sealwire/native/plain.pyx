# cython: nonecheck=True
"""Writes plain data as CPython's pickler does, in the same pass that surveys it.

The bytes are those of ``pickle.dumps(value, 5)``, and what is charged for them is what the survey would charge
(:mod:`.survey`, which has the reasons). A value of other types, a container in two places, a str or bytes that are
written outside of a frame: all that is in doubt, and left to the survey and to the pickler.

The value is walked from the outside to the inside, so that a part is deeper than DEPTH only in doubt. No code of a
value runs, and no other thread.
"""

cimport cython
from cpython.bytes cimport PyBytes_CheckExact
from cpython.dict cimport PyDict_CheckExact, PyDict_Next
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact

from sealwire.native.constants cimport *
from sealwire.native.ints cimport zeros

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object)
    int PyFloat_Pack8(double, char *, int) except -1
    bint PyGC_Disable()
    bint PyGC_Enable()

cdef enum:
    DEPTH = 50
    BATCH = 1000  # items for one opcode
    SHORT = 256  # as in the survey
    FRAME_TARGET = 65_536
    ROOM = 192  # for a leaf of a fixed size, and the opcodes that close DEPTH containers
    FIRST = 4096  # bytes of room
    KEPT = 131_072  # bytes of room, and objects, that are kept for the next value
    FEW = 256

cdef long long LAST_BASE = 1 << 61


@cython.final
cdef class Writer:
    """Writes one value, and then others.

    Args:
        limits: The limits (sealwire.limits.Limits).
        max_size: The most bytes of a pickle.
    """

    def __init__(self, limits, long long max_size):
        self.max_size = max_size
        self.max_opcodes = limits.max_nodes
        self.max_nodes = limits.max_expanded_nodes
        self.max_memory = limits.max_memory
        self.max_string = limits.max_string
        self.max_depth = min(limits.max_depth, DEPTH)
        self.is_usable = limits.max_integer_bits >= 64 and self.max_string >= SHORT
        self.reserve(bytearray(FIRST))
        self.forget(FEW)

    cdef int forget(self, Py_ssize_t size) except -1:
        """Forget all objects, with a new table for so many."""
        self.owners = zeros(size)
        self.numbers = zeros(size)
        self.base = 1
        return 0

    cdef int reserve(self, buffer) except -1:
        self.view = memoryview(buffer)
        self.out = buffer
        return 0

    cdef bytes write(self, value):
        """Return the pickle of a value that the decoder would surely accept, or None if that is in doubt."""
        cdef bytes data = None
        cdef bint was_collecting
        if not self.is_usable or not (PyDict_CheckExact(value) or PyList_CheckExact(value) or PyTuple_CheckExact(value)):
            return None
        # Or a finalizer might run and change the value: what is met again is known by its address.
        was_collecting = PyGC_Disable()
        try:
            data = self.written(value)
        finally:
            if was_collecting:
                PyGC_Enable()
        self.base += self.memoized
        if self.out.shape[0] > KEPT:
            self.reserve(bytearray(FIRST))
        if self.owners.shape[0] > KEPT or self.base > LAST_BASE:
            self.forget(FEW)
        return data

    cdef bytes written(self, object value):
        """Write a value, charge for it, and return the pickle, or None if in doubt."""
        cdef bytes data = None
        self.at = 0
        self.memoized = 0
        self.longest_text = self.memory = self.nodes = 0
        self.opcodes = 4
        self.put(PROTO)
        self.put(5)
        self.open_frame()
        if self.charge(1, 0) and self.save(value, 0):
            self.put(STOP)
            if self.at - self.frame > 12:  # a shorter one has no frame
                self.close_frame()
                if self.is_within_limits():
                    data = self.view[: self.at].tobytes()
        return data

    cdef bint is_within_limits(self) except -1:
        cdef long long opcodes = self.opcodes + (self.at >> 14)
        cdef long long memory = self.memory + TEXT_MEMORY * self.at + OPCODE_MEMORY * opcodes
        memory += LONG_TEXT_COPIES * self.longest_text
        return self.at <= self.max_size and opcodes <= self.max_opcodes and memory <= self.max_memory

    cdef bint charge(self, long long parts, long long opcodes) except -1:
        """Charge for parts, of two opcodes each, and for other opcodes."""
        self.nodes += parts
        self.opcodes += 2 * parts + opcodes
        return self.nodes <= self.max_nodes

    # Bytes

    cdef int put_little(self, long long number, int size) except -1:
        cdef Py_ssize_t at
        for at in range(self.at, self.at + size):
            self.out[at] = number & 0xFF
            number >>= 8
        self.at += size
        return 0

    cdef int grow(self, Py_ssize_t size) except -1:
        """Make room for so many further bytes."""
        larger = bytearray(2 * self.out.shape[0] + size)
        larger[: self.at] = self.view[: self.at]
        self.reserve(larger)
        return 0

    cdef int open_frame(self) except -1:
        self.frame = self.at
        self.put(FRAME)
        self.at += 8
        return 0

    cdef int close_frame(self) except -1:
        cdef Py_ssize_t end = self.at
        self.at = self.frame + 1
        self.put_little(end - self.at - 8, 8)
        self.at = end
        return 0

    # The memo

    cdef long long remember(self, PyObject *item) except -2:
        """Return the number of an object in the memo; -1 if it was not there, and now is as the next one."""
        cdef long long address = <long long><Py_ssize_t>item
        cdef Py_ssize_t mask, slot, step = 0
        if self.memoized * 2 >= self.owners.shape[0]:
            self.grow_memo()
        mask = self.owners.shape[0] - 1
        slot = (address >> 4 ^ address >> 10) & mask
        while self.numbers[slot] >= self.base:
            if self.owners[slot] == address:
                return self.numbers[slot] - self.base
            step += 1
            slot = (slot + step) & mask
        self.owners[slot] = address
        self.numbers[slot] = self.base + self.memoized
        self.memoized += 1
        return -1

    cdef int grow_memo(self) except -1:
        cdef long long[::1] owners = self.owners
        cdef long long[::1] numbers = self.numbers
        cdef Py_ssize_t i, slot, step, mask = owners.shape[0] * 4 - 1
        cdef long long[::1] larger = zeros(mask + 1)
        self.owners = zeros(mask + 1)
        self.numbers = larger  # not before there is memory for both
        for i in range(owners.shape[0]):
            if numbers[i] >= self.base:
                slot, step = (owners[i] >> 4 ^ owners[i] >> 10) & mask, 0
                while larger[slot] >= self.base:
                    step += 1
                    slot = (slot + step) & mask
                self.owners[slot] = owners[i]
                larger[slot] = numbers[i]
        return 0

    # Parts

    cdef bint save(self, object item, int depth) except -1:
        """Write a part; return False if in doubt."""
        if self.at + ROOM > self.out.shape[0]:
            self.grow(ROOM)
        if self.at - self.frame - 9 >= FRAME_TARGET:
            self.close_frame()
            self.open_frame()
        if PyUnicode_CheckExact(item):
            return self.save_text(<str>item)
        if PyLong_CheckExact(item):
            return self.save_integer(item)
        if PyFloat_CheckExact(item):
            return self.save_float(item)
        if item is None or item is True or item is False:
            self.put(NONE if item is None else NEWTRUE if item is True else NEWFALSE)
            return True
        if PyDict_CheckExact(item):
            return depth < self.max_depth and self.save_dict(<dict>item, depth + 1)
        if PyList_CheckExact(item):
            return depth < self.max_depth and self.save_list(<list>item, depth + 1)
        if PyTuple_CheckExact(item):
            return depth < self.max_depth and self.save_tuple(<tuple>item, depth + 1)
        return PyBytes_CheckExact(item) and self.save_bytes(<bytes>item)

    cdef bint save_again(self, long long number) except -1:
        if number < 256:
            self.put(BINGET)
            self.put(number)
        else:
            self.put(LONG_BINGET)
            self.put_little(number, 4)
        return True

    cdef bint save_text(self, str item) except -1:
        cdef Py_UCS4 character
        cdef Py_ssize_t at, size = len(item)
        cdef long long number = self.remember(<PyObject *>item)
        if number >= 0:
            return self.save_again(number)
        if size >= SHORT or not PyUnicode_IS_ASCII(item):
            return self.save_long_text(item.encode())  # in doubt about lone surrogates
        if self.at + size + ROOM > self.out.shape[0]:
            self.grow(size + ROOM)
        self.put(SHORT_BINUNICODE)
        self.put(size)
        at = self.at
        for character in item:
            self.out[at] = character
            at += 1
        self.at = at
        self.put(MEMOIZE)
        return True

    cdef bint save_long_text(self, bytes content) except -1:
        cdef Py_ssize_t size = len(content)
        self.longest_text = max(self.longest_text, size)
        if size < 256:
            self.put(SHORT_BINUNICODE)
            self.put(size)
        else:
            self.put(BINUNICODE)
            self.put_little(size, 4)
        return self.put_content(content)

    cdef bint save_bytes(self, bytes item) except -1:
        cdef Py_ssize_t size = len(item)
        cdef long long number = self.remember(<PyObject *>item)
        if number >= 0:
            return self.save_again(number)
        if size < SHORT:
            self.put(SHORT_BINBYTES)
            self.put(size)
        else:
            self.memory -= (TEXT_MEMORY - 1) * size  # a byte of bytes takes one byte
            self.put(BINBYTES)
            self.put_little(size, 4)
        return self.put_content(item)

    cdef bint put_content(self, bytes content) except -1:
        """Write the content of a str or bytes; return False if it is too long, or comes outside of a frame."""
        cdef Py_ssize_t size = len(content)
        cdef const unsigned char[::1] source
        if size >= FRAME_TARGET or size > self.max_string:
            return False
        if self.at + size + ROOM > self.out.shape[0]:
            self.grow(size + ROOM)
        if size:
            source = content
            self.out[self.at : self.at + size] = source
        self.at += size
        self.put(MEMOIZE)
        return True

    cdef bint save_integer(self, object item) except -1:
        cdef int overflow = 0, size = 5
        cdef long long number = PyLong_AsLongLongAndOverflow(item, &overflow)
        if overflow:
            return False
        if 0 <= number < 1 << 8:
            self.put(BININT1)
            self.put(number)
        elif 0 <= number < 1 << 16:
            self.put(BININT2)
            self.put(number & 0xFF)
            self.put(number >> 8)
        elif -(1 << 31) <= number < 1LL << 31:
            self.put(BININT)
            self.put_little(number, 4)
        else:
            while size < 8 and not -1 <= number >> (8 * size - 1) <= 0:
                size += 1
            self.put(LONG1)
            self.put(size)
            self.put_little(number, size)
        return True

    cdef bint save_float(self, object item) except -1:
        cdef char[8] content
        cdef Py_ssize_t i, at = self.at + 1
        PyFloat_Pack8(PyFloat_AS_DOUBLE(item), content, 0)
        self.put(BINFLOAT)
        for i in range(8):
            self.out[at + i] = <unsigned char>content[i]
        self.at = at + 8
        return True

    # Containers

    cdef bint save_list(self, list items, int depth) except -1:
        cdef Py_ssize_t i, count = len(items)
        self.memory += LIST_MEMORY
        if not self.charge(count, 2 + (count >> 8)) or self.remember(<PyObject *>items) >= 0:
            return False
        self.put(EMPTY_LIST)
        self.put(MEMOIZE)
        if count > 1:
            self.put(MARK)
        for i in range(count):
            if not self.save(items[i], depth):
                return False
            if i % BATCH == BATCH - 1 and i + 1 < count:
                self.put(APPENDS)
                self.put(MARK)
        if count:
            self.put(APPEND if count == 1 else APPENDS)
        return True

    cdef bint save_dict(self, dict items, int depth) except -1:
        cdef PyObject *key
        cdef PyObject *item
        cdef Py_ssize_t at = 0, i = 0, count = len(items)
        self.memory += DICT_MEMORY + 2 * DICT_ITEM_MEMORY * count
        if not self.charge(2 * count, 4 + (count >> 8)) or self.remember(<PyObject *>items) >= 0:
            return False
        self.put(EMPTY_DICT)
        self.put(MEMOIZE)
        if count > 1:
            self.put(MARK)
        while PyDict_Next(items, &at, &key, &item):
            if not (PyUnicode_CheckExact(<object>key) and self.save(<object>key, depth) and self.save(<object>item, depth)):
                return False
            i += 1
            if i % BATCH == 0:
                self.put(SETITEMS)
                self.put(MARK)
        if count:
            self.put(SETITEM if count == 1 else SETITEMS)
        return True

    cdef bint save_tuple(self, tuple items, int depth) except -1:
        cdef Py_ssize_t i, count = len(items)
        if not count:
            self.put(EMPTY_TUPLE)
            return True
        self.memory += TUPLE_MEMORY + 16 * count
        if not self.charge(count, 1):
            return False
        if count > 3:
            self.put(MARK)
        for i in range(count):
            if not self.save(items[i], depth):
                return False
        if self.remember(<PyObject *>items) >= 0:
            return False
        self.put(TUPLE if count > 3 else TUPLE1 + count - 1)
        self.put(MEMOIZE)
        return True
