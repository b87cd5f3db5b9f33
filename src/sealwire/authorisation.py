"""Rules for the types of messages that each peer may send.

The list of peers decides which peers may connect at all; these rules decide what each of them may ask for. A rule is
about the names in a certificate, so that a renewed certificate changes nothing about it; a reload of the configuration
replaces all rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sealwire import toml_options
from sealwire.codec import Codec, RawCodec
from sealwire.errors import ConfigurationError
from sealwire.pickling.importing import import_object
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.peers import PeerPolicy

_KEYS: Final = ("types", "peers")


class Rule:
    """Allows some peers to send messages of some types.

    Args:
        types: Classes, or their names as ``"module:Class"``; ``"builtins:dict"`` and ``"types:NoneType"`` for plain
            ones. Each stands for itself alone, not for its subclasses.
        peers: A PeerPolicy or a list of its entries, like ``dns:client.example``.

    Raises:
        ConfigurationError: An argument is empty, or an entry is malformed.

    Attributes:
        types: The classes.
        peers: The PeerPolicy.
    """

    __slots__ = ("peers", "types")

    def __init__(self, types: Iterable[type | str], peers: PeerPolicy | Iterable[str]) -> None:
        if isinstance(types, str | type) or not isinstance(types, Iterable):
            raise ConfigurationError(
                f'types must be a list of classes, or of names like "shop.orders:Order", not one {type(types).__name__}'
            )
        self.types: Final = frozenset(map(_class, types))
        self.peers: Final = peers if isinstance(peers, PeerPolicy) else PeerPolicy(peers)
        if not self.types:
            raise ConfigurationError("types is empty, so the rule allows nothing; list the types of messages")

    def __repr__(self) -> str:
        return f"Rule({sorted(map(type_name, self.types))}, {self.peers!r})"


class Authorisation:
    """The rules of one service. A message that none of them allows is refused.

    Args:
        rules: At least one.

    Raises:
        ConfigurationError: There is no rule, or an item is not a Rule.
    """

    __slots__ = ("_policies",)

    def __init__(self, rules: Iterable[Rule]) -> None:
        if isinstance(rules, Rule | Mapping) or not isinstance(rules, Iterable):
            raise ConfigurationError("authorise must be a list of rules: [sealwire.middleware.Rule(types, peers), …]")
        self._policies: Final[dict[type, list[PeerPolicy]]] = {}
        for rule in rules:
            if not isinstance(rule, Rule):
                raise ConfigurationError(
                    f"authorise: expected sealwire.middleware.Rule(types, peers), not a {type(rule).__name__}"
                )
            for cls in rule.types:
                self._policies.setdefault(cls, []).append(rule.peers)
        if not self._policies:
            raise ConfigurationError(
                "authorise is empty, so that every message would be refused; add rules, or leave it out"
            )

    @classmethod
    def from_tables(cls, tables: object) -> Authorisation:
        """Return the rules of a configuration's ``[[authorise]]`` tables. Raises ConfigurationError."""
        if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
            raise ConfigurationError("authorise: expected tables [[authorise]] with types and peers")
        return cls(_rule(table, f"authorise, table {number}") for number, table in enumerate(tables, 1))

    def allows(self, peer: PeerIdentity | None, cls: type) -> bool:
        """Return True if a rule allows a peer (None: without a certificate) to send messages of exactly this type."""
        return any(policy.allows(peer) for policy in self._policies.get(cls, ()))

    def check_types(self, codec: Codec | RawCodec) -> None:
        """Raise ConfigurationError for a type that no message can have, as it is not on the codec's allowlist."""
        accepted = codec.allowlist.types().all if isinstance(codec, Codec) else {bytes}
        missing = sorted(type_name(cls) for cls in self._policies if cls not in accepted)
        if missing:
            raise ConfigurationError(
                f"authorise: {', '.join(missing)} cannot be the type of a message: not on the allowlist; allow it there"
                " as well, or take it out of the rule"
            )

    def __repr__(self) -> str:
        return f"<Authorisation of {', '.join(sorted(map(type_name, self._policies)))}>"


def type_name(cls: type) -> str:
    """Return the name of a class as a configuration has it."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _class(value: object) -> type:
    found = import_object(value) if isinstance(value, str) else value
    if not isinstance(found, type):
        what = value if isinstance(value, str) else f"a value of type {type(value).__name__}"
        raise ConfigurationError(f'{what} is not a class; types are classes, or names like "shop.orders:Order"')
    return found


def _rule(table: Mapping[str, Any], place: str) -> Rule:
    try:
        toml_options.reject_unknown(table, _KEYS, "")
        return Rule(*(toml_options.strings(table, key) or () for key in _KEYS))
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from None
