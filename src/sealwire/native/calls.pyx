"""Calls, new instances and their state: the twin of :mod:`sealwire.pickling.calls`, which has the reasons."""

from sealwire.native.constants cimport *
from sealwire.native.keys cimport KeyTable, check_pairs
from sealwire.native.leaves cimport is_integer
from sealwire.native.nodes cimport Nodes
from sealwire.native.keys import InDoubt

cdef enum:
    ANY_CALL = CALL | CALL_EMPTY | CALL_GETATTR | CALL_ENCODE | TAKES_FACTORY | CALL_REBUILD


cdef class Calls(Nodes):
    """Checks the calls of a message, their arguments, and state."""

    cdef int begin(self, bytes data, dict large_buffers) except -1:
        Nodes.begin(self, data, large_buffers)
        self.deque_room = None
        self.hashed_pairs = None
        return 0

    cdef int check_arguments_are_there(self) except -1:
        """Check that two entries are above the last mark."""
        if self.stack.count - self.mark_heights.last() < 2:
            raise InDoubt
        return 0

    # Globals

    cdef int push_global(self, str module, str name) except -1:
        """GLOBAL, STACK_GLOBAL: push a node for an entry of the table."""
        number = self.rules.numbers.get((module, name))
        if number is None and self.data[1] == 2:
            number = self.rules.old_numbers.get((module, name))
        if number is None:
            raise InDoubt
        self.found |= FOUND_GLOBALS
        self.stack.push(self.node(GLOBAL_NODE, number, 0))
        return 0

    cdef long long permitted(self, long long entry, long long permission) except -1:
        """Return the number of a global's rule, if it has one of the permissions."""
        cdef long long number
        if entry >= 0 or self.kinds.get(~entry) & KIND != GLOBAL_NODE:
            raise InDoubt
        number = self.details.get(~entry)
        if not self.rules.permissions.get(number) & permission:
            raise InDoubt
        return number

    # REDUCE

    cdef int call(self) except -1:
        """REDUCE: replace a global and its arguments by the result of the call."""
        cdef long long arguments
        self.check_arguments_are_there()
        arguments = self.stack.pop()
        self.stack.push(self.call_by_form(self.permitted(self.stack.pop(), ANY_CALL), arguments))
        return 0

    cdef long long call_by_form(self, Py_ssize_t number, long long arguments) except? -1:
        """Add the result of a call if its rule permits arguments of this form; return its entry."""
        cdef long long permissions = self.rules.permissions.get(number)
        cdef int kind
        if arguments >= 0:
            if self.data[arguments] == EMPTY_TUPLE and permissions & CALL_EMPTY:
                return self.result(number)
            raise InDoubt
        kind = self.kinds.get(~arguments) & KIND
        if kind == TUPLE_NODE and permissions & CALL:
            return self.call_with_values(number, ~arguments)
        if kind == TUPLE_NODE and permissions & CALL_ENCODE:
            return self.call_encode(number, ~arguments)
        if kind == GLOBAL_TUPLE_NODE:
            return self.call_with_class(number, ~arguments)
        raise InDoubt

    cdef long long call_with_values(self, Py_ssize_t number, Py_ssize_t arguments) except? -1:
        cdef long long entry = self.result(number)
        cdef Py_ssize_t start = self.starts.get(arguments)
        cdef Py_ssize_t stop = start + self.counts.get(arguments)
        self.sizes.items[~entry] = 2
        self.codes.clear()
        self.codes.push(~arguments)
        self.add_children(~entry, self.codes, 0, 1)
        self.charge_arguments(number, start, stop)
        if stop - start == 2 and self.rules.permissions.get(number) & (HASHED_BY_PAIR | TAKES_ITEMS):
            self.note_integers(number, ~entry, self.pool.get(start), self.pool.get(start + 1))
        return entry

    cdef int note_integers(self, Py_ssize_t number, Py_ssize_t result, long long first, long long second) except -1:
        """Note how many items a deque takes, or the pair of integers of a Fraction."""
        if second < 0 or not is_integer(self.data[second]):
            return 0
        if self.rules.permissions.get(number) & TAKES_ITEMS:
            if self.deque_room is None:
                self.deque_room = {}
            self.deque_room[result] = self.leaf_value(second)
        elif first >= 0 and is_integer(self.data[first]):
            if self.hashed_pairs is None:
                self.hashed_pairs = []
            pair = self.leaf_value(first), self.leaf_value(second)
            self.hashed_pairs.append((hash(pair), *pair))
        return 0

    cdef long long call_encode(self, Py_ssize_t number, Py_ssize_t arguments) except? -1:
        """``_codecs.encode(text, "latin1")``: bytes, as protocol 2 writes them."""
        cdef Py_ssize_t start = self.starts.get(arguments)
        cdef long long text
        if self.counts.get(arguments) != 2 or self.name(self.pool.get(start + 1)) != "latin1":
            raise InDoubt
        text = self.pool.get(start)
        self.name(text)  # must be a str
        self.charge_arguments(number, start, start + 1)
        return self.node(BYTES_NODE, text, CALLED_MEMORY)

    cdef long long call_with_class(self, Py_ssize_t number, Py_ssize_t arguments) except? -1:
        """A call with a global as its first argument: getattr, defaultdict, or a library's function that rebuilds."""
        cdef long long permissions = self.rules.permissions.get(number)
        cdef Py_ssize_t start = self.starts.get(arguments)
        cdef long long size = self.counts.get(arguments)
        cdef long long cls = self.details.get(~self.pool.get(start))
        cdef long long entry
        if permissions & CALL_GETATTR:
            if size == 2:
                found = self.rules.members.get((cls, self.name(self.pool.get(start + 1))))
                if found is not None:
                    return self.node(GLOBAL_NODE, found, 0)
        elif permissions & TAKES_FACTORY:
            if size == 1 and self.rules.permissions.get(cls) & FACTORY:
                return self.result(number)
        elif permissions & CALL_REBUILD:
            found = self.rules.rebuilt.get((number, cls))
            if found is not None:
                entry = self.result(found)
                self.sizes.items[~entry] = size
                self.add_children(~entry, self.pool, start + 1, start + size)
                return entry
        raise InDoubt

    cdef long long result(self, Py_ssize_t number) except? -1:
        cdef long long permissions = self.rules.permissions.get(number)
        if permissions & (TAKES_STATE | DEFERRED):
            self.found |= FOUND_PLACEHOLDERS
        if permissions & TAKES_KEYS:
            self.found |= FOUND_OBJECT_KEYS
        return self.node(CALLED_NODE, number, CALLED_MEMORY + self.rules.memory.get(number))

    cdef int charge_arguments(self, Py_ssize_t number, Py_ssize_t start, Py_ssize_t stop) except -1:
        """Charge for the content of arguments, which are in the pool, once for each call."""
        cdef long long entry
        cdef int kind
        cdef Py_ssize_t i
        for i in range(start, stop):
            entry = self.pool.get(i)
            if entry < 0:
                kind = self.kinds.get(~entry) & KIND
                if kind == BYTES_NODE or kind == BYTEARRAY_NODE:
                    entry = self.details.get(~entry)
            if entry < 0:
                self.memory += COPIED_MEMORY * (self.sizes.get(~entry) - 1)
                if self.key_tables is not None and ~entry in self.key_tables:
                    self.key_costs.charge((<KeyTable?>self.key_tables[~entry]).alike_cost)
            else:
                self.memory += self.rules.memory_per_byte.get(number) * self.leaf_length(entry)
        if self.memory > self.rules.max_memory:
            raise InDoubt
        return 0

    # NEWOBJ and BUILD

    cdef long long new(self) except? -1:
        """NEWOBJ: replace a class and its arguments by a new instance; return its entry."""
        cdef long long arguments, number, permissions, entry
        self.check_arguments_are_there()
        arguments = self.stack.pop()
        number = self.permitted(self.stack.pop(), NEW | NEW_WITH)
        permissions = self.rules.permissions.get(number)
        entry = self.node(
            INSTANCE_NODE if permissions & NEW else CALLED_NODE, number, CALLED_MEMORY + self.rules.memory.get(number)
        )
        self.found |= FOUND_PLACEHOLDERS
        if arguments < 0:
            if self.kinds.get(~arguments) & KIND != TUPLE_NODE or not permissions & NEW_WITH:
                raise InDoubt
            self.sizes.items[~entry] = 2
            self.codes.clear()
            self.codes.push(arguments)
            self.add_children(~entry, self.codes, 0, 1)
        elif self.data[arguments] != EMPTY_TUPLE:
            raise InDoubt
        elif permissions & NEW and self.memory + self.content_memory > self.rules.max_memory:
            raise InDoubt
        self.stack.push(entry)
        return entry

    cdef int build(self) except -1:
        """BUILD: state for an unused instance, or for the unused result of a call that takes state. Closes it."""
        cdef long long state, kind
        cdef Py_ssize_t node, start
        self.check_arguments_are_there()
        state = self.stack.pop()
        if self.stack.last() >= 0:
            raise InDoubt
        node = ~self.stack.last()
        if self.kinds.get(node) != INSTANCE_NODE and not self.accepts(node, TAKES_STATE):
            raise InDoubt
        self.sizes.items[node] = self.sizes.get(node) + 1
        self.codes.clear()
        self.codes.push(state)
        self.add_children(node, self.codes, 0, 1)
        if self.kinds.get(node) == CALLED_NODE and state < 0:
            kind = self.kinds.get(~state) & KIND
            if kind == TUPLE_NODE or kind == FROZENSET_NODE:
                start = self.starts.get(~state)
                self.charge_arguments(self.details.get(node), start, start + self.counts.get(~state))
        self.kinds.items[node] = self.kinds.get(node) | CLOSED
        return 0

    # The whole message

    cdef int check_root(self) except -1:
        """Check the value of the message, and Fractions in all of it."""
        cdef Py_ssize_t node = ~self.stack.last()
        if self.kinds.get(node) & KIND >= GLOBAL_NODE:
            raise InDoubt
        if self.sizes.get(node) > self.rules.max_expanded_nodes:
            raise InDoubt
        if self.hashed_pairs is not None:
            check_pairs(self.hashed_pairs, self.key_costs, self.rules.max_probes)
        return 0
