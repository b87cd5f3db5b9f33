from sealwire.native.nodes cimport Nodes


cdef class Calls(Nodes):
    cdef dict deque_room
    cdef list hashed_pairs

    cdef int check_arguments_are_there(self) except -1
    cdef int push_global(self, str module, str name) except -1
    cdef long long permitted(self, long long entry, long long permission) except -1
    cdef int call(self) except -1
    cdef long long call_by_form(self, Py_ssize_t number, long long arguments) except? -1
    cdef long long call_with_values(self, Py_ssize_t number, Py_ssize_t arguments) except? -1
    cdef long long call_encode(self, Py_ssize_t number, Py_ssize_t arguments) except? -1
    cdef long long call_with_class(self, Py_ssize_t number, Py_ssize_t arguments) except? -1
    cdef long long result(self, Py_ssize_t number) except? -1
    cdef int note_integers(self, Py_ssize_t number, Py_ssize_t result, long long first, long long second) except -1
    cdef int charge_arguments(self, Py_ssize_t number, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef long long new(self) except? -1
    cdef int build(self) except -1
    cdef int check_root(self) except -1
