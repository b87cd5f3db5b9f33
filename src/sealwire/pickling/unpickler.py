"""The decoder: vet the whole message, let CPython's unpickler build it from inert parts, resolve."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from sealwire.errors import InvalidValue, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.limits import FRAME_OVERHEAD, Limits
from sealwire.pickling.allowlist import Allowlist
from sealwire.pickling.gathering import Gathering
from sealwire.pickling.grants import (
    DEFERRED,
    GETATTR,
    NEW,
    NEW_WITH,
    PHRASE_ENCODE,
    REBUILDS,
    TAKES_ITEMS,
    TAKES_PAIRS,
    TAKES_STATE,
    Grant,
    GrantTable,
)
from sealwire.pickling.leaves import Rules
from sealwire.pickling.nodes import FOUND_INSTANCES, FOUND_OBJECT_KEYS
from sealwire.pickling.outline import LARGE, Memory, outline
from sealwire.pickling.resolve import Resolver, methods
from sealwire.pickling.stand_ins import stand_in, stand_in_with
from sealwire.pickling.vet import Vetting

_Names = dict[tuple[str, str], Callable[..., Any]]


class Decoder:
    """Decodes by one allowlist and one set of limits. Immutable; threads may share it."""

    def __init__(self, allowlist: Allowlist, limits: Limits) -> None:
        table = GrantTable(allowlist.grants(limits))
        self._limits = limits
        self._max_size = limits.max_frame - FRAME_OVERHEAD
        self._rules = Rules(table, limits)
        pairs = [_stand_ins(grant) for grant in table.grants]
        self._methods = methods(made for made, _ in pairs)
        self._direct = _unpickler(_named(table, [made for made, _ in pairs]))
        self._inert = _unpickler(_named(table, [standing for _, standing in pairs]))
        self._no_names = _unpickler({})
        self._field_names = frozenset(name for adapter in allowlist.adapters for name in adapter.fields)

    def decode(self, data: bytes | bytearray | memoryview) -> Any:
        """The value that the bytes are the pickle of.

        A bytearray or writable memory must not be changed meanwhile.
        Raises DecodeError, TypeError where ``data`` is not bytes-like.
        """
        message = data if type(data) is bytes else _readable(data)
        return self._build(self.check(message), message, ())

    def prove(self, written: Gathering, *, private: bool) -> None:
        """Raise DecodeError where :meth:`decode` would, for a message that was just written.

        private: whether the values get large bytearrays of their own, because code may see them that changes them.
        """
        found = self.check(b"".join(written.outline), written.aside)
        buffers = written.buffers
        if private:
            buffers = [bytearray(buffer) if type(buffer) is bytearray else buffer for buffer in buffers]
        self._build(found, b"".join(written.skeleton), buffers)

    def _build(self, found: int, message: bytes | memoryview, buffers: Sequence[bytes | bytearray]) -> Any:
        try:
            if not found and isinstance(message, bytes):
                # Vetted, free of names, and nobody can change it: nothing could go through find_class.
                return pickle.loads(message, buffers=buffers)  # noqa: S301 - as said
            if not found & (FOUND_INSTANCES | FOUND_OBJECT_KEYS):
                unpickler = self._direct if found else self._no_names
                try:
                    return unpickler(_file(message), buffers=buffers).load()
                except InvalidValue:
                    found = FOUND_OBJECT_KEYS  # the other way says where
            unpickler = self._inert if found & FOUND_OBJECT_KEYS else self._direct
            value = unpickler(_file(message), buffers=buffers).load()
            return Resolver(self._limits.max_probes, self._methods, self._field_names).resolve(value)
        except UnicodeDecodeError:
            raise MalformedPickle("a str is not UTF-8") from None
        except RecursionError:
            raise LimitExceeded("max_depth: nested too deeply for what is left of Python's stack") from None
        except MemoryError:
            raise LimitExceeded("max_memory: there is not enough memory for the message") from None
        except TypeError:
            raise InvalidValue("a key that is not hashable") from None

    def check(self, data: bytes | memoryview, aside: dict[int, Memory] | None = None) -> int:
        """Vet a message, or an outline with what it lacks; return what was found, build nothing. Raises DecodeError."""
        if len(data) > self._max_size:
            raise LimitExceeded(f"max_frame: the message has {len(data)} bytes, {self._max_size} are allowed")
        try:
            if isinstance(data, memoryview):
                data, aside = outline(data, self._limits.max_string)
            return Vetting(data, self._rules, aside).run()
        except RecursionError:
            raise LimitExceeded("max_depth: nested too deeply for what is left of Python's stack") from None
        except MemoryError:
            raise LimitExceeded("max_memory: there is not enough memory for the message") from None


def _stand_ins(grant: Grant) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What a name stands for where values may be made directly, and where calls must stay inert until the end."""
    load = grant.load
    if grant.powers & (NEW | NEW_WITH | TAKES_STATE):
        cls = stand_in(load, grant.quick) if grant.powers & NEW else stand_in_with(load)
        return cls, cls
    if grant.powers & (TAKES_ITEMS | TAKES_PAIRS | PHRASE_ENCODE):
        # Containers that the message fills, which are not hashable; and bytes, which are vetted as keys.
        return load, load
    deferred = partial(partial, load)
    return deferred if grant.powers & DEFERRED else load, deferred


