"""Reads from the source of an exception's ``__init__`` if the exception can be made again from its args and attributes.

Nothing is run: a constructor may count, log or send, and which values it takes is not known. What it makes is followed
in terms of its parameters, through the constructors of its bases: the ``args``, and the attributes that it sets.
"""

from __future__ import annotations

import ast
import dis
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

Symbol = str | None
"""The name of a parameter of the constructor whose value is there as it was given; None for any other value."""
_STAR: Final = "*"
_CONVERSIONS: Final = {
    **{name: name for name in ("bool", "bytes", "float", "int", "str")},
    "dict": "dict|Mapping|MutableMapping",
    "frozenset": "frozenset|Set|AbstractSet|Collection|Iterable",
    "list": "list|Sequence|MutableSequence|Collection|Iterable",
    "set": "set|Set|AbstractSet|MutableSet|Collection|Iterable",
    "tuple": "tuple|Sequence|Collection|Iterable",
}
"""Functions that return a value of their type as it is, and the annotations that take what they return."""


@dataclass
class Made:
    """The exception that a constructor makes.

    args: Its arguments; None if they are those that it was called with.
    attributes: The attributes that it sets.
    always: Those of them that it sets in any case.
    used: The parameters that args or an attribute depend on.
    is_new: True if args may differ each time, because they have the result of a call without any parameter.
    """

    args: list[Symbol] | None = None
    attributes: dict[str, Symbol] = field(default_factory=dict)
    always: set[str] = field(default_factory=set)
    is_new: bool = False
    used: set[str] = field(default_factory=set)


