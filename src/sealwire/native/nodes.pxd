from sealwire.native.ints cimport Ints
from sealwire.native.keys cimport KeyCosts, KeyTable
from sealwire.native.leaves cimport Leaves
from sealwire.native.texts cimport Texts


cdef class Nodes(Leaves):
    cdef Ints stack
    cdef Ints memo
    cdef long long memo_pushes
    cdef Ints mark_heights
    cdef Ints mark_counts
    cdef Ints kinds
    cdef Ints depths
    cdef Ints sizes
    cdef Ints details
    cdef Ints starts
    cdef Ints counts
    cdef Ints pool
    cdef long long memory
    cdef long long content_memory
    cdef long long longest_text
    cdef int found
    cdef KeyCosts key_costs
    cdef dict key_tables
    cdef dict texts
    cdef dict key_values
    cdef Texts scratch
    cdef Ints codes
    cdef Py_ssize_t last_start
    cdef long long last_count

    cdef int begin(self, bytes data, dict large_buffers) except -1
    cdef int forget(self) except -1
    cdef long long node(self, int kind, long long detail, long long memory) except? -1
    cdef bint accepts(self, Py_ssize_t node, long long permission) except -1
    cdef int remember(self, Py_ssize_t node, Ints source, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t step) except -1
    cdef int add_children(self, Py_ssize_t node, Ints source, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef long long make_tuple(self, Py_ssize_t start, bint has_nodes) except? -1
    cdef int add_elements(self, Py_ssize_t node, Py_ssize_t start, bint has_nodes) except -1
    cdef int add_keys(self, Py_ssize_t node, Py_ssize_t start, Py_ssize_t step, bint is_set) except -1
    cdef KeyTable new_table(self, Py_ssize_t node, bint is_set)
    cdef bint are_short(self, Py_ssize_t start, Py_ssize_t step) except -1
    cdef bint are_distinct(self, Py_ssize_t start, Py_ssize_t step) except -1
    cdef bint are_last(self, Py_ssize_t start, Py_ssize_t step) except -1
    cdef bint add_texts(self, Py_ssize_t node, Py_ssize_t start, Py_ssize_t step, bint is_set) except -1
    cdef int check_utf8(self, Py_ssize_t entry) except -1
    cdef list values_of(self, Ints source, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t step)
    cdef object key_value(self, long long entry)
    cdef object node_value(self, Py_ssize_t node)
    cdef object value_of_parts(self, Py_ssize_t node, int kind)
