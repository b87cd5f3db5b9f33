"""The encoder: writes an ordinary pickle, and refuses each value that the decoder would refuse.

A pickler writes the message, and the decoder is asked about it: it decodes the message completely, so that encoding a
value is also a test of its adapters. If the decoder refuses, the path to the part at fault is searched
(:mod:`.diagnose`), because a pickle does not say which object its bytes came from.

The native core surveys a value before that, and if the decoder would surely accept it, the value is pickled at once
(:mod:`sealwire.native.survey`).

The pickler calls :meth:`Encoder.reduce` for each object that is not plain data before any method of the object runs.
Types that are not on the allowlist are refused there.
"""

from __future__ import annotations

import copyreg
import datetime
import ipaddress
import pickle
import zoneinfo
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import PurePath
from typing import Any, Final

from sealwire.errors import DecodeError, EncodeError, LimitExceeded
from sealwire.limits import FRAME_OVERHEAD, Limits
from sealwire.native import NATIVE
from sealwire.pickling.adapters import Adapter, qualified_name
from sealwire.pickling.allowlist import VALUES, Allowlist, not_allowed, not_on_the_list
from sealwire.pickling.diagnose import find_unencodable
from sealwire.pickling.pickle_writer import Piece, PieceWriter
from sealwire.pickling.standard import BUILTINS, FACTORIES
from sealwire.pickling.type_checks import Examining
from sealwire.pickling.unpickler import Decoder

PROTOCOL: Final = 5
_WORTH_PIECES: Final = 1 << 18
"""Large bytes that take longer to copy than to keep apart."""
_CANNOT_BE_PICKLED: Final = "it, or a part of it, cannot be pickled"
_FACTORIES: Final = (None, *FACTORIES)
_FACTORY_NAMES: Final = ", ".join(sorted(each.__name__ for each in FACTORIES if not issubclass(each, PurePath)))
_ZONED: Final = frozenset((datetime.datetime, datetime.time))
_NAMED: Final = VALUES.union(BUILTINS)
_UNPICKLE_ZONE: Final = zoneinfo.ZoneInfo._unpickle  # type: ignore[attr-defined]  # how a ZoneInfo is pickled


