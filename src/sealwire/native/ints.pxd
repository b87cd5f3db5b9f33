# A list of C integers that grows, each index checked; and turns for other threads.

cimport cython

cdef enum:
    KEPT = 4096  # integers that a list that is cleared keeps room for
    BREATH = 1024  # steps of a loop, some 0.02 to 0.3 ms


cdef inline int breathe(long long steps) except -1:
    """Let another thread take the interpreter's lock, after each BREATH steps of a loop that may be long."""
    if steps & (BREATH - 1) == BREATH - 1:
        with nogil:
            pass
    return 0



cdef long long[::1] zeros(Py_ssize_t count)


@cython.final
cdef class Ints:
    cdef long long[::1] items
    cdef Py_ssize_t count

    cdef int grow(self) except -1
    cdef int give_back(self) except -1

    cdef inline int push(self, long long value) except -1:
        """Append one integer."""
        if self.count >= self.items.shape[0]:
            self.grow()
        self.items[self.count] = value
        self.count += 1
        return 0

    cdef inline int clear(self) except -1:
        """Remove all integers."""
        self.count = 0
        if self.items.shape[0] > KEPT:
            self.give_back()
        return 0

    cdef inline long long get(self, Py_ssize_t index) except? -1:
        """Return one integer. Raises IndexError beyond those that were pushed."""
        if not 0 <= index < self.count:
            raise IndexError
        return self.items[index]

    cdef inline long long last(self) except? -1:
        """Return the last integer. Raises IndexError if there is none."""
        return self.items[self.count - 1]

    cdef inline long long pop(self) except? -1:
        """Remove and return the last integer. Raises IndexError if there is none."""
        cdef long long value = self.items[self.count - 1]
        self.count -= 1
        return value
