"""The decoder: vets a whole message, builds it with CPython's unpickler, and resolves placeholders.

After vetting, there are four ways to build, from fast to slow. The vetting pass says which one is needed:

* No globals: ``pickle.loads``. The bytes are immutable, so that they are the bytes that were vetted.
* Globals, but no placeholders and no keys that are objects: each global is its checked constructor, and the unpickler
  makes the values directly.
* Placeholders: globals that make instances are classes of placeholders, which are resolved afterwards.
* Keys that are objects: in addition, each call stays a ``functools.partial`` until it is resolved, because a key must
  not be hashed by code of a user before collisions were bounded.

Whichever it is, ``find_class`` looks names up in the dict that was made of the table of globals, and nowhere else.
"""

from __future__ import annotations

import fractions
import io
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, ClassVar, Final

from sealwire.errors import InvalidValue, LimitExceeded, MalformedPickle
from sealwire.limits import FRAME_OVERHEAD, Limits
from sealwire.native import NATIVE
from sealwire.pickling.adapters.record import refused
from sealwire.pickling.adapters.same import same
from sealwire.pickling.allowlist import Allowlist
from sealwire.pickling.elide import LARGE, Memory, elide
from sealwire.pickling.globals import (
    CALL_ENCODE,
    CALL_GETATTR,
    CALL_REBUILD,
    DEFERRED,
    NEW,
    NEW_WITH,
    TAKES_ITEMS,
    TAKES_PAIRS,
    TAKES_STATE,
    GlobalRule,
    GlobalTable,
    not_listed,
)
from sealwire.pickling.leaves import VettingRules
from sealwire.pickling.message_file import LONG_MESSAGE, MessageFile, with_large_buffers
from sealwire.pickling.nodes import FOUND_OBJECT_KEYS, FOUND_PLACEHOLDERS
from sealwire.pickling.pickle_writer import PieceWriter
from sealwire.pickling.placeholders import Placeholder, placeholder_class
from sealwire.pickling.resolve import Resolver, methods
from sealwire.pickling.type_checks import Examining
from sealwire.pickling.vet import Vetting

_COMPARED: Final = "keys that are a str and bytes of one content, which python -bb does not let be compared"
_Globals = dict[tuple[str, str], Callable[..., Any]]


forget_hashes: Callable[[], object] = getattr(getattr(fractions, "_hash_algorithm", None), "cache_clear", lambda: None)
"""Empty the table of the hashes of Fractions that CPython 3.12 and later keep for the whole process. A peer that sends
Fractions as keys, or as the value of an enum's member, could fill it with such as collide."""


