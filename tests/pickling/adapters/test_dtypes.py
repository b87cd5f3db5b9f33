"""dtypes by themselves, and forms of them that NumPy never writes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from sealwire import Allowlist, Codec, DecodeError, InvalidValue

OWN = Codec(Allowlist(np.ndarray, np.generic))


class AsDtype:
    """Pickles as a dtype with that state."""

    def __init__(self, form: str, *state: Any) -> None:
        self.form = form
        self.state = state

    def __reduce__(self) -> Any:
        return np.dtype, (self.form, False, True), self.state


def test_dtypes_of_unknown_shape() -> None:
    good = pickle.dumps(np.dtype("M8[s]"), 4)
    assert OWN.decode(good) == np.dtype("M8[s]")
    for bad in (good.replace(b"M8", b"M9"), pickle.dumps(np.dtype(("i4", (2,))), 4).replace(b"V8", b"V9")):
        with pytest.raises(DecodeError):
            OWN.decode(bad)


BASE = np.dtype("i4")
DTYPES = {
    "a subarray without shape": ("V8", (3, "|", (BASE, 2), None, None, 8, 1, 0)),
    "a subarray of another size": ("V8", (3, "|", (BASE, (3,)), None, None, 8, 1, 0)),
    "names without fields": ("V4", (3, "|", None, ("a",), None, 4, 1, 0)),
    "a number with names": ("i4", (3, "<", None, ("a",), {"a": (BASE, 0)}, 4, 4, 0)),
    "a field with a title": ("V4", (3, "|", None, ("a",), {"a": (BASE, 0, "title")}, 4, 1, 0)),
}


@pytest.mark.parametrize(("form", "state"), DTYPES.values(), ids=DTYPES)
def test_odd_dtypes(form: str, state: Any) -> None:
    with pytest.raises(InvalidValue):
        OWN.decode(pickle.dumps(AsDtype(form, *state), 4))
