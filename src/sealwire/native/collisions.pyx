"""Counts the probes of CPython's dicts and sets: the twin of :class:`sealwire.pickling.hash_collisions.CollisionCounter`.

That module has the reasons, and the rules in Python.
"""

from sealwire.native.ints cimport Ints

cdef long long SET_FACTOR = 8
cdef Py_ssize_t LINEAR = 9  # LINEAR_PROBES of Objects/setobject.c
cdef long long AFTER_FIRST_SHIFT = (1 << 59) - 1
"""The bits of a hash that are left after the first ``perturb >>= 5``; the hash itself is unsigned there."""


cdef class CollisionCounter:
    """The slots of one dict or set as keys are inserted, and the probes that this takes."""

    def __init__(self, bint is_set, long long max_probes):
        self.is_set = is_set
        self.max_average = max_probes * (SET_FACTOR if is_set else 1)
        self.hashes = Ints()
        self.slots = bytearray(8)
        self.probes = 0

    def add(self, list hashes not None) -> bool:
        """Insert keys in this order. Returns False if they collide too often."""
        cdef Ints converted = Ints()
        for value in hashes:
            converted.push(value)
        return self.count(converted, 0)

    cdef bint count(self, Ints hashes, Py_ssize_t start) except -1:
        """Insert the hashes from ``start`` on. Returns False if they collide too often."""
        cdef long long bound = self.max_average * (self.hashes.count + hashes.count - start)
        cdef Py_ssize_t position = start
        cdef Py_ssize_t used, size, room, wanted, i
        while position < hashes.count:
            used = self.hashes.count
            size = self.slots.shape[0]
            if self.is_set:
                room = ((size - 1) * 3 + 4) // 5 - used
                wanted = used * (2 if used > 50_000 else 4) + 1
            else:
                room = size * 2 // 3 - used
                wanted = used * 3
            if room <= 0:
                while size < wanted:
                    size *= 2
                self.slots = bytearray(size)
                self.probes = 0
                if not self.insert(0, used, bound):
                    return False
                continue
            room = min(room, hashes.count - position)
            for i in range(position, position + room):
                self.hashes.push(hashes.get(i))
            if not self.insert(used, used + room, bound):
                return False
            position += room
        return True

    cdef bint insert(self, Py_ssize_t start, Py_ssize_t stop, long long bound) except -1:
        """Insert the hashes from ``start`` to ``stop``. Returns False if that takes more probes than ``bound``."""
        cdef unsigned char[::1] slots = self.slots
        cdef long long[::1] hashes = self.hashes.items
        cdef Py_ssize_t mask = slots.shape[0] - 1
        cdef long long probes = self.probes + (stop - start)
        cdef long long value, perturb
        cdef Py_ssize_t slot, i, step
        for i in range(start, stop):
            value = hashes[i]
            slot = value & mask
            if slots[slot]:
                perturb = (value >> 5) & AFTER_FIRST_SHIFT
                while slots[slot]:
                    if self.is_set and slot + LINEAR <= mask:
                        step = 1
                        while step <= LINEAR and slots[slot + step]:
                            step += 1
                        if step <= LINEAR:
                            probes += step
                            slot += step
                            break
                        probes += LINEAR
                    slot = (slot * 5 + perturb + 1) & mask
                    perturb >>= 5
                    probes += 1
                    if probes > bound:
                        return False
                if probes > bound:
                    return False
            slots[slot] = 1
        self.probes = probes
        return True
