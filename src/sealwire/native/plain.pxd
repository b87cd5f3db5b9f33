from cpython.object cimport PyObject


cdef class Writer:
    cdef long long max_size, max_opcodes, max_nodes, max_memory, max_string
    cdef int max_depth
    cdef bint is_usable
    cdef object view
    cdef unsigned char[::1] out
    cdef Py_ssize_t at, frame
    cdef long long[::1] owners
    cdef long long[::1] numbers
    cdef long long base
    cdef Py_ssize_t memoized
    cdef long long nodes, opcodes, memory, longest_text

    cdef inline int put(self, int byte) except -1:
        self.out[self.at] = byte
        self.at += 1
        return 0

    cdef int forget(self, Py_ssize_t size) except -1
    cdef int reserve(self, buffer) except -1
    cdef bytes write(self, value)
    cdef bytes written(self, object value)
    cdef bint is_within_limits(self) except -1
    cdef bint charge(self, long long parts, long long opcodes) except -1
    cdef int put_little(self, long long number, int size) except -1
    cdef int grow(self, Py_ssize_t size) except -1
    cdef int open_frame(self) except -1
    cdef int close_frame(self) except -1
    cdef long long remember(self, PyObject *item) except -2
    cdef int grow_memo(self) except -1
    cdef bint save(self, object item, int depth) except -1
    cdef bint save_again(self, long long number) except -1
    cdef bint save_text(self, str item) except -1
    cdef bint save_long_text(self, bytes content) except -1
    cdef bint save_bytes(self, bytes item) except -1
    cdef bint put_content(self, bytes content) except -1
    cdef bint save_integer(self, object item) except -1
    cdef bint save_float(self, object item) except -1
    cdef bint save_list(self, list items, int depth) except -1
    cdef bint save_dict(self, dict items, int depth) except -1
    cdef bint save_tuple(self, tuple items, int depth) except -1
