"""Checks what CPython presumes of its own exceptions, and of the attributes of any exception, without a check.

``str(UnicodeDecodeError("utf-8", b"abc", -2**40, 1 - 2**40, ""))`` reads far before the bytes and ends the process, and
a ``SyntaxError`` is printed with as many carets as its end offset says. Their constructors take such numbers, and so
do those of subclasses, so that it is the exception that is checked, after it was made and before anything uses it.
"""

from __future__ import annotations

from typing import Any, Final

from sealwire.pickling.adapters.record import MISSING

_MAX_LINE: Final = 2**31 - 1
_MAX_COLUMN: Final = 1024
"""Characters beyond the text of a SyntaxError that an offset may be at; it can be one of another line."""
_UTF_8: Final = 4
"""Bytes of a character, since some offsets count bytes."""


def fault_of(made: BaseException) -> str | None:
    """Return what an exception has that CPython's own code does not expect, or None if it can be used."""
    for cls in (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError):
        if isinstance(made, cls):
            content, start, end = (_attribute(cls, name, made) for name in ("object", "start", "end"))
            if content is not None and not 0 <= start < end <= len(content):
                return "its start and end are not positions in its object"
    if isinstance(made, SyntaxError):
        return _fault_of_syntax_error(made)
    return None


def _attribute(cls: type, name: str, made: BaseException) -> Any:
    """Return the attribute that CPython's own code reads, even if a subclass has another one of the name."""
    return vars(cls)[name].__get__(made)


def _fault_of_syntax_error(made: SyntaxError) -> str | None:
    found = {name: _attribute(SyntaxError, name, made) for name in _SYNTAX_ERROR}
    for name in ("msg", "filename", "text"):
        if type(found[name]) not in (str, type(None)):
            return f"its {name} must be str"
    last_column = _MAX_COLUMN + _UTF_8 * len(found["text"] or "")
    for name, largest in (
        ("lineno", _MAX_LINE), ("end_lineno", _MAX_LINE), ("offset", last_column), ("end_offset", last_column)
    ):  # fmt: skip
        number = found[name]
        if number is not None and not (type(number) is int and -1 <= number <= largest):
            return f"its {name} is not a position in its text"
    return None


_SYNTAX_ERROR: Final = ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset")


def may_be_set(cls: type, name: Any, value: Any, made: Any) -> str | None:
    """Return why an instance may not have an attribute that its constructor did not give it, or None if it may.

    Args:
        cls: The class of the exception.
        name: The name of the attribute, which a peer chose.
        value: The attribute.
        made: The attribute of this name that the constructor gave to the instance, or MISSING.
    """
    if type(name) is not str or not name.isidentifier() or name.startswith("__"):
        return "an attribute with a name that none has"
    # Ten times as fast as inspect.getattr_static.
    of_class = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), MISSING)
    if callable(of_class) or hasattr(type(of_class), "__get__") or hasattr(type(of_class), "__set__"):
        return f"its {name} cannot be set"
    expected = of_class if made is MISSING else made
    if expected is not MISSING and expected is not None and type(value) is not type(expected):
        return f"its {name} must be {type(expected).__name__}"
    return None
