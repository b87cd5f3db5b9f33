"""Calls, new instances and their state, as the vetting pass checks them: the rules of the table of globals.

Arguments can be shared between many calls, and each call makes an object out of them or computes with them. Therefore
their content is charged against ``max_memory`` once for each call, not once for the message.
"""

from __future__ import annotations

from typing import Any, Final

from sealwire.errors import DecodeError, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.pickling.dict_keys import HashedPair, check_pairs
from sealwire.pickling.globals import (
    CALL,
    CALL_EMPTY,
    CALL_ENCODE,
    CALL_GETATTR,
    CALL_REBUILD,
    DEFERRED,
    FACTORY,
    HASHED_BY_PAIR,
    NEW,
    NEW_WITH,
    TAKES_FACTORY,
    TAKES_ITEMS,
    TAKES_KEYS,
    TAKES_STATE,
    not_listed,
)
from sealwire.pickling.leaves import INTEGERS, VettingRules, limit_exceeded
from sealwire.pickling.nodes import (
    BYTEARRAY_NODE,
    BYTES_NODE,
    CALLED_NODE,
    CLOSED,
    FOUND_GLOBALS,
    FOUND_OBJECT_KEYS,
    FOUND_PLACEHOLDERS,
    GLOBAL_NODE,
    GLOBAL_TUPLE_NODE,
    INSTANCE_NODE,
    KIND,
    TUPLE_NODE,
    Nodes,
)
from sealwire.pickling.opcodes import BUILD, EMPTY_TUPLE, MEMOIZE, NEWOBJ, OPCODE_NAMES, REDUCE, STOP

_CALLED_MEMORY: Final = 200
_COPIED_MEMORY: Final = 128  # an item of a list or dict that a call copies
_ANY_CALL: Final = CALL | CALL_EMPTY | CALL_GETATTR | CALL_ENCODE | TAKES_FACTORY | CALL_REBUILD
_REMEDY: Final = "; its adapter reads what encode writes: for plain pickles, give the class a __reduce__ with its parts"


