from sealwire.native.ints cimport Ints


cdef class CollisionCounter:
    cdef bint is_set
    cdef long long max_average
    cdef Ints hashes
    cdef unsigned char[::1] slots
    cdef long long probes

    cdef bint insert(self, Py_ssize_t start, Py_ssize_t stop, long long bound) except -1
    cdef bint count(self, Ints hashes, Py_ssize_t start) except -1
