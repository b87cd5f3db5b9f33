"""Turns the names in pickles into the table ``[allowlist]`` that would accept them, as text with reasons."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sealwire.cli.config import peer_effects
from sealwire.cli.pickle_summary import (
    ATTRIBUTE_READ,
    CALLED,
    CHANGED,
    IMPORTED,
    INSTANTIATED,
    RESULT_CALLED,
    Name,
    PickleSummary,
)
from sealwire.cli.unsafe_globals import danger
from sealwire.errors import ConfigurationError
from sealwire.pickling import Allowlist
from sealwire.pickling.allowlist import GROUPS
from sealwire.pickling.importing import import_object
from sealwire.wire.frames import escaped

MAX_SUGGESTED: Final = 1000
"""The most types, and the most refusals, in one table."""

_BUILTINS: Final = ("builtins", "__builtin__", "exceptions")
_FORM: Final = re.compile(r"(?:\w+\.)*\w+")
_HELPERS: Final = {("msgspec._utils", "rebuild")}
"""Functions that come with the types of a library, and are not on a list by themselves."""
_CALLED: Final = "called: an enum, exception or struct; any other class needs an adapter"


@dataclass(slots=True)
class Suggestion:
    """A table ``[allowlist]`` with remarks."""

    types: dict[str, str] = field(default_factory=dict)
    """Each type, as "module:Class", and a remark on it."""
    adapters: dict[str, str] = field(default_factory=dict)
    """Names that need an adapter, and the reason."""
    refused: dict[str, str] = field(default_factory=dict)
    """Names that cannot be allowed, and the reason."""
    unused: tuple[str, ...] = ()
    """Groups of standard types that no sample has."""

    def toml(self) -> str:
        """Return the table. It is valid for ``Allowlist.from_toml``, whatever the samples named."""
        lines = ["[allowlist]", *(["types = ["] if self.types else ["types = []"])]
        for name, remark in list(self.types.items())[:MAX_SUGGESTED]:
            lines.append(f'    "{name}",' + (f"  # {escaped(remark)}" if remark else ""))
        if self.types:
            lines.append("]")
        if self.unused:
            groups = ", ".join(f'"{group}"' for group in self.unused)
            lines.append(f"# no sample has any of these standard types:\n# without = [{groups}]")
        lines += [f"# needs an adapter: {escaped(f'{name}: {reason}')}" for name, reason in self.adapters.items()]
        refused = list(self.refused.items())[:MAX_SUGGESTED]
        lines += [f"# refused: {escaped(f'{name}: {reason}')}" for name, reason in refused]
        if max(len(self.types), len(self.refused)) > MAX_SUGGESTED:
            lines.append(f"# and more: the first {MAX_SUGGESTED} of each kind are listed")
        return "\n".join(lines) + "\n"


def suggest(summaries: Iterable[PickleSummary]) -> Suggestion:
    """Suggest a table by the names alone; nothing is imported."""
    uses: dict[Name, set[str]] = {}
    for summary in summaries:
        for imported, found in summary.names.items():
            uses.setdefault(imported, set()).update(found)
    standard = {name for rule in Allowlist().global_rules() for name in rule.names}
    suggestion = Suggestion()
    for (module, name), its_uses in sorted(uses.items()):
        reason = _refusal(module, name, its_uses, standard=(module, name) in standard)
        if reason:
            suggestion.refused[f"{module}.{name}"] = reason
        elif (module, name) in standard | _HELPERS or its_uses == {IMPORTED, ATTRIBUTE_READ}:
            continue
        elif module in _BUILTINS:
            suggestion.types[f"builtins:{name}"] = "an exception: any accepted values as its arguments"
        else:
            remark = _CALLED if CALLED in its_uses else "" if INSTANTIATED in its_uses else "only named, not made"
            suggestion.types[f"{module}:{name}"] = remark
    present = {(module.partition(".")[0], name) for module, name in uses}
    suggestion.unused = tuple(
        group
        for group, classes in GROUPS.items()
        if present.isdisjoint((cls.__module__.partition(".")[0], cls.__qualname__) for cls in classes)
    )
    return suggestion


def _refusal(module: str, name: str, uses: set[str], *, standard: bool) -> str:
    """Return the reason why a name is not suggested; empty if the name alone shows none."""
    if CHANGED in uses:
        return "the sample changes it for the whole process"
    if RESULT_CALLED in uses:
        return "the sample calls its result"
    if standard:
        return ""
    if attack := danger(module, name):
        return attack
    if module in _BUILTINS:
        builtin = getattr(builtins, name, None)
        exception = isinstance(builtin, type) and issubclass(builtin, Exception)
        return "" if exception else "a builtin that is not a type of values"
    if module == "__main__":
        return "its program was started as a script, and the reader is another; move it to a module"
    if "<" in name:
        return "defined in a function, where no message can name it; move it to the top of a module"
    if _FORM.fullmatch(module) is None or _FORM.fullmatch(name) is None:
        return "not the name of a class"
    if CALLED in uses and not name.rpartition(".")[2][:1].isupper() and (module, name) not in _HELPERS:
        return "called, and written like a function, which no message may call; if it is a class, add it by hand"
    return ""


def register_types(suggestion: Suggestion) -> Allowlist:
    """Import the suggested types and return a list of them; those that are refused become adapters to write."""
    allowlist = Allowlist()
    for name in list(suggestion.types)[:MAX_SUGGESTED]:
        try:
            single = Allowlist(import_object(name))
            allowlist |= single
        except ConfigurationError as error:
            suggestion.adapters[name] = str(error)
            del suggestion.types[name]
        else:
            suggestion.types[name] = "; ".join(
                part for adapter in single.adapters for part in (adapter.kind, *peer_effects(adapter))
            )
    return allowlist
