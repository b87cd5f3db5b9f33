"""The vetting pass: the twin of :mod:`sealwire.pickling.vet`, which has the reasons.

It reads the same bytes by the same rules, with the same charges in the same places. It accepts a message, or it is in
doubt and leaves the message to the reference. Whatever goes wrong here, an index out of range or an integer that
overflows included, is such a doubt.
"""

cimport cython

from sealwire.native.calls cimport Calls
from sealwire.native.constants cimport *
from sealwire.native.ints cimport Ints, breathe
from sealwire.native.leaves cimport Rules
from sealwire.native.keys import InDoubt

cdef dict NONE_LARGE = {}


@cython.final
cdef class Vetting(Calls):
    """The examination of one message, and then of others."""

    cdef bint is_framed
    cdef long long passed
    """Opcodes beyond one for each turn."""
    cdef list frames

    cdef int run(self, bytes data, dict large_buffers, list frames) except? -1:
        """Return the sum of what was found, or -1 if in doubt."""
        try:
            self.begin(data, large_buffers)
            self.frames = frames
            if self.size < 3 or data[0] != PROTO or not 2 <= data[1] <= 5:
                return -1
            self.read_opcodes()
            return self.found
        except Exception:
            return -1
        finally:
            self.frames = None
            self.forget()

    cdef int begin(self, bytes data, dict large_buffers) except -1:
        Calls.begin(self, data, large_buffers)
        self.is_framed = False
        self.passed = 0
        return 0

    cdef int read_opcodes(self) except -1:
        cdef bytes data = self.data
        cdef Ints stack = self.stack
        cdef Ints memo = self.memo
        cdef Py_ssize_t end = self.size  # of the frame, or of the message
        cdef Py_ssize_t at = 2
        cdef Py_ssize_t stop
        cdef long long most = min(self.rules.max_nodes, self.rules.max_memory // OPCODE_MEMORY + 1)
        cdef long long opcodes, entry
        cdef int opcode
        for opcodes in range(most):
            breathe(opcodes)
            if at >= end:
                end = self.end_frame(at, end)
            opcode = data[at]
            if opcode == SHORT_BINUNICODE:
                stop = at + 2 + data[at + 1]
                if stop > self.checked_until:
                    self.check_text(at + 2, stop)
                if stop - at - 2 > self.rules.max_string:
                    raise InDoubt
                stack.push(at)
                if data[stop] == MEMOIZE:
                    memo.push(at)
                    stop += 1
                at = stop
            elif opcode == BININT1:
                stack.push(at)
                at += 2
            elif opcode == BININT2:
                stack.push(at)
                at += 3
            elif opcode == BININT:
                stack.push(at)
                at += 5
            elif opcode == BINFLOAT:
                stack.push(at)
                at += 9
            elif opcode == NONE or opcode == NEWTRUE or opcode == NEWFALSE or opcode == EMPTY_TUPLE:
                stack.push(at)
                at += 1
            elif opcode == BINGET:
                self.push_from_memo(data[at + 1])
                at += 2
            elif opcode == MEMOIZE:
                if stack.count == self.mark_heights.last():
                    raise InDoubt
                memo.push(stack.last())
                at += 1
            elif opcode == EMPTY_DICT and self.last_count and self.is_like_last(at, end, &stop):
                at = stop
            elif opcode == EMPTY_LIST or opcode == EMPTY_DICT:
                at = self.open_container(opcode, at)
            elif opcode == SETITEM or opcode == SETITEMS:
                self.set_items(opcode)
                at += 1
            elif opcode == APPEND or opcode == APPENDS or opcode == ADDITEMS:
                self.add_items(opcode)
                at += 1
            elif opcode == NEWOBJ:
                entry = self.new()
                at += 1
                if data[at] == MEMOIZE:
                    memo.push(entry)
                    at += 1
            elif opcode == BUILD:
                self.build()
                at += 1
            elif (
                opcode == TUPLE or opcode == TUPLE1 or opcode == TUPLE2 or opcode == TUPLE3
                or opcode == EMPTY_SET or opcode == FROZENSET
            ):
                self.make_container(opcode)
                at += 1
            elif opcode == STOP:
                if opcodes + self.passed >= most:
                    raise InDoubt
                return self.stop(at, end, opcodes + self.passed)
            elif opcode == FRAME:
                end = self.begin_frame(at)
                at += 9
            else:
                at = self.read_other(opcode, at)
        raise InDoubt

    # Frames, and the end

    cdef Py_ssize_t begin_frame(self, Py_ssize_t at) except -1:
        """Return the offset at which the frame ends."""
        cdef long long length
        if self.is_framed or self.data[1] < 4:
            raise InDoubt
        length = self.little(at + 1, at + 9)
        if length > self.size - at - 9:
            raise InDoubt
        if length + 9 > PIECE and self.frames is not None:
            self.frames.append(at)
        self.is_framed = True
        return at + 9 + length

    cdef Py_ssize_t end_frame(self, Py_ssize_t at, Py_ssize_t end) except -1:
        """Check that a frame ends here; return the offset at which the message ends."""
        if at > end or not self.is_framed:
            raise InDoubt
        self.is_framed = False
        return self.size

    cdef int stop(self, Py_ssize_t at, Py_ssize_t end, long long opcodes) except -1:
        if at + 1 != self.size or end != self.size or self.stack.count != 1 or self.mark_counts.count:
            raise InDoubt
        if self.memory + self.content_memory + OPCODE_MEMORY * opcodes > self.rules.max_memory:
            raise InDoubt
        if self.stack.last() < 0:
            self.check_root()
        return 0

    # Containers

    cdef int open_mark(self) except -1:
        self.mark_heights.push(self.stack.count)
        self.mark_counts.push(self.kinds.count + self.memo_pushes)
        return 0

    cdef Py_ssize_t open_container(self, int opcode, Py_ssize_t at) except -1:
        """EMPTY_LIST, EMPTY_DICT, and in the same turn the MEMOIZE and MARK that usually follow."""
        cdef long long entry
        if opcode == EMPTY_DICT:
            entry = self.node(DICT_NODE, 0, DICT_MEMORY)
        else:
            entry = self.node(LIST_NODE, 0, LIST_MEMORY)
        if self.memory + self.content_memory > self.rules.max_memory:
            raise InDoubt
        self.stack.push(entry)
        at += 1
        if self.data[at] == MEMOIZE:
            self.memo.push(entry)
            at += 1
            if self.data[at] == MARK:
                self.open_mark()
                at += 1
        return at

    cdef bint is_like_last(self, Py_ssize_t start, Py_ssize_t end, Py_ssize_t *next_at) except -1:
        """Read a dict with the keys of the last one, from the memo, and with leaves as values, all in one turn.

        Returns False, and has changed nothing, if it is another dict, or goes beyond ``end``.
        """
        cdef bytes data = self.data
        cdef Ints memo = self.memo
        cdef Py_ssize_t memoized = memo.count
        cdef Py_ssize_t number = self.last_count, at = start + 3, key, length
        cdef long long entry = ~self.kinds.count
        cdef int opcode
        if data[start + 1] != MEMOIZE or data[start + 2] != MARK:
            return False
        memo.push(entry)
        for key in range(self.last_start, self.last_start + number):
            if data[at] != BINGET or memo.get(data[at + 1]) != self.pool.get(key):
                memo.count = memoized
                return False
            at += 2
            opcode = data[at]
            if opcode == SHORT_BINUNICODE:
                length = data[at + 1]
                if length > self.rules.max_string:
                    raise InDoubt
                if at + 2 + length > self.checked_until:
                    self.check_text(at + 2, at + 2 + length)
                if data[at + 2 + length] == MEMOIZE:
                    memo.push(at)
                    at += 1
                at += 2 + length
            elif opcode == BINFLOAT:
                at += 9
            elif opcode == BININT:
                at += 5
            elif opcode == BININT2:
                at += 3
            elif opcode == BININT1 or (opcode == BINGET and memo.get(data[at + 1]) >= 0):
                at += 2
            elif opcode == NONE or opcode == NEWTRUE or opcode == NEWFALSE or opcode == EMPTY_TUPLE:
                at += 1
            else:
                memo.count = memoized
                return False
        if data[at] != SETITEMS or at >= end:
            memo.count = memoized
            return False
        self.stack.push(self.node(DICT_NODE, 0, DICT_MEMORY))
        self.sizes.items[~entry] = 1 + 2 * number
        self.starts.items[~entry] = self.last_start
        self.counts.items[~entry] = number
        self.content_memory += 2 * number * DICT_ITEM_MEMORY
        if self.memory + self.content_memory > self.rules.max_memory:
            raise InDoubt
        self.passed += 2 * number + 1
        next_at[0] = at + 1
        return True

    cdef Py_ssize_t take(self, Py_ssize_t number, bint *has_nodes) except -1:
        """Return the height of the stack below so many entries, or with 0 below the last mark, which is closed.

        The entries stay on the stack. Also says if some of them are nodes.
        """
        cdef Py_ssize_t height, i
        if number:
            height = self.stack.count - number
            if height < self.mark_heights.last():
                raise InDoubt
            has_nodes[0] = False
            for i in range(height, self.stack.count):
                if self.stack.get(i) < 0:
                    has_nodes[0] = True
        else:
            has_nodes[0] = self.kinds.count + self.memo_pushes != self.mark_counts.pop()
            height = self.mark_heights.pop()
        return height

    cdef int make_container(self, int opcode) except -1:
        """EMPTY_SET, TUPLE, TUPLE1 to TUPLE3, FROZENSET."""
        cdef bint has_nodes = False
        cdef Py_ssize_t height
        cdef long long entry
        if opcode == EMPTY_SET:
            self.stack.push(self.node(SET_NODE, 0, SET_MEMORY))
            return 0
        height = self.take(0 if opcode == TUPLE or opcode == FROZENSET else opcode - TUPLE1 + 1, &has_nodes)
        if opcode == FROZENSET:
            entry = self.node(FROZENSET_NODE, 0, SET_MEMORY)
            self.remember(~entry, self.stack, height, self.stack.count, 1)
            self.add_elements(~entry, height, has_nodes)
        else:
            entry = self.make_tuple(height, has_nodes)
        self.stack.count = height
        self.stack.push(entry)
        return 0

    cdef int set_items(self, int opcode) except -1:
        """SETITEM, SETITEMS: keys and values of a dict, or of the unused result of a call that takes pairs."""
        cdef bint has_nodes = False
        cdef Py_ssize_t height = self.take(2 if opcode == SETITEM else 0, &has_nodes)
        cdef Py_ssize_t node = self.container(height)
        cdef Py_ssize_t number = self.stack.count - height
        cdef bint is_dict = self.kinds.get(node) == DICT_NODE
        if number % 2 or not (is_dict or self.accepts(node, TAKES_PAIRS)):
            raise InDoubt
        if number:
            self.content_memory += DICT_ITEM_MEMORY * number
            self.sizes.items[node] = self.sizes.get(node) + number
            if has_nodes:
                self.add_children(node, self.stack, height, self.stack.count)
            self.add_keys(node, height, 2, False)
        elif not is_dict:
            raise InDoubt
        self.stack.count = height
        return 0

    cdef Py_ssize_t container(self, Py_ssize_t height) except -1:
        """Return the node below the items that begin at this height."""
        cdef long long entry
        if height <= self.mark_heights.last():
            raise InDoubt
        entry = self.stack.get(height - 1)
        if entry >= 0:
            raise InDoubt
        return ~entry

    cdef int add_items(self, int opcode) except -1:
        """APPEND, APPENDS, ADDITEMS: items of a list or set, or of the unused result of a call that takes items."""
        cdef bint has_nodes = False
        cdef Py_ssize_t height = self.take(1 if opcode == APPEND else 0, &has_nodes)
        cdef Py_ssize_t node = self.container(height)
        cdef Py_ssize_t number = self.stack.count - height
        cdef long long kind = self.kinds.get(node)
        if opcode == ADDITEMS:
            if kind != SET_NODE:
                raise InDoubt
            self.add_elements(node, height, has_nodes)
            self.stack.count = height
            return 0
        if not number or (kind != LIST_NODE and not self.accepts(node, TAKES_ITEMS)):
            raise InDoubt
        if self.deque_room is not None and node in self.deque_room:
            self.deque_room[node] -= number
            if self.deque_room[node] < 0:
                raise InDoubt
        self.sizes.items[node] = self.sizes.get(node) + number
        if has_nodes:
            self.add_children(node, self.stack, height, self.stack.count)
        self.stack.count = height
        return 0

    # Leaves of variable length, and all other opcodes

    cdef Py_ssize_t push_leaf(self, int opcode, Py_ssize_t at, Py_ssize_t start) except -1:
        """Push an integer, str, bytes or bytearray whose content begins at ``start``; return the next offset."""
        cdef long long length
        cdef long long entry = at
        if opcode == LONG1 or opcode == LONG4:
            length = self.little(at + 1, start)
            self.check_integer(start, length)
        elif opcode == SHORT_BINBYTES:
            length = self.data[at + 1]
            if length > self.rules.max_string:
                raise InDoubt
        else:
            length = self.checked_length(at, start)
            if opcode == BINUNICODE or opcode == BINUNICODE8:
                if length > self.longest_text:
                    self.content_memory += LONG_TEXT_COPIES * (length - self.longest_text)
                    self.longest_text = length
                if start + length > self.checked_until:
                    self.check_text(start, start + length)
            else:
                # A byte of bytes takes one byte; TEXT_MEMORY was charged for it.
                self.content_memory -= (TEXT_MEMORY - 1) * self.leaf_length(at)
                if opcode == BYTEARRAY8:
                    entry = self.node(BYTEARRAY_NODE, at, TUPLE_MEMORY)
                    self.depths.items[~entry] = 0  # it can change, but contains nothing
        self.stack.push(entry)
        return start + length

    cdef Py_ssize_t read_other(self, int opcode, Py_ssize_t at) except -1:
        """All other opcodes; return the next offset."""
        cdef Py_ssize_t newline, stop
        if opcode == MARK:
            self.open_mark()
            return at + 1
        if opcode == LONG1 or opcode == SHORT_BINBYTES:
            return self.push_leaf(opcode, at, at + 2)
        if opcode == BINUNICODE or opcode == BINBYTES or opcode == LONG4:
            return self.push_leaf(opcode, at, at + 5)
        if opcode == BINUNICODE8 or opcode == BINBYTES8 or opcode == BYTEARRAY8:
            return self.push_leaf(opcode, at, at + 9)
        if opcode == REDUCE:
            self.call()
            return at + 1
        if opcode == STACK_GLOBAL:
            self.check_arguments_are_there()
            name = self.name(self.stack.pop())
            self.push_global(self.name(self.stack.pop()), name)
            return at + 1
        if opcode == GLOBAL:
            newline = self.find_line(at + 1)
            stop = self.find_line(newline + 1)
            self.push_global(self.data[at + 1 : newline].decode(), self.data[newline + 1 : stop].decode())
            return stop + 1
        if opcode == BINPUT:
            self.store(self.data[at + 1])
            return at + 2
        if opcode == LONG_BINPUT:
            self.store(self.little(at + 1, at + 5))
            return at + 5
        if opcode == LONG_BINGET:
            self.push_from_memo(self.little(at + 1, at + 5))
            return at + 5
        raise InDoubt

    cdef int push_from_memo(self, Py_ssize_t index) except -1:
        """Push the entry of an index, and close it for further items."""
        cdef long long entry = self.memo.get(index)
        if entry < 0:
            self.kinds.items[~entry] = self.kinds.get(~entry) | CLOSED
            self.memo_pushes += 1
        self.stack.push(entry)
        return 0

    cdef int store(self, long long index) except -1:
        """Store the entry on top under the next index."""
        if index != self.memo.count or self.stack.count == self.mark_heights.last():
            raise InDoubt
        self.memo.push(self.stack.last())
        return 0


@cython.final
cdef class Vetter:
    """The vetting pass of one codec; threads may share it.

    Args:
        rules: The VettingRules of the reference.
        max_size: Bytes of a message at most.
        loads: Builds the value of an accepted message that names no globals.
        build: Builds the value of any message, given what was found, or less than 0 if it was not accepted here.
    """

    cdef Rules rules
    cdef Py_ssize_t max_size
    cdef object loads
    cdef object build
    cdef Vetting idle

    def __init__(self, rules, Py_ssize_t max_size, loads, build):
        self.rules = Rules(rules)
        self.max_size = max_size
        self.loads = loads
        self.build = build

    def decode(self, data):
        """Return the value of a message; in most cases without a step in Python."""
        cdef int found
        if type(data) is not bytes or len(data) > self.max_size:
            return self.build(data)
        found = self.vet(data)
        if not found:
            try:
                return self.loads(data)
            except Exception:  # the other way finds the words
                pass
        return self.build(data, found)

    cpdef int vet(self, bytes data, dict large_buffers=None, list frames=None) except? -1:
        """Examine a message, or one without its large bytes.

        Args:
            data: The message.
            large_buffers: The bytes that it lacks, by the offset of the opcode that stands for each of them.
            frames: Gets the offsets of frames that are longer than a piece.

        Returns:
            A sum of the FOUND constants of the reference; or -1 if in doubt, and the reference decides.
        """
        # No other thread comes between the first two statements.
        cdef Vetting vetting = self.idle
        self.idle = None
        cdef int found
        if vetting is None:
            vetting = Vetting(self.rules)
        found = vetting.run(data, NONE_LARGE if large_buffers is None else large_buffers, frames)
        self.idle = vetting
        return found
