"""The objects that a message would make, as the vetting pass keeps them.

The stack and the memo of the vetting pass hold *entries*, which are ints. A leaf is the offset of its opcode, 0 or
more. Anything that contains other objects, or can change, is a *node*: it has a number, and its entry is ``~number``,
below 0. The number is an index into parallel lists (kind, depth, expanded size, detail), because five ints in lists
take less time and memory than an object.

A node is open when it is made and closed once it was used: put into another node, passed to a call, or taken from the
memo. Only an open node takes items or state. Therefore a container never contains itself, and a key never changes after
it was hashed. Depth and expanded size are final when a node is closed, so that adding them up when items go into a
container costs one step for each item, however often a part is shared.

Keys are checked when they go into a dict or set. For each a stand-in value is made that compares and hashes like the
key that will be built; an object that can be hashed only after it was made is represented by a unique value, and the
keys of its dict are checked again after building (:mod:`.built_keys`).
"""

from __future__ import annotations

from typing import Any, Final

from sealwire.errors import DecodeError, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.pickling.dict_keys import MANY_KEYS, KeyTable
from sealwire.pickling.globals import UNHASHABLE
from sealwire.pickling.key_costs import KeyCosts
from sealwire.pickling.leaves import NUMBERS, Leaves, VettingRules, limit_exceeded
from sealwire.pickling.opcodes import OPCODE_NAMES, REDUCE, SHORT_BINUNICODE, TUPLE

FOUND_GLOBALS: Final = 1
"""The message names an entry of the table of globals."""
FOUND_PLACEHOLDERS: Final = 2
"""The message makes placeholders, which must be resolved after it was built."""
FOUND_OBJECT_KEYS: Final = 4
"""The message has keys that can be hashed or checked only after they were made; no value may be made while it is
built."""

# Kinds of nodes. Those from GLOBAL_NODE on are not values.
LIST_NODE: Final = 0
DICT_NODE: Final = 1
SET_NODE: Final = 2
TUPLE_NODE: Final = 3
FROZENSET_NODE: Final = 4
BYTES_NODE: Final = 5  # made by _codecs.encode, as protocol 2 writes bytes
BYTEARRAY_NODE: Final = 6
CALLED_NODE: Final = 7  # the result of a call, or of NEWOBJ with arguments
INSTANCE_NODE: Final = 8  # the result of NEWOBJ without arguments; takes state
GLOBAL_NODE: Final = 9
GLOBAL_TUPLE_NODE: Final = 10  # a tuple with a global as its first item: the arguments of a call that takes a class
KIND: Final = 15
CLOSED: Final = 16
"""A bit beside the kind: the node was used and takes nothing more."""

# Bytes charged for each part of a message, for CPython 3.11 to 3.13 on 64 bits, including the tables of this pass.
OPCODE_MEMORY: Final = 88  # the largest leaf of fixed size, a slot for it in a list and one on the stack or in the memo
TEXT_MEMORY: Final = 4  # a byte of UTF-8 can become four
LIST_MEMORY: Final = 160
DICT_MEMORY: Final = 320
SET_MEMORY: Final = 420
TUPLE_MEMORY: Final = 140
DICT_ITEM_MEMORY: Final = 56  # a key or a value, while the dict grows
SET_ITEM_MEMORY: Final = 168
KEY_NODE_MEMORY: Final = 140  # the stand-in of a tuple or frozenset that is a key, and its place in a table
KEY_PART_MEMORY: Final = 100  # the stand-in of a part of it
LONG_TEXT_COPIES: Final = 2  # of the bytes of the longest str, while one is decoded and, as a key, cut out

_MAX_DISTINCT: Final = 256
"""Lists of keys to remember as distinct. Bounded, because a peer can choose entries that collide."""
_OBJECT: Final = ...
"""Paired with its number, represents a key that is an object and that equals no other key as far as is known yet. No
message has this value."""


