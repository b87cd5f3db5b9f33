"""From what pickles name to the table ``[allowlist]`` that would accept them, as text with its reasons."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sealwire.cli.configured import remarks
from sealwire.cli.console import printable
from sealwire.cli.danger import danger
from sealwire.cli.reading import CALLED, CHANGED, MADE, NAMED, OPENED, RESULT_CALLED, Name, Reading
from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.pickling import Allowlist
from sealwire.pickling.allowlist import GROUPS
from sealwire.pickling.importing import named

MAX_SUGGESTED: Final = 1000
"""Types, and as many refusals, that one table has."""

_BUILTINS: Final = ("builtins", "__builtin__", "exceptions")
_FORM: Final = re.compile(r"(?:\w+\.)*\w+")
_HELPERS: Final = {("msgspec._utils", "rebuild")}
"""Functions that come with the types of a library, and are not on a list by themselves."""
_CALLED: Final = "called: an enum, exception or struct; any other class needs an adapter"


@dataclass(slots=True)
class Suggestion:
    """``types``: "module:Class", to what to know of it. ``adapters``, ``refused``: names, to the reason why they cannot
    be allowed by themselves, or at all. ``unused``: groups of standard types of which no sample has any.
    """

    types: dict[str, str] = field(default_factory=dict)
    adapters: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def toml(self) -> str:
        """The table. Whatever the samples named, it is valid, and ``Allowlist.from_toml`` reads it."""
        lines = ["[allowlist]", *(["types = ["] if self.types else ["types = []"])]
        for name, remark in list(self.types.items())[:MAX_SUGGESTED]:
            lines.append(f'    "{name}",' + (f"  # {printable(remark)}" if remark else ""))
        if self.types:
            lines.append("]")
        if self.unused:
            groups = ", ".join(f'"{group}"' for group in self.unused)
            lines.append(f"# no sample has any of these standard types:\n# without = [{groups}]")
        for name, why in self.adapters.items():
            lines.append(f"# needs an adapter: {printable(name)}: {printable(why)}")
        lines += [f"# refused: {printable(name)}: {why}" for name, why in list(self.refused.items())[:MAX_SUGGESTED]]
        if max(len(self.types), len(self.refused)) > MAX_SUGGESTED:
            lines.append(f"# and more: the first {MAX_SUGGESTED} of each kind are listed")
        return "\n".join(lines) + "\n"


def suggest(readings: Iterable[Reading]) -> Suggestion:
    """By the names alone; nothing is imported."""
    uses: dict[Name, set[str]] = {}
    for reading in readings:
        for each, found in reading.names.items():
            uses.setdefault(each, set()).update(found)
    standard = {name for grant in Allowlist().grants(Limits()) for name in grant.names}
    made = Suggestion()
    for (module, name), how in sorted(uses.items()):
        spelling = f"{module}.{name}"
        why = _reason(module, name, how, standard=(module, name) in standard)
        if why:
            made.refused[spelling] = why
        elif (module, name) in standard | _HELPERS or how == {NAMED, OPENED}:
            continue
        elif module in _BUILTINS:
            made.types[f"builtins:{name}"] = "an exception: any accepted values as its arguments"
        else:
            made.types[f"{module}:{name}"] = _CALLED if CALLED in how else "" if MADE in how else "only named, not made"
    present = {(module.partition(".")[0], name) for module, name in uses}
    made.unused = tuple(
        group
        for group, classes in GROUPS.items()
        if present.isdisjoint((cls.__module__.partition(".")[0], cls.__qualname__) for cls in classes)
    )
    return made


def _reason(module: str, name: str, uses: set[str], *, standard: bool) -> str:
    """Why a name is not suggested; empty where nothing is against it, as far as a name shows it."""
    if CHANGED in uses:
        return "the sample changes it for the whole process"
    if RESULT_CALLED in uses:
        return "the sample calls what it returned"
    if standard:
        return ""
    if why := danger(module, name):
        return why
    if module in _BUILTINS:
        found = getattr(builtins, name, None)
        exception = isinstance(found, type) and issubclass(found, Exception)
        return "" if exception else "a builtin that is no type of values"
    if module == "__main__":
        return "the program that wrote it was started as a script, and the reader is another; move it to a module"
    if "<" in name:
        return "defined in a function, where no message can name it; move it to the top of a module"
    if _FORM.fullmatch(module) is None or _FORM.fullmatch(name) is None:
        return "not the name of a class"
    if CALLED in uses and not name.rpartition(".")[2][:1].isupper() and (module, name) not in _HELPERS:
        return "called, and written like a function, which no message may call; if it is a class, add it by hand"
    return ""


def try_types(suggestion: Suggestion) -> Allowlist:
    """Import the suggested types and register them; those that cannot be are moved to the adapters, with the reason.

    Returns the list of the others.
    """
    allowlist = Allowlist()
    for name in list(suggestion.types)[:MAX_SUGGESTED]:
        try:
            one = Allowlist(named(name))
            allowlist |= one
        except ConfigurationError as error:
            suggestion.adapters[name] = str(error)
            del suggestion.types[name]
        else:
            suggestion.types[name] = "; ".join(
                part for adapter in one.adapters for part in (adapter.kind, *remarks(adapter))
            )
    return allowlist