def _named(table: GrantTable, things: list[Callable[..., Any]]) -> _Names:
    """What each name of the table stands for, given that for each grant."""
    members = {(things[outer], attribute): things[number] for (outer, attribute), number in table.members.items()}
    rebuilt = {
        function: {things[cls]: things[number] for (other, cls), number in table.rebuilt.items() if other == function}
        for function, _ in table.rebuilt
    }

    def thing(number: int, grant: Grant) -> Callable[..., Any]:
        if grant.powers & GETATTR:
            return lambda outer, attribute: members[outer, attribute]
        if grant.powers & REBUILDS:
            classes = rebuilt[number]
            return lambda cls, *parts: classes[cls](*parts)
        return things[number]

    return {name: thing(number, grant) for number, grant in enumerate(table.grants) for name in grant.names}


def _unpickler(names: _Names) -> type[_Unpickler]:
    """An unpickler that knows these names and no other."""
    return type("RestrictedUnpickler", (_Unpickler,), {"names": names})


class _Unpickler(pickle.Unpickler):
    names: ClassVar[_Names]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.names[module, name]
        except KeyError:
            # Not for what is vetted, unless somebody changed the bytes meanwhile.
            raise TypeNotAllowed("the message names a type that is not on the allowlist") from None


def _file(message: bytes | memoryview) -> io.BytesIO | _Window:
    return io.BytesIO(message) if isinstance(message, bytes) else _Window(message)


def _readable(data: bytes | bytearray | memoryview) -> bytes | memoryview:
    """One reading of the message for both passes, without a copy of what is large."""
    view = memoryview(data)
    if view.nbytes < LARGE or not view.contiguous:
        return view.tobytes()
    if type(view.obj) is bytes and view.nbytes == len(view.obj):
        return view.obj
    view = view.cast("B")
    # From protocol 4 on the unpickler reads frame by frame; before, byte by byte, where a copy is cheaper.
    return view if view[0] == 0x80 and view[1] >= 4 else view.tobytes()


class _Window:
    """A file over memory that is not copied. The unpickler reads large bytes from it straight into their place."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def read(self, size: int) -> bytes:
        start = self._at
        self._at = start + size
        return bytes(self._view[start : self._at])

    def readinto(self, buffer: memoryview) -> int:
        start = self._at
        piece = self._view[start : start + len(buffer)]
        self._at = start + len(piece)
        buffer[: len(piece)] = piece
        return len(piece)

    def readline(self) -> bytes:
        line = bytes(self._view[self._at : self._at + 512])
        line = line[: line.find(b"\n") + 1]
        self._at += len(line)
        return line
