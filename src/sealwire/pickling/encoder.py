"""The encoder: an ordinary pickle, of nothing that the decoder would refuse.

Plain data is surveyed and then pickled by ``pickle.dumps`` (:mod:`.survey`). Where the survey leaves a doubt, or there
are other types, the decoder itself is asked about the result. When it says no, the path to the offending part is looked
for (:mod:`.blame`).
"""

from __future__ import annotations

import io
import pickle
import zoneinfo
from typing import Any, Final

from sealwire.errors import DecodeError, EncodeError
from sealwire.limits import Limits
from sealwire.pickling.allowlist import VALUES, Allowlist, not_allowed
from sealwire.pickling.blame import find_culprit
from sealwire.pickling.standard import FACTORIES
from sealwire.pickling.survey import Surveyor
from sealwire.pickling.unpickler import Decoder

PROTOCOL: Final = 5
_CLASSES: Final = VALUES.union(FACTORIES)
_UNPICKLE_ZONE: Final = zoneinfo.ZoneInfo._unpickle  # type: ignore[attr-defined]  # how a ZoneInfo is pickled
_FUNCTIONS: Final = (type(getattr), type(_UNPICKLE_ZONE))


class Encoder:
    """Encodes what one decoder accepts. Immutable; threads may share it."""

    def __init__(self, allowlist: Allowlist, limits: Limits, decoder: Decoder) -> None:
        self._allowlist = allowlist
        self._limits = limits
        self._decoder = decoder
        self._surveyor = Surveyor(limits, PROTOCOL)

    def encode(self, value: object) -> bytes:
        """The pickle of a value, at protocol 5. Raises EncodeError with the path to what is wrong."""
        try:
            return self._surveyor.encode(value) or self.proved(value)
        except (EncodeError, DecodeError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        path, why = find_culprit(value, self._allowlist, self._limits.max_depth, self.proved)
        raise EncodeError(f"{path}: {why or reason}")

    def proved(self, value: object) -> bytes:
        """The pickle of a value that the decoder has accepted. Raises EncodeError, DecodeError, RecursionError."""
        file = io.BytesIO()
        pickler = _Pickler(file, PROTOCOL)
        pickler.allowlist = self._allowlist
        pickler.dump(value)
        data = file.getvalue()
        self._decoder.decode(data)
        return data


class _Pickler(pickle.Pickler):
    """Looks at everything that is not plain data before any method of it can run."""

    allowlist: Allowlist

    def reducer_override(self, item: Any) -> Any:
        kind = type(item)
        if kind in self.allowlist:
            return NotImplemented
        # What the pickles of values name.
        if isinstance(item, type) and item in _CLASSES:
            return NotImplemented
        if kind in _FUNCTIONS and (item is getattr or item == _UNPICKLE_ZONE):
            return NotImplemented
        raise EncodeError(not_allowed(item))
