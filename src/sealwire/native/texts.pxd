from sealwire.native.ints cimport Ints


cdef long long text_code(bytes data, Py_ssize_t entry) except -1


cdef class Texts:
    cdef Ints entries
    cdef Ints batches
    cdef long long[::1] marks
    cdef long long[::1] owners
    cdef long long base

    cdef int clear(self) except -1
    cdef bint add(self, bytes data, long long entry) except -1
    cdef int place(self, long long code, long long entry) except -1
    cdef int grow(self) except -1