class Nodes(Leaves):
    """The nodes of one message and their keys, and the bounds on both."""

    def __init__(self, data: bytes, rules: VettingRules, large_buffers: dict[int, Any] | None = None) -> None:
        super().__init__(data, rules, {} if large_buffers is None else large_buffers)
        self._stack: list[int] = []
        self._memo: list[int] = []
        self._memo_pushes = 0
        """Nodes pushed from the memo; with the number of nodes, all that were pushed."""
        self._mark_heights: list[int] = [0]
        """The bottom of the stack; and for each open mark the height of the stack below it."""
        self._mark_counts: list[int] = []
        """For each open mark, the number of nodes that had been pushed."""
        self._kinds: list[int] = []
        self._depths: list[int] = []
        self._expanded_sizes: list[int] = []
        """The number of objects in each node, itself included, with shared parts counted each time."""
        self._details: list[int] = []
        """For a called, instance or global node, the number of its rule; for a bytes or bytearray node, the offset of
        its content."""
        self._items: dict[int, list[int]] = {}
        """The items of each tuple and frozenset."""
        self._first_keys: dict[int, list[int]] = {}
        """The entries of the first keys of each dict and set."""
        self._key_tables: dict[int, KeyTable] = {}
        """The tables of dicts and sets with many keys that are not all short str, or with more than one batch."""
        self._key_values: dict[int, Any] = {}
        """The values of keys, by entry, so that a key that is used repeatedly is made once."""
        self._key_costs = KeyCosts(rules.max_expanded_nodes)
        self._distinct_keys: set[tuple[int, ...]] = set()
        """Lists of keys known to be short, distinct str; the pickler shares such keys between dicts of one form."""
        self._memory = 0
        """Bytes charged for nodes so far."""
        self._content_memory = TEXT_MEMORY * (len(data) + sum(map(len, self._large_buffers.values())))
        """Bytes charged for leaves and for the items of dicts."""
        self._longest_text = 0
        """Bytes of the longest str of more than 255."""
        self._found = 0

    # Nodes

    def _node(self, kind: int, detail: int, memory: int) -> int:
        """Add a node without items and return its entry."""
        entry = ~len(self._kinds)
        self._kinds.append(kind)
        self._depths.append(1)
        self._expanded_sizes.append(1)
        self._details.append(detail)
        self._memory += memory
        if self._memory > self._rules.max_memory:
            raise LimitExceeded("max_memory: the objects of the message take too much memory")
        return entry

    def _check_memory(self, opcode: int, at: int, more: int) -> None:
        """Check everything charged so far, and ``more``, against max_memory."""
        if self._memory + self._content_memory + more > self._rules.max_memory:
            raise limit_exceeded("max_memory", opcode, at)

    def _accepts(self, node: int, permission: int) -> bool:
        """Return True if a node is the unused result of a call and has this permission."""
        return self._kinds[node] == CALLED_NODE and self._rules.permissions[self._details[node]] & permission != 0

    def _refuse_change(self, node: int, opcode: int, at: int) -> DecodeError:
        """Return the error for items or state that an object may not take."""
        place = f"({OPCODE_NAMES[opcode]} at byte {at})"
        if node < 0 or not self._kinds[node] & CLOSED:
            return TypeNotAllowed(f"the message changes an object that may not be changed {place}")
        return MalformedPickle(f"a cycle, or a change of an object after its use {place}")

    def _add_children(self, items: list[int], node: int, opcode: int, at: int) -> None:
        """Close items and add up their depths and sizes in a node; its size already counts one for each of them."""
        kinds = self._kinds
        depths = self._depths
        sizes = self._expanded_sizes
        depth = 0
        size = sizes[node] - len(items)
        for entry in items:
            if entry < 0:
                part = ~entry
                kind = kinds[part]
                if kind & KIND >= GLOBAL_NODE:
                    raise TypeNotAllowed(f"a class is not a value ({OPCODE_NAMES[opcode]} at byte {at})")
                kinds[part] = kind | CLOSED
                if depths[part] > depth:
                    depth = depths[part]
                size += sizes[part]
            else:
                size += 1
        if depth >= depths[node]:
            if depth >= self._rules.max_depth:
                raise limit_exceeded("max_depth", opcode, at)
            depths[node] = depth + 1
        if size > self._rules.max_expanded_nodes:
            raise limit_exceeded("max_expanded_nodes", opcode, at)
        sizes[node] = size

    def _tuple(self, items: list[int], has_nodes: bool, at: int) -> int:
        """Add a tuple and return its entry."""
        kind = TUPLE_NODE
        if has_nodes and items and items[0] < 0 and self._kinds[~items[0]] & KIND == GLOBAL_NODE:
            kind = GLOBAL_TUPLE_NODE
        entry = self._node(kind, 0, TUPLE_MEMORY + 16 * len(items))
        self._expanded_sizes[~entry] += len(items)
        self._items[~entry] = items
        if has_nodes:
            self._add_children(items[1:] if kind == GLOBAL_TUPLE_NODE else items, ~entry, TUPLE, at)
        return entry

    def _add_elements(self, node: int, items: list[int], has_nodes: bool, opcode: int, at: int) -> None:
        """Put items into a set or frozenset."""
        if items:
            self._memory += SET_ITEM_MEMORY * len(items)
            self._expanded_sizes[node] += len(items)
            if has_nodes:
                self._add_children(items, node, opcode, at)
            self._add_keys(node, items, True)

    # Keys

    def _add_keys(self, node: int, keys: list[int], is_set: bool) -> None:
        """Put keys into a dict or set. Refuses duplicates, NaN, objects that are not hashable, and collisions."""
        first = self._first_keys.get(node)
        if first is None:
            self._first_keys[node] = keys
            if tuple(keys) in self._distinct_keys or self._are_distinct(keys):
                return
        values = [self._key_value(entry) for entry in keys]
        costs = self._key_costs
        costs.charge_hashing(values)
        table = self._key_tables.get(node)
        if table is None:
            if first is None and len(values) <= MANY_KEYS and len(set(map(hash, values))) == len(values):
                return  # few dicts have a second batch; those that do are put into a table then
            table = self._key_tables[node] = KeyTable(is_set, self._rules.max_probes)
            if first is not None:
                table.add([self._key_value(entry) for entry in first], costs)
        table.add(values, costs)

    def _are_distinct(self, keys: list[int]) -> bool:
        """Return True if all keys are short str and no two are equal, which is compared as bytes."""
        data = self._data
        texts = {data[k + 2 : k + 2 + data[k + 1]] for k in keys if k >= 0 and data[k] == SHORT_BINUNICODE}
        if len(texts) != len(keys):
            return False
        if len(self._distinct_keys) < _MAX_DISTINCT:
            self._distinct_keys.add(tuple(keys))
        return True

    def _key_value(self, entry: int) -> Any:
        """Return a value with the future key's equality and hash; for an object, a value that equals no other."""
        if entry >= 0 and self._data[entry] in NUMBERS:
            return self._leaf_value(entry)  # faster than looking it up
        if entry not in self._key_values:
            self._make_key_values(entry)
        return self._key_values[entry]

    def _make_key_values(self, entry: int) -> None:
        """Make the value of an entry after those of all its parts, without recursion."""
        values = self._key_values
        pending = [entry]
        while pending:
            entry = pending[-1]
            parts = self._items.get(~entry, ()) if entry < 0 else ()
            missing = [part for part in parts if part < 0 and part not in values]
            if missing:
                pending += missing
                continue
            pending.pop()
            if entry not in values:
                values[entry] = self._leaf_value(entry) if entry >= 0 else self._node_value(~entry)

    def _node_value(self, node: int) -> Any:
        """Return the value of a node after its parts have theirs."""
        kind = self._kinds[node] & KIND
        if kind in (TUPLE_NODE, FROZENSET_NODE):
            parts = self._items[node]
            self._memory += KEY_NODE_MEMORY + KEY_PART_MEMORY * len(parts)
            if self._memory > self._rules.max_memory:
                raise LimitExceeded("max_memory: the keys of the message take too much memory")
            values = map(self._key_value, parts)
            return tuple(values) if kind == TUPLE_NODE else frozenset(values)
        if kind == BYTES_NODE:
            try:
                return self._name(self._details[node], REDUCE, 0).encode("latin-1")
            except UnicodeEncodeError:
                raise MalformedPickle("_codecs.encode with a str that is not Latin-1") from None
        if kind < BYTES_NODE or kind == BYTEARRAY_NODE or self._rules.permissions[self._details[node]] & UNHASHABLE:
            raise MalformedPickle("a key that is not hashable")
        self._found |= FOUND_OBJECT_KEYS
        return (_OBJECT, node)
