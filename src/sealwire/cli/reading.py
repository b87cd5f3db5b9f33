"""What a pickle would do, read off its opcodes: nothing is built, imported or looked up.

A stack machine as CPython's, whose values are only what is needed to say which names are called: it is an explanation
for people. Whether a message is accepted is for :class:`sealwire.Codec` to say.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

MAX_OPCODES: Final = 2_000_000
"""Opcodes that are explained of one pickle; ``Limits.max_nodes`` is a million by default."""
MAX_NAMES: Final = 10_000
"""Different names that are kept of one pickle."""
MAX_NAME: Final = 200
"""Characters that are kept of a module's or a class's name."""

NAMED: Final = "imported"
CALLED: Final = "called"
MADE: Final = "instantiated"
FILLED: Final = "instance given state"
CHANGED: Final = "changed for the whole process"
OPENED: Final = "looked into"
RESULT_CALLED: Final = "result called"
"""What a pickle does with what it names, beside importing it."""


Name = tuple[str, str]


@dataclass(slots=True)
class Sizes:
    """How many there are, how long all of them are together, and the longest: characters of str, bytes of bytes."""

    count: int = 0
    total: int = 0
    longest: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.count += 1
        self.total += size
        self.longest = max(self.longest, size)


@dataclass(slots=True)
class Reading:
    """What was found. ``protocol``: None where the pickle does not say. ``depth``: levels of nesting. ``names``: module
    and name, to what is done with it, in the order of the pickle. ``remarks``: other things that it does. ``end``:
    where the pickle ends or, where ``why`` says why not all of it was explained, the last opcode that was.
    """

    size: int
    protocol: int | None = None
    opcodes: int = 0
    depth: int = 0
    texts: Sizes = field(default_factory=Sizes)
    blobs: Sizes = field(default_factory=Sizes)
    names: dict[Name, set[str]] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    end: int = 0
    why: str = ""


def read(data: bytes) -> Reading:
    """Explain a pickle. Raises nothing, whatever the bytes are."""
    machine = _Machine(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in the text opcodes
        machine.run()
    return machine.reading


class _Item:
    """One object on the stack. ``text``: of a str. ``name``: of what was imported. ``maker``: the name that was called
    for it. ``pair``: of a tuple of something imported and a str.
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
        self.reading = Reading(size=len(data))
        self._data = data
        self._stack: list[_Item] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Item] = {}

    def run(self) -> None:
        reading = self.reading
        for opcode, argument, at in self._operations():
            reading.end = at
            if reading.opcodes == MAX_OPCODES:
                reading.why = f"more than {MAX_OPCODES:,} opcodes"
                return
            reading.opcodes += 1
            action = _ACTIONS.get(opcode.name)
            if action is not None:
                action(self, argument)
            elif opcode.stack_after:
                self._stack.append(_LEAF)
        if not reading.why:
            reading.end += 1
            if reading.end < reading.size:
                self._remark(f"{reading.size - reading.end} bytes after its end, which may be another pickle")

    def _operations(self) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int]]:
        try:
            for opcode, argument, at in pickletools.genops(self._data):
                yield opcode, argument, at or 0
        except Exception as error:  # it raises what it likes on bytes that are no pickle
            self.reading.why = f"no pickle ({type(error).__name__})"

    # The stack. A pickle that takes more from it than is there is refused by everybody; here it gets leaves.

    def _pop(self, count: int) -> list[_Item]:
        start = max(len(self._stack) - count, 0)
        items = self._stack[start:]
        del self._stack[start:]
        return [_LEAF] * (count - len(items)) + items

    def _slice(self) -> list[_Item]:
        """What is above the last mark."""
        start = self._marks.pop() if self._marks else 0
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _above(self, items: list[_Item]) -> int:
        """The depth of what holds these."""
        depth = 1 + max([item.depth for item in items], default=0)
        self.reading.depth = max(self.reading.depth, depth)
        return depth

    def _remark(self, text: str) -> None:
        self.reading.remarks[text] = None

    # Data

    def text(self, argument: str) -> None:
        self.reading.texts.add(len(argument))
        self._stack.append(_Item(text=_bounded(argument)))

    def blob(self, argument: bytes) -> None:
        self.reading.blobs.add(len(argument))
        self._stack.append(_LEAF)

    def container(self, items: list[_Item]) -> None:
        made = _Item(self._above(items))
        if len(items) == 2 and items[0].name is not None and items[1].text is not None:
            made.pair = items[0].name, items[1].text
        self._stack.append(made)

    def fill(self, items: list[_Item]) -> None:
        if self._stack and self._stack[-1] is not _LEAF:
            target = self._stack[-1]
            target.depth = max(target.depth, self._above(items))

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

    def named(self, module: str, name: str) -> None:
        found = _bounded(module), _bounded(name)
        self._use(found, NAMED)
        self._stack.append(_Item(name=found))

    def named_by_lines(self) -> None:
        # Not as pickletools has it, which undoes escapes that no unpickler knows.
        start = self.reading.end + 1
        middle = self._data.index(b"\n", start)
        end = self._data.index(b"\n", middle + 1)
        self.named(self._data[start:middle].decode(), self._data[middle + 1 : end].decode())

    def named_by_texts(self) -> None:
        module, name = self._pop(2)
        self.named(module.text or "?", name.text or "?")

    def named_by_number(self, number: int) -> None:
        self.named("copyreg", f"_inverted_registry[{number}]")

    def call(self, function: _Item, arguments: _Item, use: str) -> None:
        if function.name in _GETATTR and arguments.pair is not None:
            # How protocols 2 and 3 name a nested class.
            outer, attribute = arguments.pair
            self._use(function.name, CALLED)
            self._use(outer, OPENED)
            self.named(outer[0], f"{outer[1]}.{attribute}")
            return
        made = _Item(max(1, arguments.depth))
        made.maker = function.name or function.maker
        self._stack.append(made)
        self.reading.depth = max(self.reading.depth, made.depth)
        if made.maker is not None:
            self._use(made.maker, use if function.name else RESULT_CALLED)
        else:
            self._remark("calls something that it did not import by name")

    def call_pair(self, use: str) -> None:
        function, arguments = self._pop(2)
        self.call(function, arguments, use)

    def call_slice(self) -> None:
        function, *arguments = self._slice() or [_LEAF]
        self.call(function, _Item(self._above(arguments)), CALLED)

    def call_by_lines(self) -> None:
        arguments = _Item(self._above(self._slice()))
        self.named_by_lines()
        self.call(self._stack.pop(), arguments, CALLED)

    def new_with_keywords(self) -> None:
        cls, positional, keywords = self._pop(3)
        self.call(cls, _Item(max(positional.depth, keywords.depth)), MADE)

    def build(self) -> None:
        target, state = self._pop(2)
        if target is not _LEAF:
            target.depth = max(target.depth, self._above([state]))
        self._stack.append(target)
        if target.name is not None:
            self._use(target.name, CHANGED)
        elif target.maker is not None:
            self._use(target.maker, FILLED)

    def ask(self) -> None:
        self._remark("asks the program for objects of its own (persistent ids)")
        self._stack.append(_LEAF)

    def ask_by_item(self) -> None:
        self._pop(1)
        self.ask()

    def _use(self, name: Name, use: str) -> None:
        names = self.reading.names
        if name in names:
            names[name].add(use)
        elif len(names) < MAX_NAMES:
            names[name] = {use}
        else:
            self._remark(f"names more than {MAX_NAMES:,} things; the others are not listed")

    def protocol(self, number: int) -> None:
        if self.reading.protocol is None:
            self.reading.protocol = number


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}…"