class Decoder:
    """Decodes by one allowlist and one set of limits. Immutable; threads may share it."""

    def __init__(self, allowlist: Allowlist, limits: Limits) -> None:
        table = GlobalTable(allowlist.global_rules())
        self.rules = table.rules
        self._limits = limits
        self._max_size = limits.max_frame - FRAME_OVERHEAD
        self._rules = VettingRules(table, limits)
        self._vet: Callable[[bytes, dict[int, Memory] | None, list[int] | None], int] = _in_doubt
        """The native vetting pass; less than 0 if it leaves the message to the reference."""
        self.decode_at_once: Callable[[Any], Any] = self._decode
        """As :meth:`decode`; with the native core, most messages are decoded without a step in Python."""
        if NATIVE:
            native = import_module("sealwire.native.vetting")  # compiled, and so not known to the linters
            vetter = native.Vetter(self._rules, min(self._max_size, LONG_MESSAGE), pickle.loads, self._decode)
            self._vet, self.decode_at_once = vetter.vet, vetter.decode
        pairs = [_stand_ins(rule) for rule in table.rules]
        self._methods = methods(direct for direct, _ in pairs)
        self._direct = _unpickler(_globals(table, [direct for direct, _ in pairs]))
        self._inert = _unpickler(_globals(table, [inert for _, inert in pairs]))
        self._no_globals = _unpickler({})
        self._twin = _twin(table, [direct for direct, _ in pairs], limits) if NATIVE else None
        self._field_names = frozenset(name for adapter in allowlist.adapters for name in adapter.fields)

    def decode(self, data: bytes | bytearray | memoryview) -> Any:
        """Return the value of a pickle.

        Args:
            data: The pickle. A bytearray or writable memory must not be changed meanwhile.

        Raises:
            DecodeError: The message is refused.
            TypeError: ``data`` is not bytes-like.
        """
        return self.decode_at_once(data)

    def _decode(self, data: bytes | bytearray | memoryview, found: int = -1) -> Any:
        """Return the value of a pickle that was vetted natively; if ``found`` is less than 0, it is vetted here."""
        message = data if type(data) is bytes else _readable(data)
        frames: list[int] = []
        return self._build(self.check(message, frames=frames) if found < 0 else found, message, (), frames)

    def check(
        self,
        data: bytes | memoryview,
        large_buffers: dict[int, Memory] | None = None,
        frames: list[int] | None = None,
    ) -> int:
        """Vet a message and build nothing.

        Args:
            data: The message, or one without its large bytes.
            large_buffers: The large bytes that ``data`` lacks, as from :func:`.elide`.
            frames: Gets the offsets in ``data`` of frames that are longer than a piece (:mod:`.message_file`).

        Returns:
            A sum of the FOUND constants of :mod:`.nodes`.

        Raises:
            DecodeError: The message is refused.
        """
        if len(data) > self._max_size:
            raise LimitExceeded(f"max_frame: the message has {len(data)} bytes, {self._max_size} are allowed")
        try:
            if not isinstance(data, bytes):
                data, large_buffers = elide(data, self._limits.max_string)
            found_frames: list[int] = []
            found = self._vet(data, large_buffers, found_frames)
            if found < 0:
                found_frames = []
                found = Vetting(data, self._rules, large_buffers).run(found_frames)
        except BytesWarning:  # pragma: no cover - only with -bb, of which tests have processes of their own
            raise InvalidValue(_COMPARED) from None
        except (RecursionError, MemoryError) as error:
            raise refused("the message", error) from None
        if frames is not None:
            frames += with_large_buffers(found_frames, large_buffers or {})
        return found

    def check_encoded(self, written: PieceWriter, *, copy_buffers: bool) -> None:
        """Raise DecodeError if :meth:`decode` would refuse a message that was just written.

        Args:
            written: The message.
            copy_buffers: Build with copies of large bytearrays, because code that runs then may change them.
        """
        found = self.check(b"".join(written.elided), written.large_buffers)
        buffers = written.buffers
        if copy_buffers:
            buffers = [bytearray(buffer) if type(buffer) is bytearray else buffer for buffer in buffers]
        self._build(found, b"".join(written.building_message), buffers)

    def _build(
        self,
        found: int,
        message: bytes | memoryview,
        buffers: Sequence[bytes | bytearray],
        frames: Sequence[int] = (),
    ) -> Any:
        is_short = isinstance(message, bytes) and len(message) <= LONG_MESSAGE
        file = partial(io.BytesIO, message) if is_short else partial(MessageFile, message, frames)
        try:
            if not found and isinstance(message, bytes) and is_short:
                return pickle.loads(message, buffers=buffers)  # noqa: S301 - vetted, without globals, immutable
            if not found:
                return self._no_globals(file(), buffers=buffers).load()
            try:
                with Examining(self._limits.max_expanded_nodes) as examining:
                    return self._build_objects(found, file, buffers, examining)
            finally:
                forget_hashes()
        except UnicodeDecodeError:
            raise MalformedPickle("a str is not UTF-8") from None
        except (RecursionError, MemoryError) as error:
            raise refused("the message", error) from None
        except TypeError:
            raise InvalidValue("a key that is not hashable") from None
        except BytesWarning:  # pragma: no cover - only with -bb, of which tests have processes of their own
            raise InvalidValue(_COMPARED) from None

    def _build_objects(
        self, found: int, file: Callable[[], Any], buffers: Sequence[bytes | bytearray], examining: Examining
    ) -> Any:
        if not found & (FOUND_PLACEHOLDERS | FOUND_OBJECT_KEYS):
            try:
                return self._direct(file(), buffers=buffers).load()
            except InvalidValue:
                found = FOUND_OBJECT_KEYS  # built once more, by the way that reports the path
        has_object_keys = bool(found & FOUND_OBJECT_KEYS)
        if self._twin is not None and not has_object_keys:
            with Examining(self._limits.max_expanded_nodes):
                try:
                    return self._twin(self._direct(file(), buffers=buffers).load())
                except Exception:  # noqa: S110 - in doubt: the reference builds it once more, and reports the path
                    pass
        if not has_object_keys:
            try:
                value = self._direct(file(), buffers=buffers).load()
            except InvalidValue:
                has_object_keys = True  # as above
        if has_object_keys:
            value = self._inert(file(), buffers=buffers).load()
        resolver = Resolver(self._limits, self._methods, self._field_names, has_object_keys=has_object_keys)
        examining.key_costs = resolver.key_costs
        return resolver.resolve(value)


