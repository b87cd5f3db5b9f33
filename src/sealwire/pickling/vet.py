"""The vetting pass: reads a pickle as a machine would that builds nothing.

It runs over the whole message before anything is made of it, and keeps of each object that the message would make no
more than what it is (its *kind*), whether it is still open for items, how deep it is, how many objects it unfolds to,
and its keys. What it lets through CPython's own unpickler reads in the same way.

Why each bound is kept here and not later: depth, because the hash of a deep tuple overflows the C stack; expanded size,
because the hash of shared tuples takes 2**depth steps in 59 bytes; dense memo indices, because a single index can make
the unpickler allocate a gigabyte; memory, because one byte makes an empty set of 216 bytes; and what has been used is
closed, because a cycle needs it open, and so does a change to the key of a dict.

Here is the loop over the opcodes; :mod:`.nodes` and :mod:`.leaves` have what it does with them. The three are typed
throughout and import nothing but their neighbours, so that they can be compiled.
"""

from __future__ import annotations

from sealwire.errors import LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.pickling.grants import NEW, PYTHON_2, TAKES_PAIRS
from sealwire.pickling.leaves import integer, limit
from sealwire.pickling.nodes import (
    BYTEARRAY_NODE,
    CALLED_MEMORY,
    CLOSED,
    DICT_ITEM_MEMORY,
    DICT_MEMORY,
    DICT_NODE,
    FOUND_INSTANCES,
    FOUND_NAMES,
    FROZENSET_NODE,
    INSTANCE_NODE,
    KIND,
    LIST_MEMORY,
    LIST_NODE,
    NAME_NODE,
    OPCODE_MEMORY,
    SET_MEMORY,
    SET_NODE,
    TEXT_MEMORY,
    TUPLE_MEMORY,
    Nodes,
)
from sealwire.pickling.opcodes import (
    ADDITEMS,
    APPEND,
    APPENDS,
    BINBYTES,
    BINBYTES8,
    BINGET,
    BINPUT,
    BINUNICODE,
    BINUNICODE8,
    BUILD,
    BYTEARRAY8,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    EMPTY_TUPLE,
    FRAME,
    FROZENSET,
    GLOBAL,
    LONG1,
    LONG4,
    LONG_BINGET,
    LONG_BINPUT,
    MARK,
    MEMOIZE,
    NAMES,
    NEWOBJ,
    PROTO,
    REDUCE,
    SETITEM,
    SETITEMS,
    SHORT_BINBYTES,
    SHORT_BINUNICODE,
    STOP,
    TUPLE,
    TUPLE1,
    TUPLE3,
    WIDTHS,
)


