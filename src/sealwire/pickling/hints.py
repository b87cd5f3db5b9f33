"""Reads the annotations of a class, with the type variables of its generic bases replaced by what it binds them to."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

from sealwire.errors import ConfigurationError

Variables = Mapping[Any, Any]


def hints(thing: Any, owner: str, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the annotations of a class and its bases, or of a function, with forward references resolved.

    In ``class IntBox(Box[int])`` a field that ``Box`` declares as ``T`` is an ``int``.

    Args:
        thing: The class, or any other object with annotations.
        owner: The beginning of an error.
        namespace: The names that the annotations of another object than a class or function use.

    Raises:
        ConfigurationError: An annotation cannot be resolved.
    """
    try:
        if isinstance(thing, type):
            return _bound_hints(thing)
        return typing.get_type_hints(thing, namespace, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{owner}: the annotation {error.name!r} cannot be resolved in its module; define or import it there, "
            "outside of `if TYPE_CHECKING:`"
        ) from None
    except Exception as error:
        raise ConfigurationError(f"{owner}: an annotation cannot be resolved: {error}") from None


def _bound_hints(cls: Any) -> dict[str, Any]:
    found: dict[str, Any] = typing.get_type_hints(cls, include_extras=True)
    # A TypedDict repeats the annotations of its bases, and is not a subclass of them.
    own = () if typing.is_typeddict(cls) else inspect.get_annotations(cls)
    for base in reversed(vars(cls).get("__orig_bases__", cls.__bases__)):
        origin = get_origin(base) or base
        if origin in (object, typing.Generic, typing.Protocol) or not isinstance(origin, type):
            continue
        variables = dict(zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False))
        declared = typing.get_type_hints(origin, include_extras=True)
        for name, hint in _bound_hints(origin).items():
            if name not in own and found[name] == declared[name]:
                found[name] = substitute(hint, variables)
    return found


def substitute(annotation: Any, variables: Variables) -> Any:
    """Replace type variables by their arguments, as far as they are known."""
    if isinstance(annotation, TypeVar):
        return variables.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ()) if get_args(annotation) else ()
    return annotation[tuple(substitute(each, variables) for each in parameters)] if parameters else annotation


def mentions(annotation: Any, variables: frozenset[Any]) -> bool:
    """Return True if an annotation contains one of these type variables."""
    return annotation in variables or any(mentions(part, variables) for part in get_args(annotation))
