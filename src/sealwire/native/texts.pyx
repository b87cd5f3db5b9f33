"""Tells short str apart, as the bytes that a message has for them.

A str is known by its entry, the offset of its SHORT_BINUNICODE. Its code is a polynomial in its bytes modulo a prime, at
a point that is chosen when the process starts. No peer knows the point, and for any two str the codes are equal at few
of all points, so that no peer can make many of one code.
"""

from secrets import randbits

from sealwire.native.ints cimport Ints, zeros

cdef enum:
    PRIME = 0x7FFFFFFF

cdef long long POINT = (1 << 28) + randbits(28)
cdef Py_ssize_t FEW = 64
cdef Py_ssize_t KEPT = 8192
cdef long long LAST_BASE = 1 << 61


cdef long long text_code(bytes data, Py_ssize_t entry) except -1:
    """Return the code of a short str, less than 2**31."""
    cdef Py_ssize_t length = data[entry + 1]
    cdef Py_ssize_t at = entry + 2
    cdef Py_ssize_t stop = at + length
    cdef long long code = length + 1
    # A multiple of the prime is taken off by adding what is above 31 bits; the code stays below 2**32.
    while at + 3 <= stop:
        code = code * POINT + (data[at] + data[at + 1] * 256 + data[at + 2] * 65536)
        code = (code & PRIME) + (code >> 31)
        at += 3
    while at < stop:
        code = code * POINT + data[at]
        code = (code & PRIME) + (code >> 31)
        at += 1
    while code >= PRIME:
        code -= PRIME
    return code


cdef bint same_text(bytes data, Py_ssize_t one, Py_ssize_t other) except -1:
    cdef Py_ssize_t length = data[one + 1]
    return length == data[other + 1] and data[one + 2 : one + 2 + length] == data[other + 2 : other + 2 + length]


cdef class Texts:
    """A set of short str: a table with open addressing, at most half full.

    A slot is free if its mark is less than ``base``, so that raising the base clears the table. Otherwise the mark is the
    base and the code, and the owner is the entry.
    """

    def __cinit__(self):
        self.entries = Ints()
        self.batches = Ints()
        self.marks = zeros(FEW)
        self.owners = zeros(FEW)
        self.base = 1 << 31

    cdef int clear(self) except -1:
        self.entries.clear()
        self.batches.clear()
        self.base += 1 << 31
        if self.marks.shape[0] > KEPT or self.base > LAST_BASE:
            self.marks = zeros(FEW)
            self.owners = zeros(FEW)
            self.base = 1 << 31
        return 0

    cdef bint add(self, bytes data, long long entry) except -1:
        """Add a short str. Returns False if an equal one is there."""
        cdef long long code = text_code(data, entry)
        cdef long long mark
        cdef Py_ssize_t mask, slot
        cdef Py_ssize_t step = 0
        if self.entries.count * 2 >= self.marks.shape[0]:
            self.grow()
        mask = self.marks.shape[0] - 1
        slot = code & mask
        while self.marks[slot] >= self.base:
            mark = self.marks[slot]
            if mark == self.base + code and same_text(data, self.owners[slot], entry):
                return False
            step += 1
            slot = (slot + step) & mask
        self.marks[slot] = self.base + code
        self.owners[slot] = entry
        self.entries.push(entry)
        return True

    cdef int place(self, long long code, long long entry) except -1:
        """Put an entry that is not there yet into a free slot."""
        cdef Py_ssize_t mask = self.marks.shape[0] - 1
        cdef Py_ssize_t slot = code & mask
        cdef Py_ssize_t step = 0
        while self.marks[slot] >= self.base:
            step += 1
            slot = (slot + step) & mask
        self.marks[slot] = self.base + code
        self.owners[slot] = entry
        return 0

    cdef int grow(self) except -1:
        cdef long long[::1] marks = self.marks
        cdef long long[::1] owners = self.owners
        cdef Py_ssize_t slot
        cdef long long[::1] larger = zeros(marks.shape[0] * 4)
        self.owners = zeros(marks.shape[0] * 4)
        self.marks = larger  # not before there is memory for both
        for slot in range(marks.shape[0]):
            if marks[slot] >= self.base:
                self.place(marks[slot] - self.base, owners[slot])
        return 0
