from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from sealwire.codec import Allowlist, Codec
from sealwire.errors import ConfigurationError, RemoteError, TypeNotAllowed
from sealwire.faults import Refuse
from sealwire.limits import Limits
from sealwire.security import Security
from sealwire.testing import Throwaway
from sealwire.wire.keys import Key
from support.throwaway import SECRETS, security


class OutOfStock(Refuse):
    code = 64


class TestArguments:
    def test_defaults(self, place: Throwaway) -> None:
        made = security(place, "server")
        assert made.peers is None
        assert (made.service, made.names, made.limits) == ("", frozenset(), Limits())
        assert isinstance(made.codec, Codec)
        assert made.codec.limits is made.limits

    def test_exceptions_of_faults(self, place: Throwaway) -> None:
        assert type(security(place, "client", faults=[OutOfStock]).faults.error(64, "x")) is OutOfStock
        assert type(security(place, "client").faults.error(64, "x")) is RemoteError

    def test_peers_can_be_a_list(self, place: Throwaway) -> None:
        assert repr(security(place, "server", peers=["dns:a.example"]).peers) == "PeerPolicy(['dns:a.example'])"

    @pytest.mark.parametrize("peers", ["dns:a.example", "any-signed-by-ca", [], ["any-signed-by-ca"], [5]])
    def test_peers_that_are_not_a_list_of_entries(self, place: Throwaway, peers: Any) -> None:
        with pytest.raises(ConfigurationError):
            security(place, "server", peers=peers)

    @pytest.mark.parametrize("service", ["", "orders", "orders/v1", "x" * 128])
    def test_services(self, place: Throwaway, service: str) -> None:
        assert security(place, "server", service=service).service == service

    @pytest.mark.parametrize("service", ["ü", "a\n", "a\0", "x" * 129, b"orders", None, 5])
    def test_no_services(self, place: Throwaway, service: Any) -> None:
        with pytest.raises(ConfigurationError, match="service must be"):
            security(place, "server", service=service)

    def test_names_are_canonical(self, place: Throwaway) -> None:
        made = security(place, "server", names=["Other.Example.", "2001:DB8::0007"])
        assert made.names == {"other.example", "2001:db8::7"}

    @pytest.mark.parametrize("names", ["other.example", ["*.example"], ["a b"], [5], ["a:443"]])
    def test_no_names(self, place: Throwaway, names: Any) -> None:
        with pytest.raises(ConfigurationError, match="names"):
            security(place, "server", names=names)

    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [
            ("keys", [Key("k1", SECRETS["k1"])], "keys must be a Keyring"),
            ("keys", None, "keys must be a Keyring"),
            ("credentials", None, "credentials must be Credentials"),
            ("codec", Allowlist(), "codec must be a Codec"),
            ("limits", {}, "limits must be Limits"),
            ("peers", 5, "peers must be a list"),
            ("names", None, "names must be a list"),
        ],
    )
    def test_arguments_of_other_types(self, place: Throwaway, name: str, value: Any, says: str) -> None:
        """Told here, and not to every client that connects."""
        good = security(place, "server")
        arguments: dict[str, Any] = {"credentials": good.credentials, "keys": good.keys, name: value}
        with pytest.raises(ConfigurationError, match=says):
            Security(**arguments)

    def test_a_keys_identity_is_an_entry_of_a_peer_list(self, place: Throwaway) -> None:
        with pytest.raises(ConfigurationError, match=r"key 'k1': identity 'client\.example' is not an entry"):
            security(place, "server", Key("k1", SECRETS["k1"], identity="client.example"))

    def test_shows_no_secret(self, place: Throwaway) -> None:
        made = security(place, "server", Key("k1", b"0123456789abcdef" * 2), peers=["dns:a.example"])
        assert repr(made) == (
            f"<Security of {made.credentials.identity}, <Keyring 'k1', secrets redacted>, "
            "peers PeerPolicy(['dns:a.example'])>"
        )
        assert repr(security(place, None)).startswith("<Security of anonymous, ")


class TestFromFiles:
    def paths(self, place: Throwaway) -> dict[str, Any]:
        directory = place.directory
        return {"cert": directory / "server.pem", "key": directory / "server.key", "ca": place.ca} | {
            "keyring": place.keyring
        }

    def test_every_option(self, place: Throwaway) -> None:
        limits = Limits(max_frame=2048)
        made = Security.from_files(
            **self.paths(place), peers=["anonymous"], service="orders", names=["b.example"], limits=limits
        )
        assert made.credentials.identity is not None
        assert made.keys.get("throwaway")
        assert made.peers is not None
        assert made.peers.allows_anonymous
        assert (made.service, set(made.names), made.limits) == ("orders", {"b.example"}, limits)
        assert isinstance(made.codec, Codec)
        assert made.codec.limits is limits

    def test_allow(self, place: Throwaway) -> None:
        paths = self.paths(place)
        allowlist = Allowlist()
        made = Security.from_files(**paths, allow=allowlist)
        assert isinstance(made.codec, Codec)
        assert made.codec.allowlist is allowlist
        with pytest.raises(ConfigurationError, match="an allowlist takes types"):
            Security.from_files(**paths, allow=[os.system])
        for codec in (made.codec, Security.from_files(**paths).codec):
            with pytest.raises(TypeNotAllowed):
                codec.decode(pickle.dumps(os.system))

    def test_a_missing_file_is_named(self, place: Throwaway, tmp_path: Path) -> None:
        for option in ("cert", "key", "ca", "keyring", "crl"):
            with pytest.raises(ConfigurationError, match=re.escape(f"{tmp_path}/missing: cannot be read")):
                Security.from_files(**self.paths(place) | {option: tmp_path / "missing"})


def test_a_codec_of_the_users_own_decodes_itself(place: Throwaway) -> None:
    """It may check more than its base class does."""

    class NoLists(Codec):
        def decode(self, data: Any) -> Any:
            value = super().decode(data)
            if isinstance(value, list):
                raise TypeNotAllowed("a list")
            return value

    payload: Any = Codec().encode([1])
    with pytest.raises(TypeNotAllowed, match="a list"):
        security(place, "server", codec=NoLists()).decode(payload)
