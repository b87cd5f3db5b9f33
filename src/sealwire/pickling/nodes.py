"""The objects that a message would make, as the vetting pass keeps them.

An entry of the stack or of the memo is an int: for a leaf the offset of its opcode, 0 or more; for anything that
contains something, a *node*, ``~number``, below 0. A node has a place in each of the lists below under its number.
"""

from __future__ import annotations

from typing import Any, Final

from sealwire.errors import DecodeError, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.pickling.grants import (
    CALL,
    CALL_EMPTY,
    DEFERRED,
    FACTORY,
    GETATTR,
    NEW,
    NEW_WITH,
    PAIRED,
    PHRASE_ENCODE,
    REBUILDS,
    TAKES_FACTORY,
    TAKES_ITEMS,
    TAKES_STATE,
    UNHASHABLE,
)
from sealwire.pickling.keys import MANY_KEYS, KeyTable, Pair, check_few_keys, check_pairs
from sealwire.pickling.leaves import INTEGERS, NUMBERS, Leaves, Rules, limit
from sealwire.pickling.opcodes import (
    EMPTY_TUPLE,
    NAMES,
    NEWOBJ,
    REDUCE,
    SHORT_BINUNICODE,
    STOP,
    TUPLE,
)

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
CALLED_NODE: Final = 7  # what a call leaves, or NEWOBJ with arguments
INSTANCE_NODE: Final = 8  # takes state
NAME_NODE: Final = 9
NAMES_NODE: Final = 10  # a tuple that begins with a name: the arguments of a phrase
KIND: Final = 15
CLOSED: Final = 16

# Bytes charged for what a message makes, by CPython 3.11 to 3.13 on 64 bits, with the tables of this pass.
OPCODE_MEMORY: Final = 88  # the largest leaf of fixed size, a slot for it in a list and one in the stack or the memo
TEXT_MEMORY: Final = 4  # a byte of UTF-8 can become four
LIST_MEMORY: Final = 160
DICT_MEMORY: Final = 320
SET_MEMORY: Final = 420
TUPLE_MEMORY: Final = 140
DICT_ITEM_MEMORY: Final = 56  # a key or a value, while the dict grows
SET_ITEM_MEMORY: Final = 128
CALLED_MEMORY: Final = 200
COPIED_MEMORY: Final = 128  # an item of a list or dict that a call copies

LARGE_KEY: Final = 64
"""Objects in a key from which on its size is charged."""
KEY_SHARE: Final = 16
"""The share of max_expanded_nodes that large keys may have: each is hashed by both passes, and compared."""

MANY_SIGNATURES: Final = 256
"""Lists of keys that are remembered as distinct; their hashes are a peer's to choose."""

_REMEDY: Final = "; its adapter reads what encode writes: for plain pickles, give the class a __reduce__ with its parts"
_ANY_CALL: Final = CALL | CALL_EMPTY | GETATTR | PHRASE_ENCODE | TAKES_FACTORY | REBUILDS