class Encoder:
    """Encodes the values that one decoder accepts. Immutable; threads may share it."""

    def __init__(self, allowlist: Allowlist, limits: Limits, decoder: Decoder) -> None:
        self._allowlist = allowlist
        self._limits = limits
        self._decoder = decoder
        self.encode_surely = _survey(limits, decoder)
        """Returns the pickle of a value, or its pieces, if the decoder would surely accept it, otherwise None."""
        self.adapters = {cls: adapter for adapter in allowlist.adapters for cls in adapter.value_types}
        self._named = _NAMED.union(self.adapters)
        self._functions = [getattr, _UNPICKLE_ZONE, *(each for one in allowlist.adapters for each in one.functions)]
        self._types_of_functions = frozenset(map(type, self._functions))

    def encode(self, value: object) -> bytes | list[Piece]:
        """Return the pickle of a value, at protocol 5; in pieces if some are large and need not be copied into one.

        Args:
            value: Any value of the allowlist.

        Raises:
            EncodeError: The value cannot be sent; the error begins with the path to the part at fault.
        """
        try:
            return self.encode_surely(value) or self.encode_checked(value)
        except (EncodeError, DecodeError) as error:
            reason = str(error)
            over_limit = isinstance(error, LimitExceeded)
        except RecursionError:
            reason = "nested too deeply"
            over_limit = True
        except Exception:  # another thread has changed it meanwhile, or a type's own code failed
            reason = _CANNOT_BE_PICKLED
            over_limit = False
        try:
            path, why = find_unencodable(value, self._allowlist, self._limits.max_depth, self._attempt)
        except Exception:
            path, why = "$", ""
        raise EncodeError(f"{path}: {why or reason}", over_limit=over_limit)

    def _attempt(self, value: object) -> None:
        if self.encode_surely(value) is None:
            self.encode_checked(value)

    def encode_checked(self, value: object) -> bytes | list[Piece]:
        """Return the pickle of a value after the decoder accepted it.

        Raises:
            EncodeError: A type is not on the allowlist, or an adapter failed.
            DecodeError: The decoder refuses the message.
            RecursionError: The value is nested too deeply.
        """
        file = PieceWriter(self._limits)
        pickler = _Pickler(file, PROTOCOL)
        pickler.encoder = self
        try:
            pickler.dump(value)
        except pickle.PicklingError:
            raise EncodeError(_CANNOT_BE_PICKLED) from None
        if file.buffers:
            self._decoder.check_encoded(file, copy_buffers=pickler.met_foreign_code)
            return file.pieces
        data = b"".join(file.pieces)
        self._decoder.decode(data)
        return data

    def reduce(self, item: Any, adapter: Adapter | None) -> Any:
        """Reduce an object that is not plain data, like ``reducer_override``. Raises EncodeError."""
        kind = type(item)
        if adapter is not None:
            try:
                return adapter.reduce(item)
            except EncodeError:
                raise
            except Exception as error:  # from a user's own code; its text may contain parts of the value
                raise EncodeError(f"{adapter.qualified_name} cannot be taken apart ({type(error).__name__})") from None
        if kind is memoryview:
            return bytes, (pickle.PickleBuffer(item.toreadonly() if item.c_contiguous else item.tobytes()),)
        if kind in _ZONED and kind in self._allowlist:
            known = self._with_known_zone(item)
            return NotImplemented if known is item else known.__reduce_ex__(PROTOCOL)
        if kind is ipaddress.IPv6Address and item.scope_id is not None:
            return kind, (str(item),)  # the first releases of CPython 3.11 leave the scope out
        if kind is defaultdict and not any(item.default_factory is each for each in _FACTORIES):
            factory = item.default_factory
            is_listed = issubclass(type(factory), type) and factory in self._allowlist
            why = f"the factory {qualified_name(factory)} cannot be sent" if is_listed else not_on_the_list(factory)
            raise EncodeError(
                f"{why}; the factory of a defaultdict is None or one of {_FACTORY_NAMES}; set default_factory to None"
            )
        # Standard value types, and the classes and functions that the pickles of values name.
        if kind in self._allowlist or (issubclass(kind, type) and item in self._named):
            return NotImplemented
        if kind in self._types_of_functions and any(item == function for function in self._functions):
            return NotImplemented
        raise EncodeError(not_allowed(item))

    def _with_known_zone(self, item: Any) -> Any:
        """Return a datetime or time with a zone that can be sent: its own, or its offset from UTC at that moment."""
        zone = item.tzinfo
        if zone is None or type(zone) in self.adapters or type(zone) is datetime.timezone:
            return item
        if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
            return item
        try:
            return item.replace(tzinfo=datetime.timezone(item.utcoffset()))
        except Exception as error:  # from a zone's own code; without a date, most have no offset
            raise EncodeError(
                f"{qualified_name(type(item))}: its zone of type {qualified_name(type(zone))} has no offset to send; "
                "register an adapter for it, or use a ZoneInfo"
            ) from error


_UTF_8: Final = 4
"""Bytes of a character at most."""


def _survey(limits: Limits, decoder: Decoder) -> Callable[[object], bytes | list[Piece] | None]:
    if not NATIVE:
        return lambda _: None
    survey = import_module("sealwire.native.survey")  # compiled, and so not known to the linters

    def dump_pieces(value: object) -> list[Piece]:
        file = PieceWriter(limits)
        pickle.Pickler(file, PROTOCOL).dump(value)
        return file.pieces

    made = survey.Survey(
        limits,
        limits.max_frame - FRAME_OVERHEAD,
        pickle.dumps,
        dump_pieces,
        _WORTH_PIECES,
        [
            (rule.shape, rule.memory)
            for rule in decoder.rules
            # The names of a class are str of the message as well.
            if rule.shape is not None
            and all(len(part) * _UTF_8 <= limits.max_string for name in rule.names for part in name)
        ],
        partial(Examining, limits.max_expanded_nodes),
        copyreg.dispatch_table,
    )
    encode: Callable[[object], bytes | list[Piece] | None] = made.encode
    return encode


class _Pickler(pickle.Pickler):
    encoder: Encoder
    met_foreign_code = False
    """Foreign code sees the parts of a value when it is made."""

    def reducer_override(self, item: Any) -> Any:
        adapter = self.encoder.adapters.get(type(item))
        if adapter is not None and adapter.runs_foreign_code:
            self.met_foreign_code = True
        return self.encoder.reduce(item, adapter)
