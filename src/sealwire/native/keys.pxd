from sealwire.native.collisions cimport CollisionCounter
from sealwire.native.ints cimport Ints


cdef class KeyCosts:
    cdef long long remaining
    cdef dict weights
    cdef dict hashing

    cdef int reset(self, long long max_expanded_nodes) except -1
    cdef int charge(self, long long cost) except -1
    cdef int charge_hashing(self, list keys) except -1
    cdef long long hashing_cost(self, object key) except -1
    cdef int find_hashing_cost(self, tuple key) except -1
    cdef long long weight(self, object key) except -1
    cdef int find_weight(self, object key) except -1


cdef class KeyTable:
    cdef bint is_set
    cdef long long max_probes
    cdef long long uncounted
    cdef list keys
    cdef list key_hashes
    cdef set distinct
    cdef bint are_dense
    cdef bint are_keyed
    cdef CollisionCounter counter
    cdef CollisionCounter counter_of_hashes
    cdef dict groups
    cdef dict weights
    cdef readonly long long alike_cost

    cdef int put(self, list keys, KeyCosts costs) except -1
    cdef int count(self, CollisionCounter counter, list hashes) except -1
    cdef int put_alike(self, object value, object key, KeyCosts costs) except -1


cdef int check_pairs(list pairs, KeyCosts costs, long long max_probes) except -1
