"""The vetting pass: reads a pickle as a machine would that builds nothing.

It runs over the whole message before anything is made of it, and keeps of each object that the message would make no
more than what it is (its *kind*), whether it is still open for items, how deep it is, how many objects it unfolds to,
and its keys. What it lets through CPython's own unpickler reads in the same way.

An entry of the stack or of the memo is an int: for a leaf the offset of its opcode, 0 or more; for anything that contains
something, a *node*, ``~number``, below 0. A node has a place in each of the lists below under its number.

Why each bound is kept here and not later: depth, because the hash of a deep tuple overflows the C stack; expanded size,
because the hash of shared tuples takes 2**depth steps in 59 bytes; dense memo indices, because a single index can make
the unpickler allocate a gigabyte; memory, because one byte makes an empty set of 216 bytes; and what has been used is
closed, because a cycle needs it open, and so does a change to the key of a dict.

This module is typed throughout and imports nothing but its neighbours, so that it can be compiled.
"""

from __future__ import annotations

from struct import unpack_from
from typing import Any, Final

from sealwire.errors import DecodeError, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.limits import Limits
from sealwire.pickling.grants import (
    CALL,
    CALL_EMPTY,
    FACTORY,
    NEW,
    PHRASE_ENCODE,
    PHRASE_GETATTR,
    PHRASE_ZONE,
    TAKES_FACTORY,
    TAKES_ITEMS,
    TAKES_PAIRS,
    UNHASHABLE,
    GrantTable,
)  # fmt: skip  # isort: skip
from sealwire.pickling.keys import KeyTable
from sealwire.pickling.opcodes import (
    ADDITEMS,
    APPEND,
    APPENDS,
    BINBYTES,
    BINBYTES8,
    BINFLOAT,
    BINGET,
    BININT,
    BININT1,
    BININT2,
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
    LEAF_WIDTH,
    LONG1,
    LONG4,
    LONG_BINGET,
    LONG_BINPUT,
    MARK,
    MEMOIZE,
    NAMES,
    NEWFALSE,
    NEWOBJ,
    NEWTRUE,
    NONE,
    PROTO,
    REDUCE,
    SETITEM,
    SETITEMS,
    SHORT_BINBYTES,
    SHORT_BINUNICODE,
    STACK_GLOBAL,
    STOP,
    TUPLE,
    TUPLE1,
    TUPLE3,
)  # fmt: skip  # isort: skip

FOUND_NAMES: Final = 1
"""The message names something of the table of grants."""
FOUND_INSTANCES: Final = 2
"""It makes stand-ins that take state, and must be resolved."""
FOUND_OBJECT_KEYS: Final = 4
"""It has keys whose hash is not known before they are made; nothing may be made directly."""

# Kinds of nodes. Those from NAME on are no values.
LIST_NODE: Final = 0
DICT_NODE: Final = 1
SET_NODE: Final = 2
TUPLE_NODE: Final = 3
FROZENSET_NODE: Final = 4
BYTES_NODE: Final = 5  # by the phrase of protocol 2
BYTEARRAY_NODE: Final = 6
CALLED_NODE: Final = 7
INSTANCE_NODE: Final = 8
NAME_NODE: Final = 9
NAMES_NODE: Final = 10  # a tuple with names in it: the arguments of a phrase
KIND: Final = 15
CLOSED: Final = 16

# Bytes charged for what a message makes, by CPython 3.11 to 3.13 on 64 bits, with the tables of this pass.
_OPCODE_MEMORY: Final = 64  # the largest leaf of fixed size, a slot for it in a list and one in the stack or the memo
_TEXT_MEMORY: Final = 4  # a byte of UTF-8 can become four
_LIST_MEMORY: Final = 160
_DICT_MEMORY: Final = 320
_SET_MEMORY: Final = 420
_TUPLE_MEMORY: Final = 140
_DICT_ITEM_MEMORY: Final = 56  # a key or a value, while the dict grows
_SET_ITEM_MEMORY: Final = 128
_CALLED_MEMORY: Final = 200

