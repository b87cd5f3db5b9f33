"""The vetting pass: follows a pickle as the unpickler would, and builds nothing.

How vetting and building fit together
-------------------------------------
A message is read twice. The first reading, here, decides whether the message is acceptable; the second, by CPython's
own unpickler, builds it (:mod:`.unpickler`). Nothing is built, imported or called before the first reading has reached
the end, so that a refused message has no effect, and the second reading cannot exceed any limit.

This is safe only if both read the same bytes in the same way. Four rules ensure that:

* The set of opcodes is closed (:mod:`.opcodes`), and contains nothing that reaches outside of the message. Each opcode
  has the same effect here on the stack, the marks and the memo as in CPython; tests compare both on mutated pickles.
* Forms that CPython's picklers never write, and that unpicklers could read differently, are refused: memo indices are
  dense (one index could also make the unpickler allocate gigabytes), frames are not nested, no opcode crosses the end
  of a frame, STOP is the last byte, and one value remains.
* A global is an entry of the table in :mod:`.globals` or the message is refused; the unpickler gets its globals from
  the same table.
* The bytes do not change in between, or the second reading is by an unpickler that knows no other globals.

The machine
-----------
The stack and the memo hold entries (:mod:`.nodes`): offsets of leaves, and nodes. Each open MARK is a pair: the height
of the stack, below which no opcode may take entries; and the number of nodes pushed until then. If the latter has not
changed when the items above the mark are taken, none of them is a node, and they need not be examined one by one.

The charges
-----------
Time is bounded by ``max_nodes``, which counts opcodes. MEMOIZE after a short str, an empty list or dict or a new
instance is not counted, and neither is MARK after those two containers: they are read in the turn of the opcode before
them, and few such opcodes come without. Memory is charged when something is made: each byte of the message when vetting
begins (four times, since a byte of text can take four; large bytes are corrected when they are met), each node by its
kind, the items of dicts and sets when they go in, the stand-ins of keys that have parts, the longest str twice more for
copies while it is decoded, the arguments of calls for each call, and a flat sum for each opcode at the end; the loop is
no longer than that allows. Depth and expanded size are bounded when items go into a container, because CPython hashes a
tuple by recursion in C: a deep one overflows the stack, and one that shares its parts takes 2**depth steps in 59 bytes.
Hash collisions, and the cost of hashing and comparing keys, are bounded when keys go into a dict or set
(:mod:`.hash_collisions`, :mod:`.key_costs`).

Style
-----
This is the reference; :mod:`sealwire.native` has a fast twin. The loop itself handles the four most frequent kinds of
opcodes, because a call costs as much as two opcodes in Python. All others go to methods, in the order of frequency.
"""

from __future__ import annotations

from sealwire.errors import LimitExceeded, MalformedPickle
from sealwire.pickling.calls import Calls
from sealwire.pickling.elide import FRAME_SIZE
from sealwire.pickling.globals import TAKES_ITEMS, TAKES_PAIRS
from sealwire.pickling.leaves import HEADERS, TEXTS, limit_exceeded
from sealwire.pickling.message_file import PIECE
from sealwire.pickling.nodes import (
    BYTEARRAY_NODE,
    CLOSED,
    DICT_ITEM_MEMORY,
    DICT_MEMORY,
    DICT_NODE,
    FROZENSET_NODE,
    LIST_MEMORY,
    LIST_NODE,
    LONG_TEXT_COPIES,
    OPCODE_MEMORY,
    SET_MEMORY,
    SET_NODE,
    TEXT_MEMORY,
    TUPLE_MEMORY,
)
from sealwire.pickling.opcodes import (
    ADDITEMS,
    ADDS_ITEMS,
    APPEND,
    BINGET,
    BINPUT,
    BUILD,
    BYTEARRAY8,
    DISPATCH,
    EMPTY_DICT,
    EMPTY_SET,
    FRAME,
    FROZENSET,
    GLOBAL,
    HAS_LENGTH,
    LONG1,
    LONG4,
    LONG_BINGET,
    LONG_BINPUT,
    MAKES_CONTAINER,
    MARK,
    MEMOIZE,
    NEWOBJ,
    OPCODE_NAMES,
    OPENS_CONTAINER,
    PROTO,
    REDUCE,
    SETITEM,
    SETS_ITEMS,
    SHORT_BINBYTES,
    SHORT_BINUNICODE,
    STACK_GLOBAL,
    STOP,
    TUPLE,
    TUPLE1,
)


