"""pydantic models: validated by pydantic itself, strictly."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

import pydantic

from sealwire.errors import ConfigurationError, InvalidValue
from sealwire.pickling.adapters.adapter import Adapter, spelling
from sealwire.pickling.adapters.record import MISSING, built
from sealwire.pickling.annotations import Types
from sealwire.pickling.grants import NEW, Grant

_STATE: Final = {"__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"}


class ModelAdapter(Adapter):
    """The fields' values go through the model's validators, which must keep what was sent.

    Which fields had been set is kept. Private attributes must be what a new instance has.
    """

    kind = "pydantic model"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        if shallow:
            raise ConfigurationError(f"{spelling(cls)}: a pydantic model is validated by pydantic, and always deeply")
        if issubclass(cls, pydantic.RootModel):
            raise ConfigurationError(f"{spelling(cls)} is a RootModel; send what it holds, or register an adapter")
        cls.model_rebuild()
        super().__init__(cls, {name: field.annotation for name, field in cls.model_fields.items()})
        self._cached = frozenset(
            name for base in cls.__mro__ for name, value in vars(base).items()
            if isinstance(value, functools.cached_property)
        )  # fmt: skip

    def grants(self, types: Types) -> Iterator[Grant]:
        """NEWOBJ, and pydantic's state."""
        del types
        where, cls, names, cached = self.spelling, self.cls, self.fields.keys(), self._cached

        def load(state: Any = MISSING) -> Any:
            if type(state) is not dict or state.keys() != _STATE:
                raise InvalidValue(f"{where}: not the state of a pydantic model")
            fields, extra, private = state["__dict__"], state["__pydantic_extra__"], state["__pydantic_private__"]
            chosen = state["__pydantic_fields_set__"]
            if type(fields) is not dict or type(extra) not in (dict, type(None)) or type(chosen) is not set:
                raise InvalidValue(f"{where}: not the state of a pydantic model")
            fields = {name: value for name, value in fields.items() if name not in cached or name in names}
            extra = extra or {}
            if fields.keys() != names or not chosen <= names | extra.keys() or not names.isdisjoint(extra):
                raise InvalidValue(f"{where}: not exactly its declared fields")
            return _validated(cls, fields, extra, private, chosen)

        yield self.grant(NEW, lambda state=MISSING: built(where, load, state), memory=1024 + 128 * len(self.fields))

    def notes(self) -> Iterator[str]:
        """The user's own code that runs."""
        decorators = self.cls.__pydantic_decorators__
        if decorators.field_validators or decorators.model_validators or decorators.validators:
            yield "runs validators on values that a peer chose"
        if self.cls.model_post_init is not pydantic.BaseModel.model_post_init:
            yield "runs model_post_init on values that a peer chose"


def _validated(cls: Any, fields: dict[str, Any], extra: dict[str, Any], private: Any, chosen: set[str]) -> Any:
    where = spelling(cls)
    # pydantic does not validate a default, unless the model says so.
    defaults = {name: value for name, value in fields.items() if name not in chosen and _is_default(cls, name, value)}
    given = {name: value for name, value in fields.items() if name not in defaults}
    try:
        made = cls.model_validate(given | extra, strict=True, by_alias=False, by_name=True)
    except pydantic.ValidationError as error:
        failed = InvalidValue(f"{where}: pydantic does not accept these values ({error.error_count()} errors)")
        place = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"][:1]
        failed.inside(*(f".{name}" for name in place if name in fields))
        raise failed from None
    if (
        made.__dict__ != fields
        or any(type(made.__dict__[name]) is not type(value) for name, value in fields.items())
        or (made.__pydantic_extra__ or {}) != extra
    ):
        raise InvalidValue(f"{where}: validation makes other values of these; register an adapter")
    if (made.__pydantic_private__ or None) != (private or None):
        raise InvalidValue(f"{where}: private attributes other than a new instance has; register an adapter")
    made.__dict__.update(defaults)  # equal, and as shared as they were
    object.__setattr__(made, "__pydantic_fields_set__", set(chosen))
    return made


def _is_default(cls: Any, name: str, value: Any) -> bool:
    default = cls.model_fields[name].default
    return type(default) is type(value) and bool(default == value)
