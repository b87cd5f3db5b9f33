"""A list of C integers that grows, each index checked. What must be fast is in ``ints.pxd``.

No item of typed memory is changed by ``+=`` or the like: Cython checks overflows of variables and attributes alone.
"""

cimport cython
from cpython cimport array
import array

cdef Py_ssize_t FEW = 64
cdef array.array _EMPTY = array.array("q")


cdef long long[::1] zeros(Py_ssize_t count):
    """Return so many zeros."""
    return array.clone(_EMPTY, count, zero=True)


@cython.final
cdef class Ints:
    """Integers, of which there are ``count``; ``items`` has room for more."""

    def __cinit__(self):
        self.items = zeros(FEW)
        self.count = 0

    cdef int grow(self) except -1:
        """Make room for twice as many."""
        cdef long long[::1] larger = zeros(self.items.shape[0] * 2)
        larger[: self.count] = self.items[: self.count]
        self.items = larger
        return 0

    cdef int give_back(self) except -1:
        """Give back the room of many integers."""
        self.items = zeros(FEW)
        return 0
