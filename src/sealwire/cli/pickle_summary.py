"""Summarizes the effects of a pickle by its opcodes alone: nothing is built, imported or looked up.

A stack machine like CPython's runs over the opcodes. Its values hold just enough to tell which names are called. The
summary explains a pickle to people; :class:`sealwire.Codec` decides whether a message is accepted.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

MAX_OPCODES: Final = 2_000_000
"""The most opcodes that are followed."""
MAX_NAMES: Final = 10_000
"""The most different names that are kept."""
MAX_NAME: Final = 200
"""The most characters that are kept of the name of a module or class."""

IMPORTED: Final = "imported"
CALLED: Final = "called"
INSTANTIATED: Final = "instantiated"
STATE_SET: Final = "instance given state"
CHANGED: Final = "changed for the whole process"
ATTRIBUTE_READ: Final = "attribute read"
RESULT_CALLED: Final = "result called"
"""Uses of an imported object."""

Name = tuple[str, str]


@dataclass(slots=True)
class Sizes:
    """Number, total length and longest length of values, in characters of str or in bytes."""

    count: int = 0
    total: int = 0
    longest: int = 0

    def add(self, size: int) -> None:
        """Count a value of that length."""
        self.count += 1
        self.total += size
        self.longest = max(self.longest, size)


@dataclass(slots=True)
class PickleSummary:
    """A summary of one pickle."""

    size: int
    """Bytes of the data."""
    protocol: int | None = None
    """The protocol that the pickle states; None for protocols 0 and 1, which state none."""
    opcodes: int = 0
    depth: int = 0
    """Levels of nesting."""
    strings: Sizes = field(default_factory=Sizes)
    blobs: Sizes = field(default_factory=Sizes)
    names: dict[Name, set[str]] = field(default_factory=dict)
    """Module and name of each imported object, and its uses, in the order of the pickle."""
    remarks: dict[str, None] = field(default_factory=dict)
    """Other actions, each once and in order."""
    end: int = 0
    """The offset at which the pickle ends; or of the last opcode that was followed, if there is an ``error``."""
    error: str = ""
    """The reason why the rest was not followed."""


def summarize(data: bytes) -> PickleSummary:
    """Summarize a pickle. It raises nothing, for any bytes."""
    machine = _Machine(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in the text opcodes
        machine.run()
    return machine.summary


class _Item:
    """An object on the stack.

    Attributes:
        depth: Levels of nesting in it.
        text: The value, if it is a str.
        name: Module and name, if it was imported.
        maker: Module and name of the function that made it.
        pair: An imported name and a str, if it is a tuple of these: the arguments of getattr.
    """

    __slots__ = ("depth", "maker", "name", "pair", "text")

    def __init__(self, depth: int = 0, *, text: str | None = None, name: Name | None = None) -> None:
        self.depth = depth
        self.text = text
        self.name = name
        self.maker: Name | None = None
        self.pair: tuple[Name, str] | None = None


_LEAF: Final = _Item()
_GETATTR: Final = {("builtins", "getattr"), ("__builtin__", "getattr")}


class _Machine:
    def __init__(self, data: bytes) -> None:
        self.summary = PickleSummary(size=len(data))
        self._data = data
        self._stack: list[_Item] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Item] = {}

    def run(self) -> None:
        summary = self.summary
        for opcode, argument, at in self._operations():
            summary.end = at
            if summary.opcodes == MAX_OPCODES:
                summary.error = f"more than {MAX_OPCODES:,} opcodes"
                return
            summary.opcodes += 1
            action = _ACTIONS.get(opcode.name)
            if action is not None:
                action(self, argument)
            elif opcode.stack_after:
                self._stack.append(_LEAF)
        if not summary.error:
            summary.end += 1
            if summary.end < summary.size:
                self._remark(f"{summary.size - summary.end} bytes after its end, which may be another pickle")

    def _operations(self) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int]]:
        try:
            for opcode, argument, at in pickletools.genops(self._data):
                yield opcode, argument, at or 0
        except Exception as error:  # genops raises errors of many types for bytes that are not a pickle
            self.summary.error = f"no pickle ({type(error).__name__})"

    # The stack. No unpickler accepts a pickle that pops more than there is; here it gets leaves.

    def _pop(self, count: int) -> list[_Item]:
        start = max(len(self._stack) - count, 0)
        items = self._stack[start:]
        del self._stack[start:]
        return [_LEAF] * (count - len(items)) + items

    def _pop_to_mark(self) -> list[_Item]:
        """Pop the items above the last mark."""
        start = self._marks.pop() if self._marks else 0
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _container_depth(self, items: list[_Item]) -> int:
        """Return the depth of a container of these items."""
        depth = 1 + max([item.depth for item in items], default=0)
        self.summary.depth = max(self.summary.depth, depth)
        return depth

    def _remark(self, text: str) -> None:
        self.summary.remarks[text] = None

    # Data

    def text(self, argument: str) -> None:
        self.summary.strings.add(len(argument))
        self._stack.append(_Item(text=_bounded(argument)))

    def blob(self, argument: bytes) -> None:
        self.summary.blobs.add(len(argument))
        self._stack.append(_LEAF)

    def container(self, items: list[_Item]) -> None:
        item = _Item(self._container_depth(items))
        if len(items) == 2 and items[0].name is not None and items[1].text is not None:
            item.pair = items[0].name, items[1].text
        self._stack.append(item)

    def fill(self, items: list[_Item]) -> None:
        if self._stack and self._stack[-1] is not _LEAF:
            target = self._stack[-1]
            target.depth = max(target.depth, self._container_depth(items))

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def pop(self) -> None:
        if self._marks and self._marks[-1] >= len(self._stack):
            self._marks.pop()
        else:
            self._pop(1)

    def duplicate(self) -> None:
        self._stack += self._pop(1) * 2

    def store(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1] if self._stack else _LEAF

    def recall(self, index: int) -> None:
        self._stack.append(self._memo.get(index, _LEAF))

    # Names

    def push_global(self, module: str, name: str) -> None:
        imported = _bounded(module), _bounded(name)
        self._use(imported, IMPORTED)
        self._stack.append(_Item(name=imported))

    def global_from_lines(self) -> None:
        # Not the argument that pickletools gives: it undoes escapes that no unpickler knows.
        start = self.summary.end + 1
        middle = self._data.index(b"\n", start)
        end = self._data.index(b"\n", middle + 1)
        self.push_global(self._data[start:middle].decode(), self._data[middle + 1 : end].decode())

    def global_from_stack(self) -> None:
        module, name = self._pop(2)
        self.push_global(module.text or "?", name.text or "?")

    def global_from_extension(self, number: int) -> None:
        self.push_global("copyreg", f"_inverted_registry[{number}]")

    def call(self, function: _Item, arguments: _Item, use: str) -> None:
        if function.name in _GETATTR and arguments.pair is not None:
            # Protocols 2 and 3 name a nested class like this.
            outer, attribute = arguments.pair
            self._use(function.name, CALLED)
            self._use(outer, ATTRIBUTE_READ)
            self.push_global(outer[0], f"{outer[1]}.{attribute}")
            return
        result = _Item(max(1, arguments.depth))
        result.maker = function.name or function.maker
        self._stack.append(result)
        self.summary.depth = max(self.summary.depth, result.depth)
        if result.maker is not None:
            self._use(result.maker, use if function.name else RESULT_CALLED)
        else:
            self._remark("calls something that it did not import by name")

    def call_from_stack(self, use: str) -> None:
        function, arguments = self._pop(2)
        self.call(function, arguments, use)

    def call_above_mark(self) -> None:
        function, *arguments = self._pop_to_mark() or [_LEAF]
        self.call(function, _Item(self._container_depth(arguments)), CALLED)

    def call_from_lines(self) -> None:
        arguments = _Item(self._container_depth(self._pop_to_mark()))
        self.global_from_lines()
        self.call(self._stack.pop(), arguments, CALLED)

    def new_with_keywords(self) -> None:
        cls, positional, keywords = self._pop(3)
        self.call(cls, _Item(max(positional.depth, keywords.depth)), INSTANTIATED)

    def build(self) -> None:
        target, state = self._pop(2)
        if target is not _LEAF:
            target.depth = max(target.depth, self._container_depth([state]))
        self._stack.append(target)
        if target.name is not None:
            self._use(target.name, CHANGED)
        elif target.maker is not None:
            self._use(target.maker, STATE_SET)

    def persistent_id(self) -> None:
        self._remark("asks the program for objects of its own (persistent ids)")
        self._stack.append(_LEAF)

    def persistent_id_from_stack(self) -> None:
        self._pop(1)
        self.persistent_id()

    def _use(self, name: Name, use: str) -> None:
        names = self.summary.names
        if name in names:
            names[name].add(use)
        elif len(names) < MAX_NAMES:
            names[name] = {use}
        else:
            self._remark(f"imports more than {MAX_NAMES:,} names; the others are not listed")

    def protocol(self, number: int) -> None:
        if self.summary.protocol is None:
            self.summary.protocol = number


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}…"


_Action = Callable[[_Machine, Any], None]
_TABLE: Final[dict[str, _Action]] = {
    "PROTO": _Machine.protocol,
    "FRAME STOP READONLY_BUFFER": lambda *_: None,
    "STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8": _Machine.text,
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8": _Machine.blob,
    "EMPTY_LIST EMPTY_DICT EMPTY_SET": lambda machine, _: machine.container([]),
    "LIST DICT TUPLE FROZENSET": lambda machine, _: machine.container(machine._pop_to_mark()),
    "TUPLE1": lambda machine, _: machine.container(machine._pop(1)),
    "TUPLE2": lambda machine, _: machine.container(machine._pop(2)),
    "TUPLE3": lambda machine, _: machine.container(machine._pop(3)),
    "APPEND": lambda machine, _: machine.fill(machine._pop(1)),
    "SETITEM": lambda machine, _: machine.fill(machine._pop(2)),
    "APPENDS SETITEMS ADDITEMS": lambda machine, _: machine.fill(machine._pop_to_mark()),
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine._pop_to_mark().clear(),
    "DUP": lambda machine, _: machine.duplicate(),
    "PUT BINPUT LONG_BINPUT MEMOIZE": _Machine.store,
    "GET BINGET LONG_BINGET": _Machine.recall,
    "GLOBAL": lambda machine, _: machine.global_from_lines(),
    "STACK_GLOBAL": lambda machine, _: machine.global_from_stack(),
    "EXT1 EXT2 EXT4": _Machine.global_from_extension,
    "REDUCE": lambda machine, _: machine.call_from_stack(CALLED),
    "NEWOBJ": lambda machine, _: machine.call_from_stack(INSTANTIATED),
    "NEWOBJ_EX": lambda machine, _: machine.new_with_keywords(),
    "OBJ": lambda machine, _: machine.call_above_mark(),
    "INST": lambda machine, _: machine.call_from_lines(),
    "BUILD": lambda machine, _: machine.build(),
    "PERSID": lambda machine, _: machine.persistent_id(),
    "BINPERSID": lambda machine, _: machine.persistent_id_from_stack(),
}
_ACTIONS: Final = {name: action for names, action in _TABLE.items() for name in names.split()}
"""The action of each opcode; any other pushes a leaf if it pushes anything."""