class Nodes(Leaves):
    """The nodes of one message, what happens to them, and the bounds on them."""

    def __init__(self, data: bytes, rules: Rules, aside: dict[int, Any] | None = None) -> None:
        super().__init__(data, rules, {} if aside is None else aside)
        self._kinds: list[int] = []
        self._depths: list[int] = []
        self._weights: list[int] = []
        """Of a node: how many objects it unfolds to, itself included."""
        self._numbers: list[int] = []
        """Of a called, instance or name node: the number of its grant; of a bytes node: the offset of its text; of a
        bytearray node: its offset."""
        self._parts: dict[int, list[int]] = {}
        """Of a tuple or frozenset: its items."""
        self._keys: dict[int, list[int]] = {}
        """Of a dict or set: the entries of its first keys."""
        self._tables: dict[int, KeyTable] = {}
        """Of a dict or set of many keys that are not all short str, or of more than one batch."""
        self._made: dict[int, Any] = {}
        """Keys by entry: what is used as a key again and again is made once."""
        self._key_weight = 0
        """Objects in large keys, counted each time that one is used: so often it is hashed, and perhaps compared."""
        self._distinct: set[tuple[int, ...]] = set()
        """Keys that were found to be short str and distinct: the pickler shares them between alike dicts."""
        self._room: dict[int, int] = {}
        """Of a new deque with a maxlen: how many items it still takes; what is beyond would be dropped in silence."""
        self._pairs: list[Pair] = []
        """The arguments of calls that are PAIRED."""
        self._memory = 0
        self._found = 0

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

    def _takes_items(self, node: int, length: int, opcode: int, at: int) -> bool:
        if not self._takes(node, TAKES_ITEMS):
            return False
        if node in self._room:
            self._room[node] -= length
            if self._room[node] < 0:
                raise MalformedPickle(f"a deque of more items than its maxlen ({NAMES[opcode]} at byte {at})")
        return True

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
                raise limit("max_depth", opcode, at)
            depths[node] = depth + 1
        if weight > self._rules.max_expanded_nodes:
            raise limit("max_expanded_nodes", opcode, at)
        weights[node] = weight

    def _tuple(self, items: list[int], nodes: bool, at: int) -> int:
        kinds = self._kinds
        kind = TUPLE_NODE
        if nodes and items and items[0] < 0 and kinds[~items[0]] & KIND == NAME_NODE:
            kind = NAMES_NODE
        entry = self._node(kind, 0, TUPLE_MEMORY + 16 * len(items))
        self._weights[~entry] += len(items)
        self._parts[~entry] = items
        if kind == NAMES_NODE:
            self._take(items[1:], ~entry, TUPLE, at)
        elif nodes:
            self._take(items, ~entry, TUPLE, at)
        return entry

    def _add_elements(self, node: int, items: list[int], nodes: bool, opcode: int, at: int) -> None:
        if items:
            self._memory += SET_ITEM_MEMORY * len(items)
            self._weights[node] += len(items)
            if nodes:
                self._take(items, node, opcode, at)
            self._add_keys(node, items, True)

    def _check_root(self, node: int, at: int) -> None:
        if self._kinds[node] & KIND >= NAME_NODE:
            raise TypeNotAllowed(f"a class is not a value (STOP at byte {at})")
        if self._weights[node] > self._rules.max_expanded_nodes:
            raise limit("max_expanded_nodes", STOP, at)
        if self._pairs:
            check_pairs(self._pairs, self._rules.max_probes)

    # Calls

    def _granted(self, entry: int, power: int, opcode: int, at: int) -> int:
        """The number of the grant that an entry names, where it has one of the powers."""
        if entry >= 0 or self._kinds[~entry] & KIND != NAME_NODE:
            raise TypeNotAllowed(f"only what has a name can be called ({NAMES[opcode]} at byte {at})")
        number = self._numbers[~entry]
        if not self._rules.powers[number] & power:
            raise TypeNotAllowed(
                f"{self._rules.spellings[number]} may not be used like this ({NAMES[opcode]} at byte {at})"
                f"{_REMEDY if opcode == NEWOBJ and self._rules.powers[number] & CALL else ''}"
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
        number = self._granted(function, _ANY_CALL, REDUCE, at)
        powers = self._rules.powers[number]
        if arguments >= 0:
            if self._data[arguments] != EMPTY_TUPLE or not powers & CALL_EMPTY:
                raise self._wrong_arguments(number, at)
            return self._called(number)
        kind = self._kinds[~arguments] & KIND
        if kind == TUPLE_NODE and powers & CALL:
            entry = self._called(number)
            self._weights[~entry] = 2
            self._take([arguments], ~entry, REDUCE, at)
            self._charge_copies(number, self._parts[~arguments])
            parts = self._parts[~arguments]
            if powers & PAIRED:
                self._add_pair(parts)
            elif powers & TAKES_ITEMS and len(parts) == 2 and parts[1] >= 0 and self._data[parts[1]] in INTEGERS:
                self._room[~entry] = self._leaf_key(parts[1])
            return entry
        if kind == NAMES_NODE:
            return self._phrase(number, self._parts[~arguments], at)
        if kind == TUPLE_NODE and powers & PHRASE_ENCODE:
            parts = self._parts[~arguments]
            if len(parts) == 2 and self._text(parts[1], REDUCE, at) == "latin1":
                self._text(parts[0], REDUCE, at)
                self._charge_copies(number, parts[:1])
                return self._node(BYTES_NODE, parts[0], CALLED_MEMORY)
        raise self._wrong_arguments(number, at)

    def _add_pair(self, parts: list[int]) -> None:
        if len(parts) == 2 and all(entry >= 0 and self._data[entry] in INTEGERS for entry in parts):
            first, second = self._leaf_key(parts[0]), self._leaf_key(parts[1])
            self._pairs.append((hash((first, second)), first, second))

    def _phrase(self, number: int, parts: list[int], at: int) -> int:
        """The entry that a call leaves whose first argument is a name."""
        powers = self._rules.powers[number]
        if powers & GETATTR:
            if len(parts) == 2:
                found = self._rules.members.get((self._numbers[~parts[0]], self._text(parts[1], REDUCE, at)), -1)
                if found >= 0:
                    return self._node(NAME_NODE, found, 0)
        elif powers & TAKES_FACTORY:
            if len(parts) == 1 and self._is_name(parts[0], FACTORY):
                return self._called(number)
        elif powers & REBUILDS:
            found = self._rules.rebuilt.get((number, self._numbers[~parts[0]]), -1)
            if found >= 0:
                entry = self._called(found)
                self._weights[~entry] = len(parts)
                self._take(parts[1:], ~entry, REDUCE, at)
                return entry
        raise self._wrong_arguments(number, at)

    def _charge_copies(self, number: int, parts: list[int]) -> None:
        """Arguments can be shared between calls, and each call makes something of them, or computes with them."""
        rules = self._rules
        memory = 0
        for part in parts:
            entry = part
            if part < 0 and self._kinds[~part] & KIND in (BYTES_NODE, BYTEARRAY_NODE):
                entry = self._numbers[~part]
            memory += (
                COPIED_MEMORY * (self._weights[~entry] - 1) if entry < 0 else rules.stretch[number] * self._size(entry)
            )
        self._memory += memory
        if self._memory > rules.max_memory:
            raise LimitExceeded("max_memory: what the message makes takes too much")

    def _charge_state(self, node: int, state: int) -> None:
        """The same for a tuple that is the state of what a call made."""
        if state < 0 and self._rules.powers[self._numbers[node]] & TAKES_STATE:
            self._charge_copies(self._numbers[node], self._parts.get(~state, []))

    def _wrong_arguments(self, number: int, at: int) -> DecodeError:
        return MalformedPickle(f"{self._rules.spellings[number]} with other arguments (REDUCE at byte {at})")

    def _called(self, number: int) -> int:
        if self._rules.powers[number] & (TAKES_STATE | DEFERRED):
            self._found |= FOUND_INSTANCES
        return self._node(CALLED_NODE, number, CALLED_MEMORY + self._rules.memory[number])

    def _new(self, cls: int, arguments: int, at: int) -> int:
        number = self._granted(cls, NEW | NEW_WITH, NEWOBJ, at)
        kind = INSTANCE_NODE if self._rules.powers[number] & NEW else CALLED_NODE
        entry = self._node(kind, number, CALLED_MEMORY + self._rules.memory[number])
        if arguments < 0 or self._data[arguments] != EMPTY_TUPLE:
            if (
                arguments >= 0
                or self._kinds[~arguments] & KIND != TUPLE_NODE
                or not self._rules.powers[number] & NEW_WITH
            ):
                raise MalformedPickle(f"{self._rules.spellings[number]} with other arguments (NEWOBJ at byte {at})")
            self._weights[~entry] = 2
            self._take([arguments], ~entry, NEWOBJ, at)
        self._found |= FOUND_INSTANCES
        return entry

    def _takes_state(self, node: int) -> bool:
        """Whether a node is an instance or the result of a call that takes state, and not used yet."""
        kind = self._kinds[node]
        if kind == CALLED_NODE:
            return self._rules.powers[self._numbers[node]] & TAKES_STATE != 0
        return kind == INSTANCE_NODE

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
                if len(self._distinct) < MANY_SIGNATURES:
                    self._distinct.add(signature)
                return
        self._charge_keys(keys)
        made = [self._key(entry) for entry in keys]
        if table is None:
            if first is None and len(made) <= MANY_KEYS:
                # As a rule there is no second batch.
                check_few_keys(made)
                return
            table = self._tables[node] = KeyTable(is_set, self._rules.max_probes)
            if first is not None:
                table.add([self._key(entry) for entry in first])
        table.add(made)

    def _short_and_distinct(self, keys: list[int]) -> bool:
        data = self._data
        texts = {data[k + 2 : k + 2 + data[k + 1]] for k in keys if k >= 0 and data[k] == SHORT_BINUNICODE}
        return len(texts) == len(keys)

    def _charge_keys(self, keys: list[int]) -> None:
        weights = self._weights
        for entry in keys:
            if entry < 0 and weights[~entry] > LARGE_KEY:
                self._key_weight += weights[~entry]
        if self._key_weight > self._rules.max_expanded_nodes // KEY_SHARE:
            raise LimitExceeded(f"max_expanded_nodes: its keys have more than a {KEY_SHARE}th of so many objects")

    def _key(self, entry: int) -> Any:
        """A value that is equal to a key to be, and has its hash; for an object, one that nothing else is equal to."""
        if entry >= 0 and self._data[entry] in NUMBERS:
            return self._leaf_key(entry)  # is made faster than found
        if entry not in self._made:
            self._made[entry] = self._leaf_key(entry) if entry >= 0 else self._node_key(~entry)
        return self._made[entry]

    def _node_key(self, node: int) -> Any:
        kind = self._kinds[node] & KIND
        if kind == TUPLE_NODE:
            return tuple(map(self._key, self._parts[node]))
        if kind == FROZENSET_NODE:
            return frozenset(map(self._key, self._parts[node]))
        if kind == BYTES_NODE:
            try:
                return self._text(self._numbers[node], REDUCE, 0).encode("latin-1")
            except UnicodeEncodeError:
                raise MalformedPickle("_codecs.encode of other than Latin-1") from None
        if kind < BYTES_NODE or kind == BYTEARRAY_NODE or self._rules.powers[self._numbers[node]] & UNHASHABLE:
            raise MalformedPickle("a key that is not hashable")
        self._found |= FOUND_OBJECT_KEYS
        return (_OBJECT, node)


_OBJECT: Final = object()
"""With its number, stands for a key that is an object: no other key is equal to it, as far as is known yet."""