def made_by(cls: type) -> Made:
    """Return what the constructor of an exception class makes, which is written in Python."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]  # of this class
    texts = {
        each.name: "" if each.annotation is each.empty else inspect.formatannotation(each.annotation)
        for each in parameters
    }
    return _trace(cls.__mro__, None, texts)


def lost(signature: inspect.Signature, made: Made) -> str | None:
    """Return what cannot be found again: a parameter that is neither in args nor in an attribute of its name.

    If the result is None, the constructor makes the same exception of args and attributes again.
    """
    if made.is_new:
        return "its args, which differ each time"
    parameters = list(signature.parameters.values())[1:]
    positional = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    by_keyword = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    star = [_STAR for each in parameters if each.kind is each.VAR_POSITIONAL]
    # One that can be left out, and that nothing depends on, is not missed.
    idle = {each.name for each in parameters if each.default is not each.empty and each.name not in made.used}
    needed = [name for name in dict.fromkeys((*positional, *by_keyword)) if name not in idle]
    kept = {name for name in by_keyword if made.attributes.get(name) == name}
    args = made.args
    if args is None:  # a parameter that was given by its name is not among them
        return next((f"its {name}" for name in needed if name not in kept and name not in positional), None)
    in_args = args == (positional + star)[: len(args)]
    missing = [name for name in needed if name not in kept and not (in_args and name in positional[: len(args)])]
    if star and not (in_args and len(args) > len(positional)):
        missing.append(next(each.name for each in parameters if each.kind is each.VAR_POSITIONAL))
    return f"its {missing[0]}" if missing else None


def _trace(mro: Sequence[type], given: Mapping[str, Symbol] | None, texts: Mapping[str, str]) -> Made:
    """Return what the first constructor among these classes makes.

    Args:
        mro: The classes.
        given: The values of its parameters, by name; None for those of the exception's own constructor.
        texts: The annotations of those.
    """
    owner = next(index for index, base in enumerate(mro) if "__init__" in vars(base))
    function = vars(mro[owner])["__init__"]
    names = list(inspect.signature(function).parameters.values())
    symbols: dict[str, Symbol] = {
        each.name: _STAR if each.kind is each.VAR_POSITIONAL else each.name for each in names[1:]
    }
    if given is not None:
        symbols = {name: given.get(name) for name in symbols}
    tree = _parsed(function)
    if tree is None:
        return _without_source(function, symbols)
    return _Body(tree, names[0].name, symbols, mro[owner:], texts).made()


def _parsed(function: Any) -> ast.FunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    return tree if isinstance(tree, ast.FunctionDef) else None


def _without_source(function: Any, symbols: dict[str, Symbol]) -> Made:
    """Return what a function without source makes, such as that of a dataclass: it keeps what it stores."""
    stored = [each.argval for each in dis.get_instructions(function) if each.opname == "STORE_ATTR"]
    attributes = {name: symbols.get(name) for name in stored}
    args: list[Symbol] | None = [None] if "__init__" in function.__code__.co_names else None
    return Made(args, attributes, set(stored), used=set(symbols))


class _Body:
    """The body of one constructor."""

    def __init__(
        self,
        tree: ast.FunctionDef,
        itself: str,
        symbols: Mapping[str, Symbol],
        mro: Sequence[type],
        texts: Mapping[str, str],
    ) -> None:
        self._tree = tree
        self._itself = itself
        self._given = symbols
        self._symbols = dict(symbols)
        self._mro = mro
        self._texts = texts

    def made(self) -> Made:
        found = Made()
        for node in _in_order(self._tree):
            at_top = node in self._tree.body
            if _is_init(node):
                self._add_base(found, node)
            for target, value in _assigned(node):
                self._assign(found, target, value, at_top=at_top)
        return found

    def _add_base(self, found: Made, call: ast.Call) -> None:
        base = self._made_by_base(call)
        found.is_new |= base.is_new or any(map(self._is_new, call.args))
        found.attributes |= base.attributes
        found.used |= base.used.union(*map(self._used, (*call.args, *(each.value for each in call.keywords))))
        if any(isinstance(each, ast.Expr) and each.value is call for each in self._tree.body):
            found.always |= base.always
        found.args = base.args if found.args is None or found.args == base.args else [None]

    def _assign(self, found: Made, target: ast.expr, value: ast.expr, *, at_top: bool) -> None:
        attribute = self._attribute(target)
        if attribute is None:
            name = target.id if isinstance(target, ast.Name) else ""
            if name in self._symbols and self._mentions(value, name) and self._symbol(value) != self._symbols[name]:
                self._symbols[name] = None  # it gets another value than was given
        elif attribute == "args":
            found.args = list(map(self._symbol, value.elts)) if isinstance(value, ast.Tuple) else [None]
            found.is_new = self._is_new(value)
            found.used |= self._used(value)
        elif not attribute.startswith("__"):  # CPython's own, as __cause__
            found.attributes[attribute] = self._symbol(value)
            found.used |= self._used(value)
            if at_top:
                found.always.add(attribute)

    def _used(self, node: ast.expr) -> set[str]:
        """Return the parameters of the exception that an expression mentions."""
        return {self._given[name] or "" for name in self._given if self._mentions(node, name)}

    def _attribute(self, node: ast.expr) -> str | None:
        """Return the name of an attribute of the exception; None for another target."""
        match node:
            case ast.Attribute(ast.Name(id), name) if id == self._itself:
                return name
        return None

    def _mentions(self, node: ast.AST, name: str) -> bool:
        return any(isinstance(each, ast.Name) and each.id == name for each in ast.walk(node))

    def _symbol(self, node: ast.expr) -> Symbol:
        """Return the parameter that an expression has the value of; also of one that changes it at most once."""
        match node:
            case ast.Name(id):
                return self._symbols.get(id)
            case ast.Starred(ast.Name(id)):
                return _STAR if self._symbols.get(id) == _STAR else None
            case ast.Call(ast.Name(function), [argument], []) if function in _CONVERSIONS:
                symbol = self._symbol(argument)
                text = self._texts.get(symbol or "", "")
                # What it returns must be a value for the parameter again.
                return symbol if not text or re.search(rf"\b({_CONVERSIONS[function]})\b", text) else None
            case ast.BoolOp(ast.Or(), [first, *_]):
                return self._symbol(first)
            case ast.IfExp(body=body, orelse=orelse):
                found = {self._symbol(body), self._symbol(orelse)} - {None}
                return found.pop() if len(found) == 1 else None
        return None

    def _is_new(self, node: ast.expr) -> bool:
        """Return True for an expression with a call that has no parameter, variable or attribute in it."""
        assigned = {each.id for each in ast.walk(self._tree) if isinstance(each, ast.Name) and _is_stored(each)}
        known = {self._itself, *self._symbols, *assigned}
        return any(
            isinstance(call, ast.Call) and not any(self._mentions(call, name) for name in known)
            for call in ast.walk(node)
        )

    def _made_by_base(self, call: ast.Call) -> Made:
        """Return what a call of the constructor of a base makes."""
        target: Any = call.func.value  # type: ignore[attr-defined]  # as _is_init says
        arguments = list(call.args)
        mro = self._mro[1:]
        if not isinstance(target, ast.Call):  # Base.__init__(self, …)
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            mro = next((mro[index:] for index, base in enumerate(mro) if base.__name__ == name), mro)
            arguments = arguments[1:]
        symbols = [self._symbol(each) for each in arguments]
        owner = next(base for base in mro if "__init__" in vars(base))
        function = vars(owner)["__init__"]
        if not inspect.isfunction(function):
            return Made(symbols)
        given: dict[str, Symbol] = {}
        parameters = list(inspect.signature(function).parameters.values())[1:]
        positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        given |= {each.name: symbol for each, symbol in zip(positional, symbols, strict=False)}
        for each in parameters:
            if each.kind is each.VAR_POSITIONAL and symbols[len(positional) :] == [_STAR]:
                given[each.name] = _STAR
        given |= {each.arg: self._symbol(each.value) for each in call.keywords if each.arg is not None}
        return _trace(mro, given, self._texts)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree in the order of the source."""
    for child in ast.iter_child_nodes(node):
        yield child
        yield from _in_order(child)


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield the targets of an assignment with their values."""
    match node:
        case ast.Assign(targets, value):
            for target in targets:
                yield from _pairs(target, value)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield target, value
        case ast.AugAssign(target, operator, value):
            yield target, ast.BinOp(target, operator, value)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield each target of one assignment with its value."""
    if not isinstance(target, ast.Tuple):
        yield target, value
        return
    parts = value.elts if isinstance(value, ast.Tuple) else []
    unknown = ast.BinOp(value, ast.Add(), value)  # mentions the same
    for index, each in enumerate(target.elts):
        yield each, parts[index] if len(parts) == len(target.elts) else unknown


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _is_init(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "__init__"