class Calls(Nodes):
    """Checks the calls of a message, their arguments, and state."""

    def __init__(self, data: bytes, rules: VettingRules, large_buffers: dict[int, Any] | None = None) -> None:
        super().__init__(data, rules, large_buffers)
        self._deque_room: dict[int, int] = {}
        """For each new deque with a maxlen, how many more items it takes; it would silently drop others."""
        self._hashed_pairs: list[HashedPair] = []
        """The arguments of calls that are HASHED_BY_PAIR."""

    def _pop_argument(self) -> int:
        """Pop the entry on top, below which another one must be above the last mark."""
        if len(self._stack) - self._mark_heights[-1] < 2:
            raise IndexError
        return self._stack.pop()

    # Globals

    def _push_global(self, module: str, name: str, opcode: int, at: int) -> None:
        """GLOBAL, STACK_GLOBAL: push a node for an entry of the table."""
        number = self._rules.numbers.get((module, name), -1)
        if number < 0 and self._data[1] == 2:
            number = self._rules.old_numbers.get((module, name), -1)
        if number < 0:
            place = f" ({OPCODE_NAMES[opcode]} at byte {at})"
            raise not_listed(module, name, place, protocol=self._data[1])
        self._found |= FOUND_GLOBALS
        self._stack.append(self._node(GLOBAL_NODE, number, 0))

    def _permitted(self, entry: int, permission: int, opcode: int, at: int) -> int:
        """Return the number of a global's rule. Raises TypeNotAllowed if it has none of the permissions."""
        if entry >= 0 or self._kinds[~entry] & KIND != GLOBAL_NODE:
            raise TypeNotAllowed(f"only a name on the allowlist can be called ({OPCODE_NAMES[opcode]} at byte {at})")
        number = self._details[~entry]
        permissions = self._rules.permissions[number]
        if not permissions & permission:
            raise TypeNotAllowed(
                f"{self._rules.qualified_names[number]} may not be used like this ({OPCODE_NAMES[opcode]} at byte {at})"
                f"{_REMEDY if opcode == NEWOBJ and permissions & CALL else ''}"
            )
        return number

    # REDUCE

    def _call(self, at: int) -> None:
        """REDUCE: replace a global and its arguments by the result of the call."""
        arguments = self._pop_argument()
        number = self._permitted(self._stack[-1], _ANY_CALL, REDUCE, at)
        self._stack[-1] = self._call_by_form(number, arguments, at)

    def _call_by_form(self, number: int, arguments: int, at: int) -> int:
        """Add the result of a call if its rule permits arguments of this form; return its entry."""
        permissions = self._rules.permissions[number]
        if arguments >= 0:
            if self._data[arguments] == EMPTY_TUPLE and permissions & CALL_EMPTY:
                return self._result(number)
        else:
            kind = self._kinds[~arguments] & KIND
            if kind == TUPLE_NODE and permissions & CALL:
                return self._call_with_values(number, arguments, at)
            if kind == TUPLE_NODE and permissions & CALL_ENCODE:
                return self._call_encode(number, self._items[~arguments], at)
            if kind == GLOBAL_TUPLE_NODE:
                return self._call_with_class(number, self._items[~arguments], at)
        raise self._wrong_arguments(number, REDUCE, at)

    def _call_with_values(self, number: int, arguments: int, at: int) -> int:
        entry = self._result(number)
        self._expanded_sizes[~entry] = 2
        self._add_children([arguments], ~entry, REDUCE, at)
        values = self._items[~arguments]
        self._charge_arguments(number, values)
        permissions = self._rules.permissions[number]
        if permissions & (HASHED_BY_PAIR | TAKES_ITEMS) and len(values) == 2:
            second_is_int = values[1] >= 0 and self._data[values[1]] in INTEGERS
            if permissions & TAKES_ITEMS and second_is_int:
                self._deque_room[~entry] = self._leaf_value(values[1])
            elif second_is_int and values[0] >= 0 and self._data[values[0]] in INTEGERS:
                first, second = self._leaf_value(values[0]), self._leaf_value(values[1])
                self._hashed_pairs.append((hash((first, second)), first, second))
        return entry

    def _call_encode(self, number: int, values: list[int], at: int) -> int:
        """``_codecs.encode(text, "latin1")``: bytes, as protocol 2 writes them."""
        if len(values) != 2 or self._name(values[1], REDUCE, at) != "latin1":
            raise self._wrong_arguments(number, REDUCE, at)
        self._name(values[0], REDUCE, at)  # must be a str
        self._charge_arguments(number, values[:1])
        return self._node(BYTES_NODE, values[0], _CALLED_MEMORY)

    def _call_with_class(self, number: int, arguments: list[int], at: int) -> int:
        """A call with a global as its first argument: getattr, defaultdict, or a library's function that rebuilds."""
        permissions = self._rules.permissions[number]
        cls = self._details[~arguments[0]]
        if permissions & CALL_GETATTR:
            if len(arguments) == 2:
                found = self._rules.members.get((cls, self._name(arguments[1], REDUCE, at)), -1)
                if found >= 0:
                    return self._node(GLOBAL_NODE, found, 0)
        elif permissions & TAKES_FACTORY:
            if len(arguments) == 1 and self._rules.permissions[cls] & FACTORY:
                return self._result(number)
        elif permissions & CALL_REBUILD:
            found = self._rules.rebuilt.get((number, cls), -1)
            if found >= 0:
                entry = self._result(found)
                self._expanded_sizes[~entry] = len(arguments)
                self._add_children(arguments[1:], ~entry, REDUCE, at)
                return entry
        raise self._wrong_arguments(number, REDUCE, at)

    def _result(self, number: int) -> int:
        permissions = self._rules.permissions[number]
        if permissions & (TAKES_STATE | DEFERRED):
            self._found |= FOUND_PLACEHOLDERS
        if permissions & TAKES_KEYS:
            self._found |= FOUND_OBJECT_KEYS
        return self._node(CALLED_NODE, number, _CALLED_MEMORY + self._rules.memory[number])

    def _wrong_arguments(self, number: int, opcode: int, at: int) -> DecodeError:
        name = self._rules.qualified_names[number]
        return MalformedPickle(f"{name} with other arguments ({OPCODE_NAMES[opcode]} at byte {at})")

    def _charge_arguments(self, number: int, arguments: list[int]) -> None:
        """Charge for the content of arguments, once for each call."""
        rules = self._rules
        for entry in arguments:
            if entry < 0 and self._kinds[~entry] & KIND in (BYTES_NODE, BYTEARRAY_NODE):
                entry = self._details[~entry]
            if entry < 0:
                self._memory += _COPIED_MEMORY * (self._expanded_sizes[~entry] - 1)
                if ~entry in self._key_tables:
                    self._key_costs.charge(self._key_tables[~entry].alike_cost)
            else:
                self._memory += rules.memory_per_byte[number] * self._leaf_length(entry)
        if self._memory > rules.max_memory:
            raise LimitExceeded("max_memory: the objects of the message take too much memory")

    # NEWOBJ and BUILD

    def _new(self, at: int) -> int:
        """NEWOBJ, and in the same turn the MEMOIZE that follows: a new instance of a class; return the next offset.

        The latter makes decoding a list of small dataclasses 3 % faster.
        """
        stack = self._stack
        if len(stack) - self._mark_heights[-1] < 2:
            raise IndexError
        arguments = stack.pop()
        number = self._permitted(stack[-1], NEW | NEW_WITH, NEWOBJ, at)
        rules = self._rules
        permissions = rules.permissions[number]
        kind = INSTANCE_NODE if permissions & NEW else CALLED_NODE
        entry = self._node(kind, number, _CALLED_MEMORY + rules.memory[number])
        self._found |= FOUND_PLACEHOLDERS
        if arguments < 0 or self._data[arguments] != EMPTY_TUPLE:
            if arguments >= 0 or self._kinds[~arguments] & KIND != TUPLE_NODE or not permissions & NEW_WITH:
                raise self._wrong_arguments(number, NEWOBJ, at)
            self._expanded_sizes[~entry] = 2
            self._add_children([arguments], ~entry, NEWOBJ, at)
        elif permissions & NEW and self._memory + self._content_memory > rules.max_memory:
            raise limit_exceeded("max_memory", NEWOBJ, at)
        stack[-1] = entry
        if self._data[at + 1] != MEMOIZE:
            return at + 1
        self._memo.append(entry)
        return at + 2

    def _build(self, at: int) -> None:
        """BUILD: state for an unused instance, or for the unused result of a call that takes state. Closes it."""
        stack = self._stack
        if len(stack) - self._mark_heights[-1] < 2:
            raise IndexError
        state = stack.pop()
        node = ~stack[-1]
        if node < 0 or (self._kinds[node] != INSTANCE_NODE and not self._accepts(node, TAKES_STATE)):
            raise self._refuse_change(node, BUILD, at)
        self._expanded_sizes[node] += 1
        self._add_children([state], node, BUILD, at)
        if self._kinds[node] == CALLED_NODE and state < 0:
            self._charge_arguments(self._details[node], self._items.get(~state, []))
        self._kinds[node] |= CLOSED

    # The whole message

    def _check_root(self, node: int, at: int) -> None:
        """Check the value of the message, and Fractions in all of it."""
        if self._kinds[node] & KIND >= GLOBAL_NODE:
            raise TypeNotAllowed(f"a class is not a value (STOP at byte {at})")
        if self._expanded_sizes[node] > self._rules.max_expanded_nodes:
            raise limit_exceeded("max_expanded_nodes", STOP, at)
        if self._hashed_pairs:
            check_pairs(self._hashed_pairs, self._key_costs, self._rules.max_probes)
