"""The objects that a message would make, and their keys: the twin of :mod:`sealwire.pickling.nodes`.

That module has the reasons, and the rules in Python. Entries and nodes are the same. What is a list for each node there
lies in one list for all of them here: the entries of node ``n`` are ``pool[starts[n]:][:counts[n]]``.

Keys that are short str are told apart as bytes (:mod:`.texts`), and cost nothing more. Others become Python objects.
"""

from sealwire.native.constants cimport *
from sealwire.native.ints cimport Ints, breathe
from sealwire.native.keys cimport KeyCosts, KeyTable
from sealwire.native.leaves cimport Leaves, Rules
from sealwire.native.texts cimport Texts, text_code
from sealwire.native.keys import InDoubt

cdef Py_ssize_t SMALL = 4096
"""Bytes of a message that is searched for surrogates as a whole, and leaves little behind."""
cdef Py_ssize_t FEW = 8
"""Keys that are told apart by comparing each with each."""


cdef class Nodes(Leaves):
    """The nodes of one message and their keys, and the bounds on both. Used again for other messages."""

    def __cinit__(self, Rules rules not None):
        self.rules = rules
        self.stack = Ints()
        self.memo = Ints()
        self.mark_heights = Ints()
        self.mark_counts = Ints()
        self.kinds = Ints()
        self.depths = Ints()
        self.sizes = Ints()
        self.details = Ints()
        self.starts = Ints()
        self.counts = Ints()
        self.pool = Ints()
        self.key_costs = KeyCosts()
        self.scratch = Texts()
        self.codes = Ints()

    cdef int begin(self, bytes data, dict large_buffers) except -1:
        """Begin with a message."""
        self.data = data
        self.size = len(data)
        self.large_buffers = large_buffers
        # As an int: CPython first takes bytes for one, and makes the text of an error.
        self.checked_until = self.size if self.size <= SMALL and 0xED not in data else 0
        self.stack.clear()
        self.memo.clear()
        self.memo_pushes = 0
        self.mark_heights.clear()
        self.mark_heights.push(0)
        self.mark_counts.clear()
        self.kinds.clear()
        self.depths.clear()
        self.sizes.clear()
        self.details.clear()
        self.starts.clear()
        self.counts.clear()
        self.pool.clear()
        self.last_start = self.last_count = 0
        self.memory = 0
        self.longest_text = 0
        self.content_memory = TEXT_MEMORY * self.size
        if large_buffers:
            for buffer in large_buffers.values():
                self.content_memory += TEXT_MEMORY * <long long>len(buffer)
        self.found = 0
        self.key_costs.reset(self.rules.max_expanded_nodes)
        self.key_tables = None
        self.texts = None
        self.key_values = None
        return 0

    cdef int forget(self) except -1:
        """Give back what the last message took."""
        if self.size > SMALL:
            self.begin(b"", {})
        self.data = b""
        self.large_buffers = self.key_tables = self.texts = self.key_values = None
        self.key_costs.reset(0)
        return 0

    # Nodes

    cdef long long node(self, int kind, long long detail, long long memory) except? -1:
        """Add a node without items and return its entry."""
        cdef long long number = self.kinds.count
        self.kinds.push(kind)
        self.depths.push(1)
        self.sizes.push(1)
        self.details.push(detail)
        self.starts.push(0)
        self.counts.push(0)
        self.memory += memory
        if self.memory > self.rules.max_memory:
            raise InDoubt
        return ~number

    cdef bint accepts(self, Py_ssize_t node, long long permission) except -1:
        """Return True if a node is the unused result of a call and has this permission."""
        return (
            self.kinds.get(node) == CALLED_NODE
            and self.rules.permissions.get(self.details.get(node)) & permission != 0
        )

    cdef int remember(self, Py_ssize_t node, Ints source, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t step) except -1:
        """Keep entries as those of a node."""
        cdef Py_ssize_t i
        self.starts.items[node] = self.pool.count
        i = start
        while i < stop:
            self.pool.push(source.get(i))
            i += step
        self.counts.items[node] = self.pool.count - self.starts.get(node)
        return 0

    cdef int add_children(self, Py_ssize_t node, Ints source, Py_ssize_t start, Py_ssize_t stop) except -1:
        """Close entries and add up their depths and sizes in a node; its size already counts one for each of them."""
        cdef long long depth = 0
        cdef long long size = self.sizes.get(node) - (stop - start)
        cdef long long entry, kind
        cdef Py_ssize_t i, part
        for i in range(start, stop):
            entry = source.get(i)
            if entry < 0:
                part = ~entry
                kind = self.kinds.get(part)
                if kind & KIND >= GLOBAL_NODE:
                    raise InDoubt
                self.kinds.items[part] = kind | CLOSED
                depth = max(depth, self.depths.get(part))
                size += self.sizes.get(part)
            else:
                size += 1
        if depth >= self.depths.get(node):
            if depth >= self.rules.max_depth:
                raise InDoubt
            self.depths.items[node] = depth + 1
        if size > self.rules.max_expanded_nodes:
            raise InDoubt
        self.sizes.items[node] = size
        return 0

    cdef long long make_tuple(self, Py_ssize_t start, bint has_nodes) except? -1:
        """Add a tuple of what is on the stack from ``start`` on, and return its entry."""
        cdef Py_ssize_t stop = self.stack.count
        cdef int kind = TUPLE_NODE
        cdef long long first, entry
        if has_nodes and stop > start:
            first = self.stack.get(start)
            if first < 0 and self.kinds.get(~first) & KIND == GLOBAL_NODE:
                kind = GLOBAL_TUPLE_NODE
        entry = self.node(kind, 0, TUPLE_MEMORY + 16 * (stop - start))
        self.sizes.items[~entry] = 1 + stop - start
        self.remember(~entry, self.stack, start, stop, 1)
        if has_nodes:
            self.add_children(~entry, self.stack, start + 1 if kind == GLOBAL_TUPLE_NODE else start, stop)
        return entry

    cdef int add_elements(self, Py_ssize_t node, Py_ssize_t start, bint has_nodes) except -1:
        """Put what is on the stack from ``start`` on into a set or frozenset."""
        cdef Py_ssize_t number = self.stack.count - start
        if number:
            self.memory += SET_ITEM_MEMORY * number
            self.sizes.items[node] = self.sizes.get(node) + number
            if has_nodes:
                self.add_children(node, self.stack, start, self.stack.count)
            self.add_keys(node, start, 1, True)
        return 0

    # Keys: those on the stack from ``start`` on, each or each second one

    cdef int add_keys(self, Py_ssize_t node, Py_ssize_t start, Py_ssize_t step, bint is_set) except -1:
        """Put keys into a dict or set. In doubt about duplicates, NaN, what is not hashable, and collisions."""
        cdef bint is_frozen = self.kinds.get(node) & KIND == FROZENSET_NODE  # has its items already, and but one batch
        cdef bint is_first = is_frozen or not self.counts.get(node)
        cdef KeyTable table
        cdef list values
        if is_first:
            if self.are_last(start, step):
                self.starts.items[node] = self.last_start
                self.counts.items[node] = self.last_count
                return 0
            if not is_frozen:
                self.remember(node, self.stack, start, self.stack.count, step)
            if self.are_distinct(start, step):
                self.last_start = self.starts.get(node)
                self.last_count = self.counts.get(node)
                return 0
        elif self.add_texts(node, start, step, is_set):
            return 0
        values = self.values_of(self.stack, start, self.stack.count, step)
        self.key_costs.charge_hashing(values)
        table = self.key_tables.get(node) if self.key_tables is not None else None
        if table is None:
            if is_first and len(values) <= MANY_KEYS and len({hash(value) for value in values}) == len(values):
                return 0
            table = self.new_table(node, is_set)
            if not is_first:
                first = self.starts.get(node)
                table.put(self.values_of(self.pool, first, first + self.counts.get(node), 1), self.key_costs)
        table.put(values, self.key_costs)
        return 0

    cdef KeyTable new_table(self, Py_ssize_t node, bint is_set):
        """Return a new table for the keys of a node."""
        cdef KeyTable table = KeyTable(is_set, self.rules.max_probes)
        if self.key_tables is None:
            self.key_tables = {}
        self.key_tables[node] = table
        return table

    cdef bint are_short(self, Py_ssize_t start, Py_ssize_t step) except -1:
        """Return True if all keys are short str."""
        cdef Py_ssize_t i
        cdef long long entry
        i = start
        while i < self.stack.count:
            entry = self.stack.get(i)
            if entry < 0 or self.data[entry] != SHORT_BINUNICODE:
                return False
            i += step
        return True

    cdef bint are_distinct(self, Py_ssize_t start, Py_ssize_t step) except -1:
        """Return True if all keys are short str and no two are equal."""
        cdef Py_ssize_t i, j
        cdef long long code
        if not self.are_short(start, step):
            return False
        if self.stack.count - start <= FEW * step:
            self.codes.clear()
            i = start
            while i < self.stack.count:
                code = text_code(self.data, self.stack.get(i))
                for j in range(self.codes.count):
                    if self.codes.get(j) == code:
                        return False
                self.codes.push(code)
                i += step
        else:
            self.scratch.clear()
            i = start
            while i < self.stack.count:
                if not self.scratch.add(self.data, self.stack.get(i)):
                    return False
                breathe(self.scratch.entries.count)
                i += step
        return True

    cdef bint are_last(self, Py_ssize_t start, Py_ssize_t step) except -1:
        """Return True if these are the keys that were last found to be distinct: dicts of one form share them."""
        cdef Py_ssize_t i = start
        cdef Py_ssize_t last = self.last_start
        if self.stack.count - start != self.last_count * step:
            return False
        while i < self.stack.count:
            if self.pool.get(last) != self.stack.get(i):
                return False
            last += 1
            i += step
        return True

    cdef bint add_texts(self, Py_ssize_t node, Py_ssize_t start, Py_ssize_t step, bint is_set) except -1:
        """Add a later batch to keys that are all short str. Returns False if it, or an earlier one, has others."""
        cdef Texts texts
        cdef KeyTable table
        cdef Py_ssize_t i, stop
        cdef Py_ssize_t begin = 0
        if self.key_tables is not None and node in self.key_tables:
            return False
        texts = self.texts.get(node) if self.texts is not None else None
        if texts is None:
            texts = Texts()
            stop = self.starts.get(node) + self.counts.get(node)
            for i in range(self.starts.get(node), stop):
                entry = self.pool.get(i)
                if entry < 0 or self.data[entry] != SHORT_BINUNICODE:
                    return False
                self.check_utf8(entry)
                if not texts.add(self.data, entry):
                    raise InDoubt
            texts.batches.push(texts.entries.count)
            if self.texts is None:
                self.texts = {}
            self.texts[node] = texts
        if not self.are_short(start, step):
            table = self.new_table(node, is_set)
            for i in range(texts.batches.count):
                stop = texts.batches.get(i)
                table.put(self.values_of(texts.entries, begin, stop, 1), self.key_costs)
                begin = stop
            return False
        i = start
        while i < self.stack.count:
            self.check_utf8(self.stack.get(i))
            if not texts.add(self.data, self.stack.get(i)):
                raise InDoubt
            breathe(texts.entries.count)
            i += step
        texts.batches.push(texts.entries.count)
        return True

    cdef int check_utf8(self, Py_ssize_t entry) except -1:
        """Check a short str, as the reference does when it makes a key's value."""
        cdef Py_ssize_t start = entry + 2
        cdef Py_ssize_t stop = start + self.data[entry + 1]
        cdef Py_ssize_t at
        for at in range(start, stop):
            if self.data[at] > 0x7F:
                self.data[start:stop].decode()
                return 0
        return 0

    cdef list values_of(self, Ints source, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t step):
        cdef list values = []
        cdef Py_ssize_t i
        if self.key_values is None:
            self.key_values = {}
        i = start
        while i < stop:
            values.append(self.key_value(source.get(i)))
            breathe(len(values))
            i += step
        return values

    cdef object key_value(self, long long entry):
        """Return a value with the future key's equality and hash; for an object, a value that equals no other."""
        cdef int opcode
        if entry >= 0:
            opcode = self.data[entry]
            if (
                opcode == BININT1 or opcode == BININT2 or opcode == BININT or opcode == LONG1 or opcode == BINFLOAT
            ):
                return self.leaf_value(entry)  # faster than looking it up
        if entry not in self.key_values:
            self.key_values[entry] = self.leaf_value(entry) if entry >= 0 else self.node_value(~entry)
        return self.key_values[entry]

    cdef object node_value(self, Py_ssize_t node):
        """Return the value of a node, after those of all tuples and frozensets in it, from the inside to the outside."""
        cdef list pending = [node]
        cdef Py_ssize_t part, i, start
        cdef long long entry
        cdef int kind
        cdef bint is_complete
        while True:
            part = pending[len(pending) - 1]
            kind = self.kinds.get(part) & KIND
            is_complete = True
            if kind == TUPLE_NODE or kind == FROZENSET_NODE:
                start = self.starts.get(part)
                for i in range(start, start + self.counts.get(part)):
                    entry = self.pool.get(i)
                    if entry < 0 and entry not in self.key_values:
                        pending.append(~entry)
                        is_complete = False
            if not is_complete:
                continue
            pending.pop()
            if ~part not in self.key_values:
                self.key_values[~part] = self.value_of_parts(part, kind)
            if not pending:
                return self.key_values[~node]

    cdef object value_of_parts(self, Py_ssize_t node, int kind):
        """Return the value of a node, those of all its parts being known."""
        cdef Py_ssize_t start
        if kind == TUPLE_NODE or kind == FROZENSET_NODE:
            start = self.starts.get(node)
            self.memory += KEY_NODE_MEMORY + KEY_PART_MEMORY * self.counts.get(node)
            if self.memory > self.rules.max_memory:
                raise InDoubt
            values = self.values_of(self.pool, start, start + self.counts.get(node), 1)
            return tuple(values) if kind == TUPLE_NODE else frozenset(values)
        if kind == BYTES_NODE:
            return self.name(self.details.get(node)).encode("latin-1")
        if (
            kind < BYTES_NODE
            or kind == BYTEARRAY_NODE
            or self.rules.permissions.get(self.details.get(node)) & UNHASHABLE
        ):
            raise InDoubt
        self.found |= FOUND_OBJECT_KEYS
        return (..., node)