def _twin(table: GlobalTable, stand_ins: list[Callable[..., Any]], limits: Limits) -> Callable[[Any], Any]:
    """Return the native way to resolve a message, given the object for each rule."""
    instances = import_module("sealwire.native.instances")  # compiled, and so not known to the linters
    placeholders = {}
    calls = []
    for rule, stand_in in zip(table.rules, stand_ins, strict=True):
        record = rule.record
        fields = None if record is None else instances.Fields(record.checks, record.construct, same)
        if isinstance(stand_in, type) and issubclass(stand_in, Placeholder):
            placeholders[stand_in] = (rule.load, fields, rule.states)
        elif fields is not None:
            calls.append((rule.load, fields))
    resolve: Callable[[Any], Any] = instances.Resolver(placeholders, calls, limits.max_depth).resolve
    return resolve


def _in_doubt(*_: object) -> int:
    """In place of the native vetting pass: leaves every message to the reference."""
    return -1


def _stand_ins(rule: GlobalRule) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the unpickler's object for a global: if values may be made directly, and if calls must stay inert."""
    load = rule.load
    if rule.permissions & (NEW | NEW_WITH | TAKES_STATE):
        cls = placeholder_class(load, with_arguments=not rule.permissions & NEW)
        return cls, cls
    if rule.permissions & (TAKES_ITEMS | TAKES_PAIRS | CALL_ENCODE):
        # Made directly in either case: containers that the message fills, which are not hashable; and bytes,
        # which were hashed by the vetting pass.
        return load, load
    deferred = partial(partial, load)
    return deferred if rule.permissions & DEFERRED else load, deferred


def _globals(table: GlobalTable, stand_ins: list[Callable[..., Any]]) -> _Globals:
    """Return the globals of an unpickler, given the object for each rule."""
    members = {(stand_ins[outer], attribute): stand_ins[number] for (outer, attribute), number in table.members.items()}
    rebuilt = {
        function: {
            stand_ins[cls]: stand_ins[number] for (other, cls), number in table.rebuilt.items() if other == function
        }
        for function, _ in table.rebuilt
    }

    def stand_in(number: int, rule: GlobalRule) -> Callable[..., Any]:
        if rule.permissions & CALL_GETATTR:
            return lambda outer, attribute: members[outer, attribute]
        if rule.permissions & CALL_REBUILD:
            classes = rebuilt[number]
            return lambda cls, *parts: classes[cls](*parts)
        return stand_ins[number]

    numbers = table.old_numbers | table.numbers
    return {name: stand_in(number, table.rules[number]) for name, number in numbers.items()}


def _unpickler(names: _Globals) -> type[_Unpickler]:
    """Return a class of unpicklers that know these globals and no others."""
    return type("RestrictedUnpickler", (_Unpickler,), {"names": names})


class _Unpickler(pickle.Unpickler):
    names: ClassVar[_Globals]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.names[module, name]
        except KeyError:
            # The vetting pass refused it, unless another thread has changed the bytes since.
            raise not_listed(module, name, "") from None


def _readable(data: bytes | bytearray | memoryview) -> bytes | memoryview:
    """Return a message in a form that both passes can read, without copying a large one."""
    view = memoryview(data)
    if view.nbytes < LARGE or not view.contiguous:
        return view.tobytes()
    if type(view.obj) is bytes and view.nbytes == len(view.obj):
        return view.obj
    return view.cast("B")
