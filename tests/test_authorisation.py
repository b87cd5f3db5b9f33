"""Rules by peer and type: how they are written, and what they allow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import pytest

from sealwire.authorisation import Authorisation, Rule
from sealwire.codec import Allowlist, Codec, RawCodec
from sealwire.errors import ConfigurationError
from sealwire.security import Security
from sealwire.testing import Throwaway
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.peers import PeerPolicy
from support.throwaway import security

A = PeerIdentity(dns=("a.example",))
B = PeerIdentity(dns=("b.example",), uri=("spiffe://prod/billing/b",))
BOTH = PeerIdentity(dns=("x.example", "b.example", "a.example"))
PROCESS = PeerIdentity(uid=1000, gid=100, pid=7)


@dataclass
class Order:
    number: int


@dataclass
class Rush(Order):
    pass


@dataclass
class Cancel:
    number: int


NAME = f"{__name__}:Order"


def load(place: Throwaway, authorise: str, allowlist: str = "") -> Security:
    path = place.directory / "sealwire.toml"
    path.write_text(f'ca = "ca.pem"\nkeyring = "keyring.toml"\n{authorise}\n[allowlist]\n{allowlist}\n')
    return Security.from_toml(path)


class TestWhatTheyAllow:
    RULES = Authorisation(
        [
            Rule([Order, "builtins:dict"], ["dns:a.example"]),
            Rule([Cancel], ["spiffe://prod/billing/*", "dns:a.example"]),
            Rule([Order], ["dns:b.example", "uid:1000"]),
            Rule(["types:NoneType"], ["anonymous"]),
        ]
    )

    @pytest.mark.parametrize(
        ("peer", "allowed"),
        [
            (A, {Order, dict, Cancel}),
            (B, {Order, Cancel}),
            (BOTH, {Order, dict, Cancel}),
            (PROCESS, {Order}),
            (None, {NoneType}),
            (PeerIdentity(dns=("c.example",)), set()),
        ],
        ids=["a", "b", "several names", "process", "anonymous", "nobody"],
    )
    def test_peers_and_types(self, peer: PeerIdentity | None, allowed: set[type]) -> None:
        types = (Order, Rush, Cancel, dict, list, str, NoneType)
        assert {cls for cls in types if self.RULES.allows(peer, cls)} == allowed

    def test_a_type_stands_for_itself_alone(self) -> None:
        rules = Authorisation([Rule([Order], ["dns:a.example"]), Rule([Rush], ["dns:b.example"])])
        assert [rules.allows(peer, cls) for peer in (A, B) for cls in (Order, Rush)] == [True, False, False, True]

    def test_bool_is_not_an_int(self) -> None:
        assert not Authorisation([Rule([int], ["dns:a.example"])]).allows(A, bool)

    def test_every_peer_of_the_ca(self) -> None:
        rules = Authorisation([Rule([Order], PeerPolicy.any_signed_by_ca())])
        assert (rules.allows(A, Order), rules.allows(None, Order), rules.allows(PROCESS, Order)) == (True, False, False)

    def test_repr(self) -> None:
        assert repr(self.RULES) == f"<Authorisation of builtins:NoneType, builtins:dict, {__name__}:Cancel, {NAME}>"
        assert repr(Rule([Order], ["dns:a.example"])) == f"Rule(['{NAME}'], PeerPolicy(['dns:a.example']))"


class TestArguments:
    @pytest.mark.parametrize(
        ("types", "peers", "message"),
        [
            (Order, ["dns:a.example"], "types must be a list of classes, or of names like .*, not one type"),
            (NAME, ["dns:a.example"], "types must be a list of classes, or of names like .*, not one str"),
            ([], ["dns:a.example"], "types is empty, so the rule allows nothing"),
            ([5], ["dns:a.example"], "a value of type int is not a class"),
            (["builtins:len"], ["dns:a.example"], "builtins:len is not a class"),
            (["Order"], ["dns:a.example"], "'Order': expected \"module:Class\""),
            ([f"{__name__}:Ordr"], ["dns:a.example"], "has no Ordr"),
            (["no_such_module:Order"], ["dns:a.example"], "there is no module 'no_such_module'"),
            ([Order], [], "the list of peers is empty"),
            ([Order], "dns:a.example", "peers must be a list of entries, not one str"),
            ([Order], ["a.example"], "'a.example' is not an entry for a list of peers; did you mean 'dns:a.example'"),
            ([Order], ["dns:*"], "too wide"),
        ],
    )
    def test_of_a_rule(self, types: Any, peers: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            Rule(types, peers)

    @pytest.mark.parametrize(
        ("rules", "message"),
        [
            ([], "authorise is empty, so that every message would be refused"),
            (5, "authorise must be a list of rules"),
            (Rule([Order], ["dns:a.example"]), "authorise must be a list of rules"),
            ({"types": [Order], "peers": []}, "authorise must be a list of rules"),
            ([{"types": [Order]}], r"expected sealwire.middleware.Rule\(types, peers\), not a dict"),
        ],
    )
    def test_of_a_security(self, place: Throwaway, rules: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            security(place, "server", authorise=rules)

    def test_types_that_no_message_can_have(self, place: Throwaway) -> None:
        rules = [Rule([Order, Rush, dict], ["dns:a.example"])]
        allowed = security(place, "server", codec=Codec(Allowlist(Order, Rush)), authorise=rules)
        assert allowed.authorisation is not None
        with pytest.raises(ConfigurationError, match=rf"authorise: {__name__}:Rush cannot be the type of a message"):
            security(place, "server", codec=Codec(Allowlist(Order)), authorise=rules)
        with pytest.raises(ConfigurationError, match="builtins:str cannot be the type of a message"):
            security(place, "server", codec=RawCodec(), authorise=[Rule([str, bytes], ["dns:a.example"])])
        assert security(place, "server", codec=RawCodec(), authorise=[Rule([bytes], ["dns:a.example"])])

    def test_none_at_all(self, place: Throwaway) -> None:
        assert security(place, "server").authorisation is None
        assert load(place, "").authorisation is None


class TestConfiguration:
    def test_tables(self, place: Throwaway) -> None:
        table = f'[[authorise]]\ntypes = ["{NAME}"]\npeers = ["dns:a.example", "anonymous"]\n'
        plain = '[[authorise]]\ntypes = ["builtins:dict"]\npeers = ["dns:b.example"]'
        found = load(place, table + plain, f'types = ["{NAME}"]').authorisation
        assert found is not None
        assert [found.allows(peer, Order) for peer in (A, B, None)] == [True, False, True]
        assert [found.allows(peer, dict) for peer in (A, B, None)] == [False, True, False]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("authorise = []", "authorise is empty"),
            ("authorise = 5", r"authorise: expected tables \[\[authorise\]\] with types and peers"),
            ("authorise = ['x']", r"authorise: expected tables \[\[authorise\]\] with types and peers"),
            ("[authorise]\ntypes = []", r"authorise: expected tables \[\[authorise\]\] with types and peers"),
            ("[[authorise]]", "authorise, table 1: types is empty|authorise, table 1: the list of peers is empty"),
            ('[[authorise]]\ntypes = ["builtins:dict"]', "authorise, table 1: the list of peers is empty"),
            ('[[authorise]]\ntypes = "builtins:dict"', "authorise, table 1: types: expected a list of strings"),
            ("[[authorise]]\npeer = []", "authorise, table 1: unknown key 'peer'; did you mean peers?"),
            (
                '[[authorise]]\ntypes = ["builtins:dict"]\npeers = ["dns:a.example"]\n'
                '[[authorise]]\ntypes = ["builtins:dct"]\npeers = ["dns:a.example"]',
                "authorise, table 2: builtins:dct: builtins has no dct",
            ),
            (
                f'[[authorise]]\ntypes = ["{NAME}"]\npeers = ["dns:a.example"]',
                f"authorise: {NAME} cannot be the type of a message: not on the allowlist; allow it there as well",
            ),
            (
                '[[authorise]]\ntypes = ["builtins:dict"]\npeers = ["user:a"]',
                "authorise, table 1: 'user:a' is not an entry for a list of peers",
            ),
        ],
    )
    def test_mistakes(self, place: Throwaway, text: str, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message) as caught:
            load(place, text)
        assert str(caught.value).startswith(str(Path(place.directory, "sealwire.toml")))