class Vetting(Nodes):
    """One message under examination."""

    def run(self) -> int:
        """Examine the message; return what was found in it, as a sum of the FOUND constants.

        Raises DecodeError.
        """
        try:
            return self._run()
        except IndexError:
            raise MalformedPickle("the pickle is truncated, or takes more from the stack than is on it") from None
        except UnicodeDecodeError:
            raise MalformedPickle("a str is not UTF-8, or has a lone surrogate") from None

    def _run(self) -> int:
        # One long function, for a call costs as much as two opcodes; the branches are in the order of frequency.
        data = self._data
        size = len(data)
        if size < 3 or data[0] != PROTO or not 2 <= data[1] <= 5:
            raise MalformedPickle("not a pickle of protocol 2 to 5")
        rules = self._rules
        max_memory = rules.max_memory
        max_bits = rules.max_integer_bits
        kinds = self._kinds
        depths = self._depths
        weights = self._weights
        numbers = self._numbers
        powers = rules.powers
        widths = WIDTHS
        distinct = self._distinct
        stack: list[int] = []
        memo: list[int] = []
        # For each open mark: the height of the stack below the one before it, and the count of nodes pushed until then.
        floors: list[int] = []
        counts: list[int] = []
        floor = 0
        count = 0
        again = 0  # nodes pushed from the memo; with len(kinds) the count of nodes pushed
        memory = TEXT_MEMORY * (size + sum(map(len, self._aside.values())))
        clean = 0  # no lone surrogate before this offset
        framed = False
        end = size  # of the frame, or of the message
        i = 2
        for opcodes in range(rules.max_nodes):
            if i >= end:
                if i > end or not framed:
                    raise MalformedPickle(f"truncated, or an opcode crosses a frame's end (byte {end})")
                framed = False
                end = size
            opcode = data[i]
            width = widths[opcode]
            if width > 0:
                stack.append(i)
                i += width
            elif opcode == SHORT_BINUNICODE:
                stop = i + 2 + data[i + 1]
                if stop > clean:
                    clean = self._check_text(i + 2, stop)
                stack.append(i)
                if data[stop] == MEMOIZE:
                    memo.append(i)
                    stop += 1
                i = stop
            elif opcode == BINGET:
                entry = memo[data[i + 1]]
                if entry < 0:
                    kinds[~entry] |= CLOSED
                    again += 1
                stack.append(entry)
                i += 2
            elif opcode == MEMOIZE:
                if len(stack) == floor:
                    raise MalformedPickle(f"nothing to store (MEMOIZE at byte {i})")
                memo.append(stack[-1])
                i += 1
            elif width < 0:
                if opcode == NEWOBJ:
                    if len(stack) - floor < 2:
                        raise IndexError
                    entry = stack.pop()
                    node = ~stack[-1]
                    number = numbers[node] if node >= 0 and kinds[node] & KIND == NAME_NODE else -1
                    if number >= 0 and powers[number] & NEW and entry >= 0 and data[entry] == EMPTY_TUPLE:
                        # The same as _new does, for what nearly all instances are.
                        stack[-1] = ~len(kinds)
                        kinds.append(INSTANCE_NODE)
                        depths.append(1)
                        weights.append(1)
                        numbers.append(number)
                        memory += CALLED_MEMORY + rules.memory[number]
                        self._found |= FOUND_INSTANCES
                        if memory + self._memory > max_memory:
                            raise limit("max_memory", opcode, i)
                    else:
                        stack[-1] = self._new(stack[-1], entry, i)
                    i += 1
                    if data[i] == MEMOIZE:
                        memo.append(stack[-1])
                        i += 1
                elif opcode == BUILD:
                    if len(stack) - floor < 2:
                        raise IndexError
                    entry = stack.pop()
                    node = ~stack[-1]
                    if node < 0 or (kinds[node] != INSTANCE_NODE and not self._takes_state(node)):
                        raise self._no_change(node, opcode, i)
                    if entry < 0 and kinds[~entry] == DICT_NODE and depths[~entry] < rules.max_depth:
                        # The same as _take does, for what nearly all states are.
                        kinds[~entry] |= CLOSED
                        depths[node] = depths[~entry] + 1
                        weights[node] += weights[~entry]
                        if weights[node] > rules.max_expanded_nodes:
                            raise limit("max_expanded_nodes", opcode, i)
                    else:
                        weights[node] += 1
                        self._take([entry], node, opcode, i)
                        self._charge_state(node, entry)
                    kinds[node] |= CLOSED
                    i += 1
                elif opcode == REDUCE:
                    if len(stack) - floor < 2:
                        raise IndexError
                    entry = stack.pop()
                    stack[-1] = self._reduce(stack[-1], entry, i)
                    i += 1
                else:
                    if opcode == GLOBAL:
                        at = self._find_line(i + 1)
                        width = self._find_line(at + 1) + 1 - i
                        module, name = self._cut(i + 1, at).decode(), self._cut(at + 1, i + width - 1).decode()
                    else:
                        if len(stack) - floor < 2:
                            raise IndexError
                        width = 1
                        name = self._text(stack.pop(), opcode, i)
                        module = self._text(stack.pop(), opcode, i)
                    number = rules.numbers.get((module, name), -1)
                    if number < 0 or (data[1] > 2 and module in PYTHON_2):
                        raise TypeNotAllowed(
                            f"the message names a type that is not on the allowlist ({NAMES[opcode]} at byte {i})"
                        )
                    self._found |= FOUND_NAMES
                    stack.append(self._node(NAME_NODE, number, 0))
                    i += width
            elif opcode == MARK:
                floors.append(floor)
                counts.append(count)
                floor = len(stack)
                count = len(kinds) + again
                i += 1
            elif opcode == SETITEMS:
                pairs = len(stack) - floor
                keys = stack[floor::2]
                items = stack[floor:] if len(kinds) + again != count else None
                del stack[floor:]
                floor = floors.pop()
                count = counts.pop()
                if len(stack) <= floor:
                    raise IndexError
                node = ~stack[-1]
                if node < 0 or (kinds[node] != DICT_NODE and not self._takes(node, TAKES_PAIRS)):
                    raise self._no_change(node, opcode, i)
                if pairs & 1:
                    raise MalformedPickle(f"a key without a value (SETITEMS at byte {i})")
                if pairs:
                    memory += DICT_ITEM_MEMORY * pairs
                    weights[node] += pairs
                    if items is not None:
                        self._take(items, node, opcode, i)
                    if tuple(keys) in distinct and node not in self._keys:
                        self._keys[node] = keys  # as _add_keys does, for what nearly all dicts of records are
                    else:
                        self._add_keys(node, keys, False)
                elif kinds[node] != DICT_NODE:
                    # CPython's pickler ends a dict of a multiple of 1,000 items with an empty batch; nothing else.
                    raise MalformedPickle(f"an empty batch (SETITEMS at byte {i})")
                i += 1
            elif opcode == EMPTY_DICT:
                stack.append(~len(kinds))
                kinds.append(DICT_NODE)
                depths.append(1)
                weights.append(1)
                numbers.append(0)
                memory += DICT_MEMORY
                if memory + self._memory > max_memory:
                    raise limit("max_memory", opcode, i)
                i += 1
                # What as a rule comes next, without another turn; a frame never ends in between.
                if data[i] == MEMOIZE:
                    memo.append(stack[-1])
                    i += 1
                    if data[i] == MARK:
                        floors.append(floor)
                        counts.append(count)
                        floor = len(stack)
                        count = len(kinds) + again
                        i += 1
            elif opcode == EMPTY_LIST:
                stack.append(~len(kinds))
                kinds.append(LIST_NODE)
                depths.append(1)
                weights.append(1)
                numbers.append(0)
                memory += LIST_MEMORY
                if memory + self._memory > max_memory:
                    raise limit("max_memory", opcode, i)
                i += 1
                # What as a rule comes next, without another turn; a frame never ends in between.
                if data[i] == MEMOIZE:
                    memo.append(stack[-1])
                    i += 1
                    if data[i] == MARK:
                        floors.append(floor)
                        counts.append(count)
                        floor = len(stack)
                        count = len(kinds) + again
                        i += 1
            elif opcode == APPENDS:
                length = len(stack) - floor
                items = stack[floor:] if len(kinds) + again != count else None
                del stack[floor:]
                floor = floors.pop()
                count = counts.pop()
                if len(stack) <= floor:
                    raise IndexError
                node = ~stack[-1]
                if node < 0 or (kinds[node] != LIST_NODE and not self._takes_items(node, length, opcode, i)):
                    raise self._no_change(node, opcode, i)
                if not length:
                    raise MalformedPickle(f"an empty batch (APPENDS at byte {i})")
                weights[node] += length
                if items is not None:
                    self._take(items, node, opcode, i)
                i += 1
            elif TUPLE1 <= opcode <= TUPLE3:
                height = len(stack) - (opcode - TUPLE1 + 1)
                if height < floor:
                    raise IndexError
                items = stack[height:]
                del stack[height:]
                stack.append(self._tuple(items, min(items) < 0, i))
                i += 1
            elif opcode == SHORT_BINBYTES:
                length = data[i + 1]
                if length > rules.max_string:
                    raise limit("max_string", opcode, i)
                stack.append(i)
                i += 2 + length
            elif opcode == LONG1 or opcode == LONG4:  # noqa: SIM109 - does not build a tuple each time
                start = i + (2 if opcode == LONG1 else 5)
                length = int.from_bytes(data[i + 1 : start], "little") if opcode == LONG4 else data[i + 1]
                # The bits that the value has, where they are not surely few enough by its bytes.
                if length * 8 > max_bits and (
                    length * 8 > max_bits + 8 or integer(data[start : start + length]).bit_length() > max_bits
                ):
                    raise limit("max_integer_bits", opcode, i)
                stack.append(i)
                i = start + length
            elif opcode in (BINPUT, LONG_BINPUT):
                width = 2 if opcode == BINPUT else 5
                if int.from_bytes(data[i + 1 : i + width], "little") != len(memo) or len(stack) == floor:
                    raise MalformedPickle(f"a memo index out of order ({NAMES[opcode]} at byte {i})")
                memo.append(stack[-1])
                i += width
            elif opcode == LONG_BINGET:
                entry = memo[int.from_bytes(data[i + 1 : i + 5], "little")]
                if entry < 0:
                    kinds[~entry] |= CLOSED
                    again += 1
                stack.append(entry)
                i += 5
            elif opcode in (SETITEM, APPEND):
                height = len(stack) - (2 if opcode == SETITEM else 1)
                if height <= floor:
                    raise IndexError
                items = stack[height:]
                del stack[height:]
                node = ~stack[-1]
                if opcode == SETITEM:
                    right = node >= 0 and (kinds[node] == DICT_NODE or self._takes(node, TAKES_PAIRS))
                else:
                    right = node >= 0 and (kinds[node] == LIST_NODE or self._takes_items(node, 1, opcode, i))
                if not right:
                    raise self._no_change(node, opcode, i)
                weights[node] += len(items)
                if min(items) < 0:
                    self._take(items, node, opcode, i)
                if opcode == SETITEM:
                    memory += 2 * DICT_ITEM_MEMORY
                    self._add_keys(node, items[:1], False)
                i += 1
            elif opcode in (BINUNICODE, BINUNICODE8):
                start = i + (5 if opcode == BINUNICODE else 9)
                stop = start + self._length(i, start)
                if stop > clean:
                    clean = self._check_text(start, stop)
                stack.append(i)
                i = stop
            elif opcode in (BINBYTES, BINBYTES8, BYTEARRAY8):
                start = i + (5 if opcode == BINBYTES else 9)
                length = self._length(i, start)
                memory -= (TEXT_MEMORY - 1) * self._size(i)
                stack.append(self._node(BYTEARRAY_NODE, i, TUPLE_MEMORY) if opcode == BYTEARRAY8 else i)
                if opcode == BYTEARRAY8:
                    depths[-1] = 0  # it can change, and contains nothing
                i = start + length
            elif opcode in (TUPLE, FROZENSET, ADDITEMS):
                items = stack[floor:]
                nodes = len(kinds) + again != count
                del stack[floor:]
                floor = floors.pop()
                count = counts.pop()
                if opcode == TUPLE:
                    stack.append(self._tuple(items, nodes, i))
                elif opcode == FROZENSET:
                    stack.append(self._node(FROZENSET_NODE, 0, SET_MEMORY))
                    self._parts[~stack[-1]] = items
                    self._add_elements(~stack[-1], items, nodes, opcode, i)
                else:
                    if len(stack) <= floor:
                        raise IndexError
                    node = ~stack[-1]
                    if node < 0 or kinds[node] != SET_NODE:
                        raise self._no_change(node, opcode, i)
                    self._add_elements(node, items, nodes, opcode, i)
                i += 1
            elif opcode == EMPTY_SET:
                stack.append(self._node(SET_NODE, 0, SET_MEMORY))
                i += 1
            elif opcode == FRAME:
                if framed or data[1] < 4:
                    raise MalformedPickle(f"a frame out of place (FRAME at byte {i})")
                end = i + 9 + int.from_bytes(data[i + 1 : i + 9], "little")
                if end > size:
                    raise MalformedPickle(f"a frame longer than the message (FRAME at byte {i})")
                framed = True
                i += 9
            elif opcode == STOP:
                if i + 1 != size or end != size or len(stack) != 1 or floors:
                    raise MalformedPickle(f"more than one value, or bytes after the end (STOP at byte {i})")
                if memory + self._memory + OPCODE_MEMORY * opcodes > max_memory:
                    raise limit("max_memory", opcode, i)
                if stack[0] < 0:
                    self._check_root(~stack[0], i)
                return self._found
            else:
                raise MalformedPickle(f"opcode 0x{opcode:02x} at byte {i} has no place in a message")
        raise LimitExceeded(f"max_nodes: the message has more than {rules.max_nodes} opcodes")
