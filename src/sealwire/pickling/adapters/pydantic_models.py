"""pydantic models, which pydantic itself validates, strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pydantic

from sealwire.errors import ConfigurationError, InvalidValue
from sealwire.pickling.adapters.base import Adapter, qualified_name
from sealwire.pickling.adapters.dataclass import cached_properties
from sealwire.pickling.adapters.pydantic_schemas import check_fields
from sealwire.pickling.adapters.pydantic_unions import cost, tries_of_fields
from sealwire.pickling.adapters.record import MISSING, built, described, not_its_fields
from sealwire.pickling.adapters.same import same
from sealwire.pickling.annotations import Types, annotation_text
from sealwire.pickling.globals import NEW, GlobalRule
from sealwire.pickling.type_checks import Mismatch, charge

_STATE: Final = {"__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"}


class ModelAdapter(Adapter):
    """Passes the fields' values through the model's validators, which must keep them as sent.

    The set of fields that were given is kept. Private attributes must be those of a new instance.
    """

    kind = "pydantic model"
    checks_itself = True

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        if shallow:
            raise ConfigurationError(f"{qualified_name(cls)}: pydantic always validates a model deeply")
        if issubclass(cls, pydantic.RootModel):
            raise ConfigurationError(f"{qualified_name(cls)} is a RootModel; send its root, or register an adapter")
        cls.model_rebuild()
        super().__init__(cls, {name: field.annotation for name, field in cls.model_fields.items()})
        # A cached property can have the name of a field of a base class.
        self._cached = cached_properties(cls) - self.fields.keys()
        self._tries = tries_of_fields(cls)

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """NEWOBJ, and pydantic's state. Raises ConfigurationError for a field that no message can have."""
        check_fields(self.cls, self.qualified_name, types)
        yield self.rule(
            NEW,
            lambda state=MISSING: built(self.qualified_name, self._load, state),
            memory=1024 + 128 * len(self.fields),
        )

    def _load(self, state: Any) -> Any:
        if type(state) is not dict or state.keys() != _STATE:
            raise InvalidValue(f"{self.qualified_name}: not the state of a pydantic model")
        fields, extra = state["__dict__"], state["__pydantic_extra__"]
        given = state["__pydantic_fields_set__"]
        if type(fields) is not dict or type(extra) not in (dict, type(None)) or type(given) is not set:
            raise InvalidValue(f"{self.qualified_name}: not the state of a pydantic model")
        fields = {name: value for name, value in fields.items() if name not in self._cached}
        extra = extra or {}
        names = self.fields.keys()
        lacks = [name for name in names if name not in fields and not (self.fills and self._has_default(name, given))]
        more = [name for name in dict.fromkeys((*fields, *given)) if name not in names and name not in extra]
        if lacks or more or not names.isdisjoint(extra):
            raise not_its_fields(self.qualified_name, lacks, more or names & extra.keys())
        return self._validated(fields, extra, state["__pydantic_private__"], given)

    def _validated(self, fields: dict[str, Any], extra: dict[str, Any], private: Any, given: set[str]) -> Any:
        # pydantic does not validate a default, unless the model says so.
        defaults = {
            name: value for name, value in fields.items() if name not in given and self._is_default(name, value)
        }
        made = self._validate({name: value for name, value in fields.items() if name not in defaults} | extra)
        validated = {name: value for name, value in made.__dict__.items() if name in fields}
        if not same(fields, validated, promoted=True) or not same(extra, made.__pydantic_extra__ or {}):
            raise InvalidValue(f"{self.qualified_name}: validation makes other values of these; register an adapter")
        if not same(private or None, made.__pydantic_private__ or None):
            raise InvalidValue(
                f"{self.qualified_name}: private attributes other than a new instance has; register an adapter"
            )
        made.__dict__.update(fields)  # the same, as shared as they were, and an int for a float is one still
        object.__setattr__(made, "__pydantic_fields_set__", set(given))
        return made

    def _validate(self, values: dict[str, Any]) -> Any:
        for name, tries in self._tries.items():
            charge(cost(values.get(name), tries, {}))
        try:
            return self.cls.model_validate(values, strict=True, by_alias=False, by_name=True)
        except pydantic.ValidationError as error:
            raise self._refused(error, values) from None

    def _refused(self, error: pydantic.ValidationError, values: dict[str, Any]) -> InvalidValue:
        """Return an error that names the first field that pydantic does not accept, without any value."""
        first = error.errors(include_url=False, include_context=False)[0]
        name, found, why = str(*first["loc"][:1]), first["input"], f" ({first['type']})"
        if name not in self.fields:
            return InvalidValue(f"{self.qualified_name}: pydantic does not accept these values{why}")
        expected = annotation_text(self.cls.model_fields[name].rebuild_annotation())
        inside = "" if found is values.get(name) else " inside it"
        failed = InvalidValue(
            f"{self.qualified_name}.{name}: {described(Mismatch(expected, type(found), inside + why))}"
        )
        failed.inside(f".{name}")
        return failed

    def defaults(self) -> dict[str, Callable[[], Any]]:
        """Return nothing: pydantic fills in the defaults itself."""
        return {}

    def _has_default(self, name: str, given: set[str]) -> bool:
        return name not in given and not self.cls.model_fields[name].is_required()

    def _is_default(self, name: str, value: Any) -> bool:
        default = self.cls.model_fields[name].default
        return same(value, default)

    def notes(self) -> Iterator[str]:
        """Yield which code of the model runs."""
        decorators = self.cls.__pydantic_decorators__
        if decorators.field_validators or decorators.model_validators or decorators.validators:
            yield "runs validators on values that a peer chose"
        if self.cls.model_post_init is not pydantic.BaseModel.model_post_init:
            yield "runs model_post_init on values that a peer chose"