_Action = Callable[[_Machine, Any], None]
_TABLE: Final[dict[str, _Action]] = {
    "PROTO": _Machine.protocol,
    "FRAME STOP READONLY_BUFFER": lambda *_: None,
    "STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8": _Machine.text,
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8": _Machine.blob,
    "EMPTY_LIST EMPTY_DICT EMPTY_SET": lambda machine, _: machine.container([]),
    "LIST DICT TUPLE FROZENSET": lambda machine, _: machine.container(machine._slice()),
    "TUPLE1": lambda machine, _: machine.container(machine._pop(1)),
    "TUPLE2": lambda machine, _: machine.container(machine._pop(2)),
    "TUPLE3": lambda machine, _: machine.container(machine._pop(3)),
    "APPEND": lambda machine, _: machine.fill(machine._pop(1)),
    "SETITEM": lambda machine, _: machine.fill(machine._pop(2)),
    "APPENDS SETITEMS ADDITEMS": lambda machine, _: machine.fill(machine._slice()),
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine._slice().clear(),
    "DUP": lambda machine, _: machine.duplicate(),
    "PUT BINPUT LONG_BINPUT MEMOIZE": _Machine.store,
    "GET BINGET LONG_BINGET": _Machine.recall,
    "GLOBAL": lambda machine, _: machine.named_by_lines(),
    "STACK_GLOBAL": lambda machine, _: machine.named_by_texts(),
    "EXT1 EXT2 EXT4": _Machine.named_by_number,
    "REDUCE": lambda machine, _: machine.call_pair(CALLED),
    "NEWOBJ": lambda machine, _: machine.call_pair(MADE),
    "NEWOBJ_EX": lambda machine, _: machine.new_with_keywords(),
    "OBJ": lambda machine, _: machine.call_slice(),
    "INST": lambda machine, _: machine.call_by_lines(),
    "BUILD": lambda machine, _: machine.build(),
    "PERSID": lambda machine, _: machine.ask(),
    "BINPERSID": lambda machine, _: machine.ask_by_item(),
}
_ACTIONS: Final = {name: action for names, action in _TABLE.items() for name in names.split()}
"""What each opcode does; one that is not here pushes a leaf where it pushes anything."""
