"""Exceptions, by the arguments that their constructors declare."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, Final, get_origin

from sealwire.errors import ConfigurationError, InvalidValue
from sealwire.pickling.adapters.base import Adapter, qualified_name
from sealwire.pickling.adapters.exception_init import lost, made_by
from sealwire.pickling.adapters.exception_state import fault_of, may_be_set
from sealwire.pickling.adapters.record import MISSING, built, described
from sealwire.pickling.adapters.same import same
from sealwire.pickling.annotations import Types
from sealwire.pickling.globals import CALL, CALL_EMPTY, TAKES_STATE, GlobalRule
from sealwire.pickling.hints import hints
from sealwire.pickling.type_checks import Check, Mismatch, charge, exactly

MAX_ARGUMENTS: Final = 64
"""Arguments of an exception, if its constructor does not say how many it takes."""
_STEPS: Final = 16
"""Steps for one argument, a third of those for an attribute; a message may share those of many exceptions."""
_KEYWORDS: Final[dict[type, tuple[str, ...]]] = {ImportError: ("name", "path"), AttributeError: ("name",)}
"""Attributes that CPython's own exceptions are pickled with, and that their constructors take by keyword."""
_WITH_STATE: Final = (
    AttributeError, ImportError, NameError, OSError, StopIteration, SyntaxError, UnicodeDecodeError, UnicodeEncodeError,
    UnicodeTranslateError,
)  # fmt: skip
"""Exceptions of CPython's that keep more than args and attributes."""


