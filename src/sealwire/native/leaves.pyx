"""Leaves of a message: the twin of :mod:`sealwire.pickling.leaves`, which has the reasons."""

from struct import unpack_from

from sealwire.native.constants cimport *
from sealwire.native.ints cimport Ints
from sealwire.native.keys import InDoubt

cdef Py_ssize_t SURROGATE_SCAN = 4096


cdef Ints integers(object values):
    cdef Ints made = Ints()
    for value in values:
        made.push(value)
    return made


cdef class Rules:
    """The table of globals and the limits of one codec.

    Args:
        rules: The VettingRules of the reference.
    """

    def __init__(self, rules):
        self.numbers = rules.numbers
        self.old_numbers = rules.old_numbers
        self.members = rules.members
        self.rebuilt = rules.rebuilt
        self.permissions = integers(rules.permissions)
        self.memory = integers(rules.memory)
        self.memory_per_byte = integers(rules.memory_per_byte)
        self.max_nodes = rules.max_nodes
        self.max_depth = rules.max_depth
        self.max_expanded_nodes = rules.max_expanded_nodes
        self.max_memory = rules.max_memory
        self.max_integer_bits = rules.max_integer_bits
        self.max_string = rules.max_string
        self.max_probes = rules.max_probes


cdef Py_ssize_t header(int opcode) except -1:
    """Return the size of an opcode of variable length and its length field; 0 for other opcodes."""
    if opcode == SHORT_BINUNICODE or opcode == SHORT_BINBYTES or opcode == LONG1:
        return 2
    if opcode == BINUNICODE or opcode == BINBYTES or opcode == LONG4:
        return 5
    if opcode == BINUNICODE8 or opcode == BINBYTES8 or opcode == BYTEARRAY8:
        return 9
    return 0


cdef bint is_text(int opcode) except -1:
    return opcode == SHORT_BINUNICODE or opcode == BINUNICODE or opcode == BINUNICODE8


cdef bint is_integer(int opcode) except -1:
    return opcode == BININT1 or opcode == BININT2 or opcode == BININT or opcode == LONG1 or opcode == LONG4


cdef class Leaves:
    """Reads and checks the leaves of one message."""

    cdef long long little(self, Py_ssize_t start, Py_ssize_t stop) except -1:
        """Return an unsigned little-endian integer. Raises OverflowError from 2**63 on, which nothing may be."""
        cdef long long value = 0
        cdef Py_ssize_t at = stop
        while at > start:
            at -= 1
            value = value * 256 + self.data[at]
        return value

    cdef object leaf_value(self, Py_ssize_t entry):
        """Return the value of a leaf; for a bytearray, bytes. In doubt about NaN, which cannot be a key."""
        cdef bytes data = self.data
        cdef int opcode = data[entry]
        cdef Py_ssize_t start
        cdef long long small
        if opcode == BININT1:
            return data[entry + 1]
        if opcode == BININT2:
            return data[entry + 1] + data[entry + 2] * 256
        if opcode == BININT:
            small = self.little(entry + 1, entry + 5)
            return small - (small >> 31 << 32)
        if opcode == BINFLOAT:
            number = unpack_from(">d", data, entry + 1)[0]
            if number != number:
                raise InDoubt
            return number
        if opcode == NONE:
            return None
        if opcode == NEWTRUE:
            return True
        if opcode == NEWFALSE:
            return False
        if opcode == EMPTY_TUPLE:
            return ()
        if entry in self.large_buffers:
            return bytes(self.large_buffers[entry])
        start = entry + header(opcode)
        content = data[start : start + self.little(entry + 1, start)]
        if opcode == LONG1 or opcode == LONG4:
            return int.from_bytes(content, "little", signed=True)
        return content.decode() if is_text(opcode) else content

    cdef long long leaf_length(self, Py_ssize_t entry) except -1:
        """Return the length of a leaf's content in bytes; 0 for leaves of a fixed size."""
        cdef Py_ssize_t size = header(self.data[entry])
        if not size:
            return 0
        if self.large_buffers and entry in self.large_buffers:
            return len(self.large_buffers[entry])
        return self.little(entry + 1, entry + size)

    cdef long long checked_length(self, Py_ssize_t at, Py_ssize_t start) except -1:
        """Return the length of the str or bytes at ``at``, if it is acceptable; its content begins at ``start``."""
        cdef long long length = self.little(at + 1, start)
        if length > self.rules.max_string or length > self.size - start:
            raise InDoubt
        return length

    cdef int check_integer(self, Py_ssize_t start, long long length) except -1:
        """Check an integer against max_integer_bits; its bytes are read only if their number leaves a doubt."""
        cdef long long max_bits = self.rules.max_integer_bits
        if length * 8 <= max_bits:
            return 0
        if length * 8 > max_bits + 8:
            raise InDoubt
        if int.from_bytes(self.data[start : start + length], "little", signed=True).bit_length() > max_bits:
            raise InDoubt
        return 0

    cdef int check_text(self, Py_ssize_t start, Py_ssize_t stop) except -1:
        """Check a str for lone surrogates, and note how far the text is known to be good."""
        cdef Py_ssize_t horizon = max(stop, start + SURROGATE_SCAN)
        cdef Py_ssize_t found = self.data.find(b"\xed", start, horizon)
        if 0 <= found < stop:
            self.data[start:stop].decode()
            horizon = stop
        elif found >= 0:
            horizon = found
        self.checked_until = horizon
        return 0

    cdef str name(self, long long entry):
        """Return the text of a str leaf that names a module, a class or an encoding."""
        cdef Py_ssize_t start
        if entry < 0 or not is_text(self.data[entry]):
            raise InDoubt
        start = entry + header(self.data[entry])
        return self.data[start : start + self.little(entry + 1, start)].decode()

    cdef Py_ssize_t find_line(self, Py_ssize_t start) except -1:
        """Return the offset of the newline that ends a name in GLOBAL."""
        cdef Py_ssize_t found = self.data.find(b"\n", start, start + MAX_NAME)
        if found < 0:
            raise InDoubt
        return found
