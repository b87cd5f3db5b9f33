"""The encoder: an ordinary pickle, of nothing that the decoder would refuse.

Plain data is surveyed and then pickled by ``pickle.dumps`` (:mod:`.survey`). Where the survey leaves a doubt, or there
are other types, the decoder itself is asked about the result. When it says no, the path to the offending part is looked
for (:mod:`.blame`).
"""

from __future__ import annotations

import pickle
import zoneinfo
from typing import Any, Final

from sealwire.errors import DecodeError, EncodeError
from sealwire.limits import Limits
from sealwire.pickling.adapters import Adapter
from sealwire.pickling.allowlist import VALUES, Allowlist, not_allowed
from sealwire.pickling.blame import find_culprit
from sealwire.pickling.gathering import Gathering, Piece
from sealwire.pickling.standard import FACTORIES
from sealwire.pickling.survey import Surveyor
from sealwire.pickling.unpickler import Decoder

PROTOCOL: Final = 5
_NAMED: Final = VALUES.union(FACTORIES)
_UNPICKLE_ZONE: Final = zoneinfo.ZoneInfo._unpickle  # type: ignore[attr-defined]  # how a ZoneInfo is pickled


class Encoder:
    """Encodes what one decoder accepts. Immutable; threads may share it."""

    def __init__(self, allowlist: Allowlist, limits: Limits, decoder: Decoder) -> None:
        self._allowlist = allowlist
        self._limits = limits
        self._decoder = decoder
        self._surveyor = Surveyor(limits, PROTOCOL)
        self.adapters = {cls: adapter for adapter in allowlist.adapters for cls in adapter.covers}
        self._named = _NAMED.union(self.adapters)
        self._functions = [getattr, _UNPICKLE_ZONE, *(each for one in allowlist.adapters for each in one.functions)]
        self._kinds_of_functions = frozenset(map(type, self._functions))

    def encode(self, value: object, data: bytes | None = None) -> bytes | list[Piece]:
        """The pickle of a value, at protocol 5; in pieces where some are large and need not be copied into one.

        data: its pickle, where that is there already and the value is of plain data.
        Raises EncodeError with the path to what is wrong.
        """
        try:
            return self._surveyor.encode(value, data) or self.proved(value)
        except (EncodeError, DecodeError) as error:
            reason = str(error)
        except RecursionError:
            reason = "nested too deeply"
        except Exception:  # changed meanwhile by another thread, or a type's own code
            reason = "it, or a part of it, cannot be pickled"
        try:
            path, why = find_culprit(value, self._allowlist, self._limits.max_depth, self._attempt)
        except Exception:
            path, why = "$", ""
        raise EncodeError(f"{path}: {why or reason}")

    def _attempt(self, value: object) -> None:
        if self._surveyor.encode(value) is None:
            self.proved(value)

    def proved(self, value: object) -> bytes | list[Piece]:
        """The pickle of a value that the decoder has accepted. Raises EncodeError, DecodeError, RecursionError."""
        file = Gathering(self._limits)
        pickler = _Pickler(file, PROTOCOL)
        pickler.encoder = self
        try:
            pickler.dump(value)
        except pickle.PicklingError:
            raise EncodeError("it, or a part of it, cannot be pickled") from None
        if file.buffers:
            self._decoder.prove(file, private=pickler.private)
            return file.pieces
        data = b"".join(file.pieces)
        self._decoder.decode(data)
        return data

    def reduce(self, item: Any, adapter: Adapter | None) -> Any:
        """As ``reducer_override``: look at everything that is not plain data before any method of it can run."""
        kind = type(item)
        if adapter is not None:
            try:
                return adapter.reduce(item)
            except EncodeError:
                raise
            except Exception as error:  # the user's own code; its text may be of what is in the value
                raise EncodeError(f"{adapter.spelling} cannot be taken apart ({type(error).__name__})") from None
        if kind is memoryview:
            return bytes, (pickle.PickleBuffer(item.toreadonly() if item.c_contiguous else item.tobytes()),)
        # Standard value types, and what the pickles of values name.
        if kind in self._allowlist or (issubclass(kind, type) and item in self._named):
            return NotImplemented
        if kind in self._kinds_of_functions and any(item == function for function in self._functions):
            return NotImplemented
        raise EncodeError(not_allowed(item))


class _Pickler(pickle.Pickler):
    encoder: Encoder
    private = False
    """Whether there is a value whose own code sees its parts when it is made."""

    def reducer_override(self, item: Any) -> Any:
        adapter = self.encoder.adapters.get(type(item))
        if adapter is not None and adapter.runs:
            self.private = True
        return self.encoder.reduce(item, adapter)
