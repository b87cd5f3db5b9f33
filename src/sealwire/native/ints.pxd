# A list of C integers that grows, each index checked.

cimport cython


cdef long long[::1] zeros(Py_ssize_t count)


@cython.final
cdef class Ints:
    cdef long long[::1] items
    cdef Py_ssize_t count

    cdef int grow(self) except -1
    cdef int clear(self) except -1

    cdef inline int push(self, long long value) except -1:
        """Append one integer."""
        if self.count >= self.items.shape[0]:
            self.grow()
        self.items[self.count] = value
        self.count += 1
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