class ExceptionAdapter(Adapter):
    """Makes an exception again from its ``args`` and attributes, by its own constructor.

    The constructor gets the ``args``, and each attribute that has the name of another parameter; or all parameters from
    attributes of their names, if it makes ``args`` of them. What it makes must be what was sent. Attributes that the
    constructor does not know are set afterwards, like those that a program sets on an exception.

    Arguments are checked against the annotations of a constructor that is written in Python, and attributes against
    those of the class. CPython's own constructors take any accepted values, if the exception can be used then, and its
    own classes no other attributes.

    If the constructor could not make the same again, as its source says (:mod:`.exception_init`), it does not run: the
    exception has the ``args`` and the attributes that were sent, and each attribute that its constructor sets must be
    declared, in the class or as the parameter that it has the value of.

    The notes of an exception (PEP 678) are sent; its traceback, cause and context are
    not, nor is the name that an ImportError did not find in a module: CPython would import that module to print it.
    """

    kind = "exception"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        name = qualified_name(cls)
        if not issubclass(cls, Exception) or issubclass(cls, BaseExceptionGroup):
            raise ConfigurationError(f"{name}: only subclasses of Exception can be allowed, and no groups")
        self._signature: inspect.Signature | None = None
        annotations: dict[str, Any] = {}
        if inspect.isfunction(cls.__init__):
            self._signature = inspect.signature(cls.__init__)
            resolved = hints(cls.__init__, name)
            parameters = list(self._signature.parameters.values())[1:]
            annotations = {parameter.name: resolved.get(parameter.name, Any) for parameter in parameters}
        super().__init__(cls, annotations, shallow=shallow)
        self._required: frozenset[str] | None = None
        """The attributes that are always set, if the constructor does not run."""
        self._attributes: dict[str, Any] = {}
        """The annotations of the attributes that it sets, in that case."""
        if self._signature is not None:
            self._read_constructor(self._signature)
        # The parameters of a constructor in Python by position and by keyword; the keywords of CPython's own.
        self._positional: list[str] = []
        self._by_keyword: list[str] = []
        self._keywords = frozenset[str]()
        if self._signature is None:
            self._keywords = frozenset(
                keyword for base, names in _KEYWORDS.items() if issubclass(cls, base) for keyword in names
            )
        for each in list(self._signature.parameters.values())[1:] if self._signature else ():
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
                self._positional.append(each.name)
            if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
                self._by_keyword.append(each.name)

    def _read_constructor(self, signature: inspect.Signature) -> None:
        """Find out if the constructor can make an exception again, and otherwise which attributes are declared."""
        made = made_by(self.cls)
        what = lost(signature, made)
        if what is None:
            return
        declared = hints(self.cls, self.qualified_name)
        for name, symbol in made.attributes.items():
            if name in declared or symbol in self.fields:
                self._attributes[name] = declared[name] if name in declared else self.fields[symbol or ""]
        unknown = [name for name in made.attributes if name not in self._attributes]
        if unknown or issubclass(self.cls, _WITH_STATE):
            remedy = f"declare its attributes in the class ({unknown[0]}: …), " if unknown else ""
            raise ConfigurationError(
                f"{self.qualified_name}: its __init__ cannot make it again, since {what} would be lost; keep each "
                f"parameter in an attribute of its name, {remedy}or register an adapter"
            )
        self._required = frozenset(made.always)

    def annotations(self) -> Mapping[str, Any]:
        """Return the annotations of its arguments and attributes."""
        declared = {name: hint for name, hint in self._class_hints().items() if get_origin(hint) is not ClassVar}
        return declared | (self._attributes if self._required is not None else dict(self.fields))

    def _class_hints(self) -> dict[str, Any]:
        with contextlib.suppress(ConfigurationError):
            return hints(self.cls, self.qualified_name)
        return {}

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """REDUCE with the arguments, and the attributes as state."""
        checks = self.checks(types) if self._required is None else {}
        declared = self._declared(types)
        # CPython's OSError makes one of its subclasses of these numbers, and protocol 2 knows no other name for them.
        kinds = types.subclasses(OSError) if self.cls is OSError else frozenset((self.cls,))

        def load(arguments: tuple[Any, ...] = (), state: Any = MISSING) -> Any:
            if len(arguments) > MAX_ARGUMENTS:
                raise InvalidValue(f"{self.qualified_name}: more than {MAX_ARGUMENTS} arguments")
            attributes, notes = self._read_state(arguments, state)
            charge(_STEPS * (1 + len(arguments) + 3 * len(attributes)))
            made = self._made(arguments, attributes, checks, declared, kinds)
            for note in notes:
                made.add_note(note)
            return made

        yield self.rule(
            CALL | CALL_EMPTY | TAKES_STATE, lambda *parts: built(self.qualified_name, load, *parts), memory=512
        )

    def _declared(self, types: Types) -> dict[str, Check]:
        """Return the checks of the attributes that the class declares; what cannot be checked rejects everything."""
        found = {
            name: exactly("what the constructor makes", frozenset())
            for base in self.cls.__mro__
            for name in vars(base).get("__annotations__", ())
        }
        for name, hint in (self._class_hints() | self._attributes).items():
            try:
                check = types.check(hint, f"{self.qualified_name}.{name}", self.cls)
            except ConfigurationError:
                if name in self._attributes:
                    raise
                continue
            found[name] = check.shallow() if self._shallow else check
        return found

    # Reading

    def _read_state(self, arguments: tuple[Any, ...], state: Any) -> tuple[dict[str, Any], list[str]]:
        """Return the attributes without the notes, and the notes."""
        if state is MISSING:
            return {}, []
        if type(state) is not dict or len(state) > MAX_ARGUMENTS:
            raise InvalidValue(f"{self.qualified_name}: its attributes are not a dict of at most {MAX_ARGUMENTS}")
        attributes = dict(state)
        for name in ("name_from",) if issubclass(self.cls, ImportError) else ():
            attributes.pop(name, None)
        if "args" in attributes and same(attributes["args"], arguments):
            del attributes["args"]
        if not all(attributes[name] is None or type(attributes[name]) is str for name in self._keywords & state.keys()):
            keywords = ", ".join(sorted(self._keywords & state.keys()))
            raise InvalidValue(f"{self.qualified_name}: its {keywords} must be str")
        notes = attributes.pop("__notes__", [])
        if type(notes) is not list or not all(type(note) is str for note in notes):
            raise InvalidValue(f"{self.qualified_name}: its notes are not a list of str")
        return attributes, notes

    def _made(
        self,
        arguments: tuple[Any, ...],
        attributes: dict[str, Any],
        checks: dict[str, Check],
        declared: dict[str, Check],
        kinds: frozenset[type],
    ) -> Any:
        """Return the exception that one of the calls makes which may have made it."""
        for name, check in declared.items():
            if name in attributes and check.container_types:
                self._check(check, attributes[name], name)
        if self._required is not None:
            return self._made_without_constructor(arguments, attributes, declared)
        refused = InvalidValue(self.qualified_name)
        for positional, keywords in self._calls(arguments, attributes):
            try:
                given = self._check_arguments(positional, keywords, checks)
                made = built(self.qualified_name, self.cls, *positional, **keywords)
                if type(made) not in kinds:
                    raise self._another("of another type")
                self._complete(made, arguments, attributes, given, {**checks, **declared})
            except InvalidValue as error:
                refused = error
            else:
                return made
        raise refused

    def _made_without_constructor(
        self, arguments: tuple[Any, ...], attributes: dict[str, Any], declared: dict[str, Check]
    ) -> Any:
        """Return the exception with these args and attributes."""
        lacks = [name for name in self._required or () if name not in attributes]
        if lacks:
            raise InvalidValue(f"{self.qualified_name}: it lacks {sorted(lacks)[0]}, which its __init__ always sets")
        made = built(self.qualified_name, self.cls.__new__, self.cls, *arguments)
        if type(made) is not self.cls:
            raise self._another("of another type")
        for name, value in attributes.items():
            why = may_be_set(self.cls, name, value, MISSING)
            if why is not None:
                raise InvalidValue(f"{self.qualified_name}: {why}")
            if name in declared:
                self._check(declared[name], value, name)
        made.args = arguments
        vars(made).update(attributes)
        return made

    def _calls(
        self, arguments: tuple[Any, ...], attributes: dict[str, Any]
    ) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Yield the arguments of the calls that may have made an exception, the most probable one first."""
        if self._signature is None:
            yield arguments, {name: attributes[name] for name in self._keywords & attributes.keys()}
            return
        known = {name: attributes[name] for name in self._by_keyword if name in attributes}
        given = self._positional[: len(arguments)]
        rest = {name: value for name, value in known.items() if name not in given}
        yield arguments, rest
        if len(known) > len(rest):
            yield (), known

    def _check_arguments(
        self, arguments: tuple[Any, ...], keywords: dict[str, Any], checks: dict[str, Check]
    ) -> Collection[str]:
        """Return the names of the parameters that get a value."""
        if self._signature is None:
            return keywords
        try:
            bound = self._signature.bind(None, *arguments, **keywords).arguments
        except TypeError:
            raise InvalidValue(f"{self.qualified_name}: not the arguments that its constructor declares") from None
        for name, value in list(bound.items())[1:]:
            is_variadic = self._signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            for one in value if is_variadic else (value,):
                self._check(checks[name], one, name)
        return bound

    def _check(self, check: Check, value: Any, name: str) -> None:
        try:
            check(value)
        except Mismatch as mismatch:
            error = InvalidValue(f"{self.qualified_name}: {described(mismatch, f' for {name}')}")
            error.inside(*mismatch.path, f".{name}")
            raise error from None

    def _complete(
        self,
        made: Any,
        arguments: tuple[Any, ...],
        attributes: dict[str, Any],
        given: Collection[str],
        checks: dict[str, Check],
    ) -> None:
        """Compare an exception with what was sent, and set the attributes that its constructor does not know."""
        fault = fault_of(made)
        if fault is not None:
            raise InvalidValue(f"{self.qualified_name}: {fault}")
        made_arguments, own = _arguments_and_attributes(made)
        if self._signature is None:  # CPython 3.11 does not pickle the name of an AttributeError, and 3.12 does
            own |= {name: getattr(made, name) for name in given}
        if not same(arguments, made_arguments):
            raise self._another("with other args")
        for name in own.keys() - attributes.keys():
            raise self._another(f"with {name}")
        others = {name: value for name, value in attributes.items() if name not in own or not same(value, own[name])}
        for name, value in others.items():
            if name in given and name in own:
                raise self._another(f"with another {name}")
            if self.cls.__module__ == "builtins":
                raise self._another("without one of these attributes, and only classes of your own have any")
            why = may_be_set(self.cls, name, value, own.get(name, MISSING))
            if why is not None:
                raise InvalidValue(f"{self.qualified_name}: {why}")
            if name in checks:
                self._check(checks[name], value, name)
        if others:
            vars(made).update(others)

    def _another(self, how: str) -> InvalidValue:
        return InvalidValue(
            f"{self.qualified_name}: its constructor makes another exception of these arguments, {how}; let it keep "
            "what it is given, or register an adapter"
        )

    def parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield its arguments and attributes."""
        arguments, attributes = _arguments_and_attributes(value)
        for index, part in enumerate(arguments):
            yield f".args[{index}]", part
        for name, part in attributes.items():
            yield f".{name}", part

    def notes(self) -> Iterator[str]:
        """Yield which code of the class runs, and which values are not checked."""
        if self._required is not None:
            yield "puts any accepted values into its arguments; its __init__ does not run"
        elif self._signature is not None:
            yield "runs __init__ on values that a peer chose"
        else:
            yield "puts any accepted values into its arguments"


def _arguments_and_attributes(error: Exception) -> tuple[Any, Any]:
    """Return the arguments and attributes as they are pickled: OSError keeps a file name out of its ``args``."""
    parts: Any = error.__reduce__()
    # CPython 3.12 repeats the arguments of an AttributeError among its attributes.
    return parts[1], {name: part for name, part in parts[2].items() if name != "args"} if len(parts) > 2 else {}