_SCAN: Final = 4096
_MAX_NAME: Final = 256


class Rules:
    """The table of grants and the bounds of one codec, as the vetting pass reads them."""

    def __init__(self, table: GrantTable, limits: Limits) -> None:
        self.numbers: Final = table.numbers
        self.powers: Final = table.powers
        self.memory: Final = table.memory
        self.spellings: Final = [grant.spelling for grant in table.grants]
        self.max_nodes: Final = limits.max_nodes
        self.max_depth: Final = limits.max_depth
        self.max_expanded_nodes: Final = limits.max_expanded_nodes
        self.max_memory: Final = limits.max_memory
        self.max_integer_bits: Final = limits.max_integer_bits
        self.max_string: Final = limits.max_string
        self.max_probes: Final = limits.max_probes


class Vetting:
    """One message under examination."""

    def __init__(self, data: bytes | memoryview, rules: Rules) -> None:
        self._data = data
        self._rules = rules
        self._kinds: list[int] = []
        self._depths: list[int] = []
        self._weights: list[int] = []
        """Of a node: how many objects it unfolds to, itself included."""
        self._numbers: list[int] = []
        """Of a called, instance or name node: the number of its grant; of a bytes node: the offset of its text."""
        self._parts: dict[int, list[int]] = {}
        """Of a tuple or frozenset: its items."""
        self._keys: dict[int, list[int]] = {}
        """Of a dict or set: the entries of its first keys."""
        self._tables: dict[int, KeyTable] = {}
        """Of a dict or set of more than one batch of keys, or of other keys than short str."""
        self._distinct: set[tuple[int, ...]] = set()
        """Keys that were found to be short str and distinct: the pickler shares them between alike dicts."""
        self._memory = 0
        self._found = 0

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
        kinds = self._kinds
        depths = self._depths
        weights = self._weights
        numbers = self._numbers
        leaf_width = LEAF_WIDTH
        stack: list[int] = []
        memo: list[int] = []
        # For each open mark: the height of the stack below the one before it, and the count of nodes pushed until then.
        floors: list[int] = []
        counts: list[int] = []
        floor = 0
        count = 0
        again = 0  # nodes pushed from the memo; with len(kinds) the count of nodes pushed
        memory = _TEXT_MEMORY * size
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
            width = leaf_width[opcode]
            if width:
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
                    memory += _DICT_ITEM_MEMORY * pairs
                    weights[node] += pairs
                    if items is not None:
                        self._take(items, node, opcode, i)
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
                memory += _DICT_MEMORY
                if memory + self._memory > max_memory:
                    raise _limit("max_memory", opcode, i)
                i += 1
            elif opcode == EMPTY_LIST:
                stack.append(~len(kinds))
                kinds.append(LIST_NODE)
                depths.append(1)
                weights.append(1)
                numbers.append(0)
                memory += _LIST_MEMORY
                if memory + self._memory > max_memory:
                    raise _limit("max_memory", opcode, i)
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
                if node < 0 or (kinds[node] != LIST_NODE and not self._takes(node, TAKES_ITEMS)):
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
            elif opcode == BINPUT or opcode == LONG_BINPUT:
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
            elif opcode == SETITEM or opcode == APPEND:
                height = len(stack) - (2 if opcode == SETITEM else 1)
                if height <= floor:
                    raise IndexError
                items = stack[height:]
                del stack[height:]
                node = ~stack[-1]
                if opcode == SETITEM:
                    right = node >= 0 and (kinds[node] == DICT_NODE or self._takes(node, TAKES_PAIRS))
                else:
                    right = node >= 0 and (kinds[node] == LIST_NODE or self._takes(node, TAKES_ITEMS))
                if not right:
                    raise self._no_change(node, opcode, i)
                weights[node] += len(items)
                if min(items) < 0:
                    self._take(items, node, opcode, i)
                if opcode == SETITEM:
                    memory += 2 * _DICT_ITEM_MEMORY
                    self._add_keys(node, items[:1], False)
                i += 1
            elif opcode == BINUNICODE or opcode == BINUNICODE8:
                start = i + (5 if opcode == BINUNICODE else 9)
                stop = start + self._length(i, start)
                if stop > clean:
                    clean = self._check_text(start, stop)
                stack.append(i)
                i = stop
            elif opcode == SHORT_BINBYTES or opcode == BINBYTES or opcode == BINBYTES8 or opcode == BYTEARRAY8:
                start = i + (2 if opcode == SHORT_BINBYTES else 5 if opcode == BINBYTES else 9)
                length = self._length(i, start)
                memory -= (_TEXT_MEMORY - 1) * length
                stack.append(self._node(BYTEARRAY_NODE, 0, _TUPLE_MEMORY) if opcode == BYTEARRAY8 else i)
                i = start + length
            elif opcode == LONG1 or opcode == LONG4:
                start = i + (2 if opcode == LONG1 else 5)
                length = int.from_bytes(data[i + 1 : start], "little")
                # The bits that the value has, where they are not surely few enough by its bytes.
                if length * 8 > rules.max_integer_bits and (
                    length * 8 > rules.max_integer_bits + 8
                    or _integer(data[start : start + length]).bit_length() > rules.max_integer_bits
                ):
                    raise _limit("max_integer_bits", opcode, i)
                stack.append(i)
                i = start + length
            elif opcode == TUPLE or opcode == FROZENSET or opcode == ADDITEMS:
                items = stack[floor:]
                nodes = len(kinds) + again != count
                del stack[floor:]
                floor = floors.pop()
                count = counts.pop()
                if opcode == TUPLE:
                    stack.append(self._tuple(items, nodes, i))
                elif opcode == FROZENSET:
                    stack.append(self._node(FROZENSET_NODE, 0, _SET_MEMORY))
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
                stack.append(self._node(SET_NODE, 0, _SET_MEMORY))
                i += 1
            elif opcode == STACK_GLOBAL or opcode == GLOBAL:
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
                if number < 0:
                    raise TypeNotAllowed(
                        f"the message names a type that is not on the allowlist ({NAMES[opcode]} at byte {i})"
                    )
                self._found |= FOUND_NAMES
                stack.append(self._node(NAME_NODE, number, 0))
                i += width
            elif opcode == REDUCE:
                if len(stack) - floor < 2:
                    raise IndexError
                entry = stack.pop()
                stack[-1] = self._reduce(stack[-1], entry, i)
                i += 1
            elif opcode == NEWOBJ:
                if len(stack) - floor < 2:
                    raise IndexError
                entry = stack.pop()
                stack[-1] = self._new(stack[-1], entry, i)
                i += 1
            elif opcode == BUILD:
                if len(stack) - floor < 2:
                    raise IndexError
                entry = stack.pop()
                node = ~stack[-1]
                if node < 0 or kinds[node] != INSTANCE_NODE:
                    raise self._no_change(node, opcode, i)
                weights[node] += 1
                self._take([entry], node, opcode, i)
                kinds[node] |= CLOSED
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
                if memory + self._memory + _OPCODE_MEMORY * opcodes > max_memory:
                    raise _limit("max_memory", opcode, i)
                if stack[0] < 0:
                    self._check_root(~stack[0], i)
                return self._found
            else:
                raise MalformedPickle(f"opcode 0x{opcode:02x} at byte {i} has no place in a message")
        raise LimitExceeded(f"max_nodes: the message has more than {rules.max_nodes} opcodes")

    # Nodes

    def _node(self, kind: int, number: int, memory: int) -> int:
        """A new node without parts; returns its stack entry."""
        entry = ~len(self._kinds)
        self._kinds.append(kind)
        self._depths.append(1)
        self._weights.append(1)
        self._numbers.append(number)
        self._memory += memory
        if self._memory > self._rules.max_memory:
            raise LimitExceeded("max_memory: what the message makes takes too much")
        return entry

    def _takes(self, node: int, power: int) -> bool:
        """Whether a node is the result of a call, not used yet, that takes items."""
        return self._kinds[node] == CALLED_NODE and self._rules.powers[self._numbers[node]] & power != 0

    def _no_change(self, node: int, opcode: int, at: int) -> DecodeError:
        """The reason why items or state cannot go where the message puts them."""
        where = f"({NAMES[opcode]} at byte {at})"
        if node < 0 or not self._kinds[node] & CLOSED:
            return TypeNotAllowed(f"the message changes what may not be changed {where}")
        return MalformedPickle(f"a cycle, or a change of an object after its use {where}")

    def _take(self, items: list[int], node: int, opcode: int, at: int) -> None:
        """Items go into a node, whose weight already counts one for each: close them, add up depth and weight."""
        kinds = self._kinds
        depths = self._depths
        weights = self._weights
        depth = 0
        weight = weights[node] - len(items)
        for entry in items:
            if entry < 0:
                part = ~entry
                kind = kinds[part]
                if kind & KIND >= NAME_NODE:
                    raise TypeNotAllowed(f"a class is not a value ({NAMES[opcode]} at byte {at})")
                kinds[part] = kind | CLOSED
                if depths[part] > depth:
                    depth = depths[part]
                weight += weights[part]
            else:
                weight += 1
        if depth >= depths[node]:
            if depth >= self._rules.max_depth:
                raise _limit("max_depth", opcode, at)
            depths[node] = depth + 1
        if weight > self._rules.max_expanded_nodes:
            raise _limit("max_expanded_nodes", opcode, at)
        weights[node] = weight

    def _tuple(self, items: list[int], nodes: bool, at: int) -> int:
        kinds = self._kinds
        kind = TUPLE_NODE
        if nodes and any([entry < 0 and kinds[~entry] & KIND == NAME_NODE for entry in items]):
            if len(items) > 2:
                raise TypeNotAllowed(f"a class is not a value ({NAMES[TUPLE]} at byte {at})")
            kind = NAMES_NODE
        entry = self._node(kind, 0, _TUPLE_MEMORY + 16 * len(items))
        self._weights[~entry] += len(items)
        self._parts[~entry] = items
        if nodes and kind == TUPLE_NODE:
            self._take(items, ~entry, TUPLE, at)
        return entry

    def _add_elements(self, node: int, items: list[int], nodes: bool, opcode: int, at: int) -> None:
        if items:
            self._memory += _SET_ITEM_MEMORY * len(items)
            self._weights[node] += len(items)
            if nodes:
                self._take(items, node, opcode, at)
            self._add_keys(node, items, True)

    def _check_root(self, node: int, at: int) -> None:
        if self._kinds[node] & KIND >= NAME_NODE:
            raise TypeNotAllowed(f"a class is not a value (STOP at byte {at})")
        if self._weights[node] > self._rules.max_expanded_nodes:
            raise _limit("max_expanded_nodes", STOP, at)

    # Calls

    def _granted(self, entry: int, power: int, opcode: int, at: int) -> int:
        """The number of the grant that an entry names, where it has one of the powers."""
        if entry >= 0 or self._kinds[~entry] & KIND != NAME_NODE:
            raise TypeNotAllowed(f"only what has a name can be called ({NAMES[opcode]} at byte {at})")
        number = self._numbers[~entry]
        if not self._rules.powers[number] & power:
            raise TypeNotAllowed(
                f"{self._rules.spellings[number]} may not be used like this ({NAMES[opcode]} at byte {at})"
            )
        return number

    def _is_name(self, entry: int, power: int) -> bool:
        return (
            entry < 0
            and self._kinds[~entry] & KIND == NAME_NODE
            and self._rules.powers[self._numbers[~entry]] & power != 0
        )

    def _reduce(self, function: int, arguments: int, at: int) -> int:
        """The entry that a call leaves."""
        number = self._granted(function, CALL | CALL_EMPTY | PHRASE_GETATTR | PHRASE_ENCODE, REDUCE, at)
        powers = self._rules.powers[number]
        if arguments >= 0:
            if self._data[arguments] != EMPTY_TUPLE or not powers & CALL_EMPTY:
                raise self._wrong_arguments(number, at)
            return self._called(number)
        kind = self._kinds[~arguments] & KIND
        parts = self._parts.get(~arguments, [])
        if kind == NAMES_NODE and powers & PHRASE_GETATTR:
            if not (self._is_name(parts[0], PHRASE_ZONE) and self._text(parts[-1], REDUCE, at) == "_unpickle"):
                raise self._wrong_arguments(number, at)
            return self._node(NAME_NODE, self._numbers[~parts[0]] + 1, 0)
        if kind == NAMES_NODE and powers & TAKES_FACTORY:
            if len(parts) != 1 or not self._is_name(parts[0], FACTORY):
                raise self._wrong_arguments(number, at)
            return self._called(number)
        if kind != TUPLE_NODE:
            raise self._wrong_arguments(number, at)
        if powers & PHRASE_ENCODE:
            if len(parts) != 2 or self._text(parts[1], REDUCE, at) != "latin1":
                raise self._wrong_arguments(number, at)
            self._text(parts[0], REDUCE, at)
            return self._node(BYTES_NODE, parts[0], _CALLED_MEMORY)
        if not powers & CALL:
            raise self._wrong_arguments(number, at)
        entry = self._called(number)
        self._weights[~entry] += 1
        self._take([arguments], ~entry, REDUCE, at)
        return entry

    def _wrong_arguments(self, number: int, at: int) -> DecodeError:
        return MalformedPickle(f"{self._rules.spellings[number]} with other arguments (REDUCE at byte {at})")

    def _called(self, number: int) -> int:
        return self._node(CALLED_NODE, number, _CALLED_MEMORY + self._rules.memory[number])

    def _new(self, cls: int, arguments: int, at: int) -> int:
        number = self._granted(cls, NEW, NEWOBJ, at)
        if arguments < 0 or self._data[arguments] != EMPTY_TUPLE:
            raise MalformedPickle(f"{self._rules.spellings[number]} with arguments (NEWOBJ at byte {at})")
        self._found |= FOUND_INSTANCES
        return self._node(INSTANCE_NODE, number, _CALLED_MEMORY + self._rules.memory[number])

    # Keys

    def _add_keys(self, node: int, keys: list[int], is_set: bool) -> None:
        """Keys go into a dict or set: refuse duplicates, what is not hashable, NaN, and collisions."""
        first = self._keys.get(node)
        table = self._tables.get(node)
        if first is None:
            self._keys[node] = keys
            signature = tuple(keys)
            if signature in self._distinct:
                return
            if self._short_and_distinct(keys):
                self._distinct.add(signature)
                return
        if table is None:
            table = self._tables[node] = KeyTable(is_set, self._rules.max_probes)
            if first is not None:
                table.add([self._key(entry) for entry in first])
        table.add([self._key(entry) for entry in keys])

    def _short_and_distinct(self, keys: list[int]) -> bool:
        data = self._data
        if not isinstance(data, bytes):
            return False
        texts = {data[k + 2 : k + 2 + data[k + 1]] for k in keys if k >= 0 and data[k] == SHORT_BINUNICODE}
        return len(texts) == len(keys)

    def _key(self, entry: int) -> Any:
        """A value that is equal to a key to be, and has its hash; for an object, one that nothing else is equal to."""
        data = self._data
        if entry < 0:
            return self._node_key(~entry)
        opcode = data[entry]
        if opcode == BININT1:
            return data[entry + 1]
        if opcode == BININT2:
            return data[entry + 1] | data[entry + 2] << 8
        if opcode == BININT:
            return _integer(data[entry + 1 : entry + 5])
        if opcode == LONG1:
            return _integer(data[entry + 2 : entry + 2 + data[entry + 1]])
        if opcode == LONG4:
            return _integer(data[entry + 5 : entry + 5 + int.from_bytes(data[entry + 1 : entry + 5], "little")])
        if opcode == BINFLOAT:
            value: float = unpack_from(">d", data, entry + 1)[0]
            if value != value:
                raise MalformedPickle(f"NaN as a key (BINFLOAT at byte {entry})")
            return value
        if opcode == NONE:
            return None
        if opcode == NEWTRUE or opcode == NEWFALSE:
            return opcode == NEWTRUE
        if opcode == EMPTY_TUPLE:
            return ()
        start = entry + _HEADERS[opcode]
        piece = self._cut(start, start + int.from_bytes(data[entry + 1 : start], "little"))
        return piece if opcode == SHORT_BINBYTES or opcode == BINBYTES or opcode == BINBYTES8 else piece.decode()

    def _node_key(self, node: int) -> Any:
        kind = self._kinds[node] & KIND
        if kind == TUPLE_NODE:
            return tuple(map(self._key, self._parts[node]))
        if kind == FROZENSET_NODE:
            return frozenset(map(self._key, self._parts[node]))
        if kind == BYTES_NODE:
            try:
                return self._text(~self._numbers[node], REDUCE, 0).encode("latin-1")
            except UnicodeEncodeError:
                raise MalformedPickle("_codecs.encode of other than Latin-1") from None
        if kind < BYTES_NODE or kind == BYTEARRAY_NODE or self._rules.powers[self._numbers[node]] & UNHASHABLE:
            raise MalformedPickle("a key that is not hashable")
        self._found |= FOUND_OBJECT_KEYS
        return (_OBJECT, node)

    # Bytes

    def _cut(self, start: int, stop: int) -> bytes:
        return bytes(self._data[start:stop])

    def _length(self, at: int, start: int) -> int:
        """The length of the str or bytes whose length field ends at ``start``."""
        length = int.from_bytes(self._data[at + 1 : start], "little")
        if length > self._rules.max_string:
            raise _limit("max_string", self._data[at], at)
        if length > len(self._data) - start:
            raise MalformedPickle(f"the pickle is truncated ({NAMES[self._data[at]]} at byte {at})")
        return length

    def _check_text(self, start: int, stop: int) -> int:
        """Refuse lone surrogates in a str; return the offset up to which there are none."""
        rules = self._rules
        if stop - start > rules.max_string:
            raise _limit("max_string", SHORT_BINUNICODE, start)
        # A surrogate begins with this byte; as a rule there is none far and wide.
        limit = max(stop, start + _SCAN)
        data = self._data
        if isinstance(data, bytes):
            found = data.find(b"\xed", start, limit)
        else:
            found = bytes(data[start:limit]).find(b"\xed")
            found += start if found >= 0 else 0
        if 0 <= found < stop:
            self._cut(start, stop).decode()
            return stop
        if rules.max_string < 255:
            return 0
        return limit if found < 0 else found

    def _text(self, entry: int, opcode: int, at: int) -> str:
        """The text of a name: a str leaf."""
        start = entry + _HEADERS.get(self._data[entry], 0) if entry >= 0 else 0
        if entry < 0 or self._data[entry] not in _TEXTS:
            raise MalformedPickle(f"a str is wanted ({NAMES[opcode]} at byte {at})")
        return self._cut(start, start + int.from_bytes(self._data[entry + 1 : start], "little")).decode()

    def _find_line(self, start: int) -> int:
        """The offset of the next newline, which ends a name of GLOBAL."""
        found = self._cut(start, start + _MAX_NAME).find(b"\n")
        if found < 0:
            raise MalformedPickle(f"a name without an end (GLOBAL before byte {start})")
        return start + found


_OBJECT: Final = object()
"""With its number, stands for a key that is an object: no other key is equal to it, as far as is known yet."""
_HEADERS: Final = {
    SHORT_BINUNICODE: 2, BINUNICODE: 5, BINUNICODE8: 9, SHORT_BINBYTES: 2, BINBYTES: 5, BINBYTES8: 9,
}  # fmt: skip
_TEXTS: Final = frozenset((SHORT_BINUNICODE, BINUNICODE, BINUNICODE8))


def _integer(data: bytes | memoryview) -> int:
    return int.from_bytes(data, "little", signed=True)


def _limit(name: str, opcode: int, at: int) -> LimitExceeded:
    return LimitExceeded(f"{name}: the message goes beyond the limit ({NAMES[opcode]} at byte {at})")
