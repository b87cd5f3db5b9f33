from sealwire.native.ints cimport Ints


cdef class Rules:
    cdef dict numbers
    cdef dict old_numbers
    cdef dict members
    cdef dict rebuilt
    cdef Ints permissions
    cdef Ints memory
    cdef Ints memory_per_byte
    cdef long long max_nodes
    cdef long long max_depth
    cdef long long max_expanded_nodes
    cdef long long max_memory
    cdef long long max_integer_bits
    cdef long long max_string
    cdef long long max_probes


cdef class Leaves:
    cdef Rules rules
    cdef bytes data
    cdef Py_ssize_t size
    cdef dict large_buffers
    cdef Py_ssize_t checked_until

    cdef long long little(self, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef object leaf_value(self, Py_ssize_t entry)
    cdef long long leaf_length(self, Py_ssize_t entry) except -1
    cdef long long checked_length(self, Py_ssize_t at, Py_ssize_t start) except -1
    cdef int check_integer(self, Py_ssize_t start, long long length) except -1
    cdef int check_text(self, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef str name(self, long long entry)
    cdef Py_ssize_t find_line(self, Py_ssize_t start) except -1


cdef Py_ssize_t header(int opcode) except -1
cdef bint is_text(int opcode) except -1
cdef bint is_integer(int opcode) except -1