class Vetting(Calls):
    """The examination of one message."""

    _is_framed = False

    def run(self, frames: list[int] | None = None) -> int:
        """Examine the message.

        Args:
            frames: Gets the offsets of frames that are longer than a piece (:mod:`.message_file`).

        Returns:
            A sum of the FOUND constants of :mod:`.nodes`.

        Raises:
            DecodeError: The message is refused.
        """
        data = self._data
        self._frames = [] if frames is None else frames
        if len(data) < 3 or data[0] != PROTO or not 2 <= data[1] <= 5:
            raise MalformedPickle("not a pickle of protocol 2 to 5")
        try:
            self._read_opcodes()
        except IndexError:
            raise MalformedPickle("the pickle is truncated, or takes more from the stack than is on it") from None
        except UnicodeDecodeError:
            raise MalformedPickle("a str is not UTF-8, or has a lone surrogate") from None
        return self._found

    def _read_opcodes(self) -> None:  # noqa: C901, PLR0915 - one loop over the opcodes: a call for each would double its time
        # Longer than other functions, because each branch that goes to a method takes more time (see above).
        data = self._data
        kinds, stack, memo = self._kinds, self._stack, self._memo
        mark_heights = self._mark_heights
        dispatch = DISPATCH
        end = len(data)  # of the frame, or of the message
        at = 2
        rules = self._rules
        for opcodes in range(min(rules.max_nodes, rules.max_memory // OPCODE_MEMORY + 1)):
            if at >= end:
                end = self._end_frame(at, end)
            opcode = data[at]
            group = dispatch[opcode]
            if group > 0:  # a leaf of a fixed size
                stack.append(at)
                at += group
            elif opcode == SHORT_BINUNICODE:
                stop = at + 2 + data[at + 1]
                if stop > self._checked_until:
                    self._check_text(at + 2, stop)
                stack.append(at)
                if data[stop] == MEMOIZE:  # in this turn, which makes decoding a list of str a third faster
                    memo.append(at)
                    stop += 1
                at = stop
            elif opcode == BINGET:
                entry = memo[data[at + 1]]
                if entry < 0:
                    kinds[~entry] |= CLOSED
                    self._memo_pushes += 1
                stack.append(entry)
                at += 2
            elif opcode == MEMOIZE:
                if len(stack) == mark_heights[-1]:
                    raise MalformedPickle(f"nothing to store (MEMOIZE at byte {at})")
                memo.append(stack[-1])
                at += 1
            elif group == HAS_LENGTH:
                at = self._push_leaf(opcode, at)
            elif group == OPENS_CONTAINER:
                at = self._open_container(opcode, at)
            elif group == SETS_ITEMS:
                self._set_items(opcode, at)
                at += 1
            elif group == ADDS_ITEMS:
                self._add_items(opcode, at)
                at += 1
            elif opcode == NEWOBJ:
                at = self._new(at)
            elif opcode == BUILD:
                self._build(at)
                at += 1
            elif group == MAKES_CONTAINER:
                self._make_container(opcode, at)
                at += 1
            elif opcode == FRAME:
                end = self._begin_frame(at)
                at += 9
            elif opcode == STOP:
                self._stop(at, end, opcodes)
                return
            else:
                at = self._read_other(opcode, at)
        if rules.max_nodes > rules.max_memory // OPCODE_MEMORY:
            raise LimitExceeded("max_memory: the opcodes of the message take too much memory")
        raise LimitExceeded(
            f"max_nodes: the message has more than {rules.max_nodes} opcodes; set the limit max_nodes higher at its "
            "receiver and its sender, or send less at once"
        )

    # Frames, and the end

    def _begin_frame(self, at: int) -> int:
        """Return the offset at which the frame ends."""
        if self._is_framed or self._data[1] < 4:
            raise MalformedPickle(f"a frame out of place (FRAME at byte {at})")
        end = at + FRAME_SIZE + int.from_bytes(self._data[at + 1 : at + FRAME_SIZE], "little")
        if end > len(self._data):
            raise MalformedPickle(f"a frame longer than the message (FRAME at byte {at})")
        if end - at > PIECE:
            self._frames.append(at)
        self._is_framed = True
        return end

    def _end_frame(self, at: int, end: int) -> int:
        """Check that a frame ends here; return the offset at which the message ends."""
        if at > end or not self._is_framed:
            raise MalformedPickle(f"truncated, or an opcode crosses the end of a frame (byte {end})")
        self._is_framed = False
        return len(self._data)

    def _stop(self, at: int, end: int, opcodes: int) -> None:
        size = len(self._data)
        if at + 1 != size or end != size or len(self._stack) != 1 or self._mark_counts:
            raise MalformedPickle(f"more than one value, or bytes after the end (STOP at byte {at})")
        self._check_memory(STOP, at, OPCODE_MEMORY * opcodes)
        if self._stack[0] < 0:
            self._check_root(~self._stack[0], at)

    # Containers

    def _open_container(self, opcode: int, at: int) -> int:
        """EMPTY_LIST, EMPTY_DICT, and in the same turn the MEMOIZE and MARK that usually follow.

        The latter makes decoding a list of small dicts 12 % faster.
        """
        data = self._data
        is_dict = opcode == EMPTY_DICT
        entry = self._node(DICT_NODE if is_dict else LIST_NODE, 0, DICT_MEMORY if is_dict else LIST_MEMORY)
        if self._memory + self._content_memory > self._rules.max_memory:
            raise limit_exceeded("max_memory", opcode, at)
        self._stack.append(entry)
        at += 1
        if data[at] == MEMOIZE:
            self._memo.append(entry)
            at += 1
            if data[at] == MARK:
                self._mark_heights.append(len(self._stack))
                self._mark_counts.append(len(self._kinds) + self._memo_pushes)
                at += 1
        return at

    def _make_container(self, opcode: int, at: int) -> None:
        """EMPTY_SET, TUPLE, TUPLE1 to TUPLE3, FROZENSET."""
        if opcode == EMPTY_SET:
            entry = self._node(SET_NODE, 0, SET_MEMORY)
        elif opcode == FROZENSET:
            items, has_nodes = self._pop_items(0)
            entry = self._node(FROZENSET_NODE, 0, SET_MEMORY)
            self._items[~entry] = items
            self._add_elements(~entry, items, has_nodes, opcode, at)
        else:
            items, has_nodes = self._pop_items(0 if opcode == TUPLE else opcode - TUPLE1 + 1)
            entry = self._tuple(items, has_nodes, at)
        self._stack.append(entry)

    def _pop_items(self, number: int) -> tuple[list[int], bool]:
        """Pop so many entries, or with 0 those above the last mark; also return True if some of them are nodes."""
        stack = self._stack
        if number:
            height = len(stack) - number
            if height < self._mark_heights[-1]:
                raise IndexError
            items = stack[height:]
            has_nodes = min(items) < 0
        else:
            has_nodes = len(self._kinds) + self._memo_pushes != self._mark_counts.pop()
            height = self._mark_heights.pop()
            items = stack[height:]
        del stack[height:]
        return items, has_nodes

    def _set_items(self, opcode: int, at: int) -> None:
        """SETITEM, SETITEMS: keys and values of a dict, or of the unused result of a call that takes pairs."""
        items, has_nodes = self._pop_items(2 if opcode == SETITEM else 0)
        stack = self._stack
        if len(stack) <= self._mark_heights[-1]:
            raise IndexError
        node = ~stack[-1]
        if node < 0 or (self._kinds[node] != DICT_NODE and not self._accepts(node, TAKES_PAIRS)):
            raise self._refuse_change(node, opcode, at)
        if len(items) & 1:
            raise MalformedPickle(f"a key without a value ({OPCODE_NAMES[opcode]} at byte {at})")
        if items:
            self._content_memory += DICT_ITEM_MEMORY * len(items)
            self._expanded_sizes[node] += len(items)
            if has_nodes:
                self._add_children(items, node, opcode, at)
            self._add_keys(node, items[::2], False)
        elif self._kinds[node] != DICT_NODE:
            # CPython's pickler ends a dict of a multiple of 1,000 items with an empty batch, and nothing else.
            raise MalformedPickle(f"an empty batch ({OPCODE_NAMES[opcode]} at byte {at})")

    def _add_items(self, opcode: int, at: int) -> None:
        """APPEND, APPENDS, ADDITEMS: items of a list or set, or of the unused result of a call that takes items."""
        items, has_nodes = self._pop_items(1 if opcode == APPEND else 0)
        if len(self._stack) <= self._mark_heights[-1]:
            raise IndexError
        node = ~self._stack[-1]
        kind = self._kinds[node] if node >= 0 else -1
        if opcode == ADDITEMS and kind == SET_NODE:
            self._add_elements(node, items, has_nodes, opcode, at)
            return
        if opcode == ADDITEMS or kind < 0 or (kind != LIST_NODE and not self._accepts(node, TAKES_ITEMS)):
            raise self._refuse_change(node, opcode, at)
        if node in self._deque_room:
            self._deque_room[node] -= len(items)
            if self._deque_room[node] < 0:
                raise MalformedPickle(f"a deque of more items than its maxlen ({OPCODE_NAMES[opcode]} at byte {at})")
        if not items:
            raise MalformedPickle(f"an empty batch ({OPCODE_NAMES[opcode]} at byte {at})")
        self._expanded_sizes[node] += len(items)
        if has_nodes:
            self._add_children(items, node, opcode, at)

    # Leaves of variable length, and all other opcodes

    def _push_leaf(self, opcode: int, at: int) -> int:
        """Push an integer, str, bytes or bytearray that has a length field; return the next offset."""
        if opcode == LONG1:
            length = self._data[at + 1]
            if length * 8 > self._rules.max_integer_bits:
                self._check_integer(at, at + 2, length)
            self._stack.append(at)
            return at + 2 + length
        entry = at
        start = at + HEADERS[opcode]
        if opcode == SHORT_BINBYTES:
            length = self._data[at + 1]
            if length > self._rules.max_string:
                raise limit_exceeded("max_string", opcode, at)
        elif opcode == LONG4:
            length = int.from_bytes(self._data[at + 1 : start], "little")
            self._check_integer(at, start, length)
        else:
            length = self._checked_length(at, start)
            if opcode in TEXTS:
                if length > self._longest_text:
                    self._content_memory += LONG_TEXT_COPIES * (length - self._longest_text)
                    self._longest_text = length
                if start + length > self._checked_until:
                    self._check_text(start, start + length)
            else:
                # A byte of bytes takes one byte; TEXT_MEMORY was charged for it.
                self._content_memory -= (TEXT_MEMORY - 1) * self._leaf_length(at)
                if opcode == BYTEARRAY8:
                    entry = self._node(BYTEARRAY_NODE, at, TUPLE_MEMORY)
                    self._depths[-1] = 0  # it can change, but contains nothing
        self._stack.append(entry)
        return start + length

    def _read_other(self, opcode: int, at: int) -> int:
        """MARK, REDUCE, and opcodes that protocol 5 rarely has; return the next offset. Refuses all others."""
        data = self._data
        stop = at + 1
        if opcode == MARK:
            self._mark_heights.append(len(self._stack))
            self._mark_counts.append(len(self._kinds) + self._memo_pushes)
        elif opcode == REDUCE:
            self._call(at)
        elif opcode == STACK_GLOBAL:
            name = self._name(self._pop_argument(), opcode, at)
            self._push_global(self._name(self._stack.pop(), opcode, at), name, opcode, at)
        elif opcode == GLOBAL:
            newline = self._find_line(at + 1)
            stop = self._find_line(newline + 1) + 1
            self._push_global(data[at + 1 : newline].decode(), data[newline + 1 : stop - 1].decode(), opcode, at)
        elif opcode in (BINPUT, LONG_BINPUT, LONG_BINGET):
            stop = at + (2 if opcode == BINPUT else 5)
            self._use_memo(opcode, int.from_bytes(data[at + 1 : stop], "little"), at)
        else:
            raise MalformedPickle(f"opcode 0x{opcode:02x} at byte {at} is not allowed in a message")
        return stop

    def _use_memo(self, opcode: int, index: int, at: int) -> None:
        """BINPUT, LONG_BINPUT: store the entry on top under the next index. LONG_BINGET: push the entry of an index."""
        if opcode == LONG_BINGET:
            entry = self._memo[index]
            if entry < 0:
                self._kinds[~entry] |= CLOSED
                self._memo_pushes += 1
            self._stack.append(entry)
        else:
            if index != len(self._memo) or len(self._stack) == self._mark_heights[-1]:
                raise MalformedPickle(f"a memo index out of order ({OPCODE_NAMES[opcode]} at byte {at})")
            self._memo.append(self._stack[-1])
