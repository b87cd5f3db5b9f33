"""Configuration files: what their options make, and what is said of mistakes."""

from __future__ import annotations

import os
import re
import shutil
import traceback
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from sealwire.codec import Codec, RawCodec
from sealwire.errors import ConfigurationError
from sealwire.faults import Refuse
from sealwire.limits import Limits
from sealwire.security import Security
from sealwire.session import terms
from sealwire.sync.client import SynchronousTCPClient
from sealwire.testing import Throwaway
from support.aio import KINDS, served_by
from support.certificates import HOST, Made, make_crl

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "configuration.md"
MINIMAL = 'ca = "ca.pem"\nkeyring = "keyring.toml"\n'


class OutOfStock(Refuse):
    code = 64


def load(place: Throwaway, text: str) -> Security:
    path = place.directory / "sealwire.toml"
    path.write_text(text, encoding="utf-8")
    return Security.from_toml(path)


def refusal(place: Throwaway, text: str) -> str:
    """The message after the file's name."""
    with pytest.raises(ConfigurationError) as caught:
        load(place, text)
    message = str(caught.value)
    prefix = f"{place.directory}/sealwire.toml: "
    assert message.startswith(prefix)
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value.__context__)
    assert re.search(r"[A-Za-z0-9+/]{43}=|PRIVATE KEY", shown) is None
    return message.removeprefix(prefix)


class TestFromToml:
    def test_the_least(self, place: Throwaway) -> None:
        made = load(place, MINIMAL)
        assert made.credentials.identity is None
        assert made.peers is None
        assert (made.service, made.names, made.limits) == ("", frozenset(), Limits())
        assert isinstance(made.codec, Codec)

    def test_the_example_of_the_documentation(self, place: Throwaway, tmp_path: Path) -> None:
        files = dict(re.findall(r"```toml\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
        assert set(files) == {"sealwire.toml", "keyring.toml"}
        (tmp_path / "sealwire.toml").write_text(files["sealwire.toml"], encoding="utf-8")
        keyring = tmp_path / "keyring.toml"
        keyring.touch(mode=0o600)
        keyring.write_text(files["keyring.toml"], encoding="utf-8")
        for name, source in (("server.pem", "server.pem"), ("server.key", "server.key"), ("ca.pem", "ca.pem")):
            shutil.copy(place.directory / source, tmp_path / name)
        made = Security.from_toml(tmp_path / "sealwire.toml")
        assert made.service == "orders"
        assert made.limits != Limits()
        assert [key.id for key in made.keys] == ["2026-11", "2027-01"]
        terms.check_server(made)

    def test_every_option(self, place: Throwaway) -> None:
        limits = {spec.name: spec.metadata["minimum"] for spec in fields(Limits)}
        made = load(
            place,
            MINIMAL + 'cert = "server.pem"\nkey = "server.key"\npeers = ["dns:client.example", "spiffe://prod/*"]\n'
            'service = "orders"\nnames = ["B.example"]\ncodec = "raw"\n[allowlist]\n[limits]\n'
            + "".join(f"{name} = {value}\n" for name, value in limits.items()),
        )
        assert made.credentials.identity is not None
        assert made.credentials.identity.dns == (HOST,)
        assert repr(made.peers) == "PeerPolicy(['dns:client.example', 'spiffe://prod/*'])"
        assert (made.service, set(made.names)) == ("orders", {"b.example"})
        assert isinstance(made.codec, RawCodec)
        assert made.limits == Limits(**limits)

    def test_the_limits_are_those_of_the_codec(self, place: Throwaway) -> None:
        made = load(place, MINIMAL + "limits.max_depth = 3\n")
        assert isinstance(made.codec, Codec)
        assert made.codec.limits.max_depth == 3

    def test_any_signed_by_ca_in_words(self, place: Throwaway) -> None:
        assert repr(load(place, MINIMAL + 'peers = "any-signed-by-ca"').peers) == "PeerPolicy.any_signed_by_ca()"

    def test_exceptions_of_faults(self, place: Throwaway) -> None:
        text = f'{MINIMAL}peers = ["dns:a.example"]\nfaults = ["{__name__}:OutOfStock"]'
        assert load(place, text).faults.error(64, "x").code == 64

    def test_crl(self, place: Throwaway) -> None:
        authority = place.authority
        crl = make_crl(Made(authority.certificate, authority.private_key))
        (place.directory / "crl.pem").write_bytes(crl)
        assert load(place, MINIMAL + 'crl = "crl.pem"').credentials.current.crl == crl
        assert "no revocation list" in refusal(place, MINIMAL + 'crl = "ca.pem"')

    @pytest.mark.parametrize("relative", [True, False])
    def test_paths_are_relative_to_the_file(
        self, place: Throwaway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
    ) -> None:
        (place.directory / "etc").mkdir(exist_ok=True)
        path = place.directory / "etc" / "sealwire.toml"
        absolute = place.directory / "keyring.toml"
        path.write_text(f'ca = "../ca.pem"\nkeyring = "{absolute}"\n', encoding="utf-8")
        monkeypatch.chdir(place.directory if relative else tmp_path)
        assert Security.from_toml("etc/sealwire.toml" if relative else str(path)).keys
        if relative:
            monkeypatch.chdir("etc")
            assert Security.from_toml("sealwire.toml").keys

    def test_the_home_directory_is_not_expanded(self, place: Throwaway) -> None:
        assert f"{place.directory}/~/ca.pem: cannot be read" in refusal(place, MINIMAL.replace("ca.pem", "~/ca.pem"))


class TestBadToml:
    @pytest.mark.parametrize(
        ("value", "why"),
        [
            ("5", "faults: expected a list of strings, not an integer"),
            ('["OutOfStock"]', 'faults: \'OutOfStock\': expected "module:Class", like "shop.orders:Order"'),
            ('["builtins:ValueError"]', "faults: ValueError is not derived from sealwire.Refuse"),
        ],
    )
    def test_faults_that_are_none(self, place: Throwaway, value: str, why: str) -> None:
        assert refusal(place, f"{MINIMAL}faults = {value}") == why

    @pytest.mark.parametrize(
        ("missing", "why"),
        [("ca", "ca is missing; name the file with the cert"), ("keyring", "keyring is missing; expected a path")],
    )
    def test_missing(self, place: Throwaway, missing: str, why: str) -> None:
        text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(missing))
        assert refusal(place, text).startswith(why)

    @pytest.mark.parametrize("peers", ['["dns:a.example"]', '"any-signed-by-ca"', '["anonymous"]'])
    def test_only_a_list_of_processes_does_without_a_ca(self, place: Throwaway, peers: str) -> None:
        text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith("ca"))
        assert refusal(place, f"{text}\npeers = {peers}").startswith("ca is missing; name the file with the cert")
        assert load(place, f'{text}\npeers = ["uid:0"]').credentials.current.authorities == ()

    @pytest.mark.parametrize("option", ["cert", "key", "ca", "crl", "keyring", "service", "codec", "names", "peers"])
    @pytest.mark.parametrize(
        "value",
        ["5", "1.5", "nan", "true", "[5]", "[[]]", '[["a"]]', "[{}]", "{}", "{a = 1}", "2026-11-01",
         "2026-11-01T00:00:00Z", "00:00:00", '["dns:a.example", 5]'],
    )  # fmt: skip
    def test_wrong_types(self, place: Throwaway, option: str, value: str) -> None:
        text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(option))
        message = refusal(place, f"{option} = {value}\n{text}")
        assert message.startswith(f"{option}: expected ")

    @pytest.mark.parametrize("option", ["limits", "allowlist"])
    @pytest.mark.parametrize("value", ["5", '"x"', "true", "[]", "[{}]", "2026-11-01"])
    def test_no_tables(self, place: Throwaway, option: str, value: str) -> None:
        assert refusal(place, f"{option} = {value}\n{MINIMAL}").startswith(f"{option}: expected a table")

    @pytest.mark.parametrize("spec", fields(Limits), ids=lambda spec: spec.name)
    @pytest.mark.parametrize(
        "value",
        [
            '"5"',
            "true",
            "false",
            "[1]",
            "{}",
            "-1",
            "0",
            "nan",
            "inf",
            "-inf",
            "1e300",
            "2026-11-01",
            "0x" + "f" * 5000,
        ],
    )
    def test_limits(self, place: Throwaway, spec: Any, value: str) -> None:
        message = refusal(place, f"{MINIMAL}[limits]\n{spec.name} = {value}\n")
        assert message.startswith((f"limits.{spec.name} must be a", f"limits.{spec.name}: expected a number, not a"))
        assert len(message) < 300

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ('host = "x"', "unknown key 'host'; expected cert, key, ca, crl, keyring, peers, service, names, codec, "),
            ('CA = "x"', "unknown key 'CA'; did you mean ca?"),
            ('"" = 1', "unknown key ''"),
            ("[tls]", "unknown key 'tls'"),
            ("[[key]]", "key: expected a path as a string, not an array"),
            ("limits.max_frames = 1", "unknown key 'limits.max_frames'; did you mean max_frame?"),
            ("limits.max_threads = 1", "unknown key 'limits.max_threads'"),
            ("[limits.max_frame]", "limits.max_frame: expected a number, not a table"),
            ("[allowlist.x]", "unknown key 'allowlist.x'"),
            ('allow_readable_key = "yes"', "allow_readable_key: expected true or false"),
            ('cert = "server.pem"', "cert and key belong together"),
            ('key = "server.key"', "cert and key belong together"),
            ('codec = "pickle"', "codec: expected 'pickle-5' or 'raw'"),
            ('codec = ""', "codec: expected 'pickle-5' or 'raw'"),
            ('service = "ü"', "service must be at most 128 printable ASCII"),
            ('names = ["*.example"]', "names: '*.example' is neither"),
            ('names = "a.example"', "names: expected a list of strings"),
            ("peers = []", "peers: the list of peers is empty"),
            ('peers = ""', "peers: expected a list of strings, or 'any-signed-by-ca'"),
            ('peers = "any"', "peers: expected a list of strings, or 'any-signed-by-ca'"),
            ('peers = "Any-Signed-By-CA"', "peers: expected a list of strings"),
            ('peers = ["any-signed-by-ca"]', 'peers: any-signed-by-ca is no entry of a list; write peers = "any-'),
            ('peers = ["client.example"]', "peers: 'client.example' is not an entry"),
            ('[limits]\npeers = ["dns:a.example"]', "peers is below [limits], as if it were a part of that; put it"),
            ("[allowlist]\nreload_config = true", "reload_config is below [allowlist]"),
            ('[admin]\nlisten = "127.0.0.1:0"\nservice = "orders"', "service is below [admin]"),
            (r'crl = "a\u0000b"', "'"),
        ],
    )
    def test_refused(self, place: Throwaway, text: str, shown: str) -> None:
        message = refusal(place, text + "\n" + MINIMAL if text[0] != "[" else MINIMAL + text)
        assert message.startswith(shown)

    @pytest.mark.parametrize(
        "text",
        ["ca", "ca = ", "x = " + "[" * 100_000, "x = " + "1" * 5000, "\0", "\ufeff" + MINIMAL, MINIMAL + MINIMAL],
    )
    def test_no_toml(self, place: Throwaway, text: str) -> None:
        assert refusal(place, text).startswith("not valid TOML: ")

    def test_no_utf_8(self, place: Throwaway) -> None:
        path = place.directory / "latin.toml"
        path.write_bytes(b'service = "\xe9"')
        with pytest.raises(ConfigurationError, match="not valid TOML"):
            Security.from_toml(path)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=re.escape(f"{tmp_path}: cannot be read (Is a directory)")):
            Security.from_toml(tmp_path)
        with pytest.raises(ConfigurationError, match="cannot be read"):
            Security.from_toml(tmp_path / "missing")

    def test_the_keyring_in_its_place(self, place: Throwaway) -> None:
        """Files confused with each other: no secret in what is said of it."""
        assert refusal(place, place.keyring.read_text()).startswith("key: expected a path as a string")
        assert "no private key" in refusal(place, MINIMAL + 'cert = "server.pem"\nkey = "keyring.toml"')
        assert "keyring.toml: no certificate" in refusal(place, MINIMAL.replace("ca.pem", "keyring.toml"))
        key = place.directory / "server.key"
        assert "server.key: not valid TOML" in refusal(place, MINIMAL.replace("keyring.toml", key.name))

    def test_a_readable_keyring(self, place: Throwaway) -> None:
        copied = place.directory / "open.toml"
        shutil.copy(place.keyring, copied)
        copied.chmod(0o644)
        assert "open.toml: mode 0644" in refusal(place, MINIMAL.replace("keyring.toml", "open.toml"))


def take_in_a_child(made: Security, *, told: bool) -> None:
    """Have a forked process take the present configuration."""
    if (pid := os.fork()) == 0:
        before = made.pinned()
        with suppress(BaseException):
            made.reload() if told else made.look(monotonic() + 30)
        os._exit(made.pinned() is before)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("told", [False, True])
def test_forked_processes_take_a_configuration_together(place: Throwaway, told: bool) -> None:
    """As soon as one of them has it, none waits for its own look or a file at rest: a client may come to any."""
    text = MINIMAL + "service = {}\n" + ("" if told else "reload_config = true\n")
    made = load(place, text.format('"orders"'))
    made.refresh()  # the next look of its own is long after this test
    path = place.directory / "sealwire.toml"
    path.write_text(text.format('"bills"'), encoding="utf-8")
    take_in_a_child(made, told=told)
    assert made.pinned().service == "orders"
    path.touch()  # as if somebody were writing still
    assert made.refresh_due()
    made.refresh()
    assert made.pinned().service == "bills"
    assert not made.refresh_due()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads when it forks
def test_servers_take_a_configuration_with_the_next_connection(place: Throwaway, kind: str) -> None:
    place.leaf("here", "localhost")
    text = MINIMAL + 'cert = "{}.pem"\nkey = "{}.key"\npeers = ["dns:{}"]\nservice = "{}"\n'
    made = load(place, text.format("here", "here", "client.example", "orders"))

    def ask(port: int, service: str) -> object:
        path = place.directory / "client.toml"
        path.write_text(text.format("client", "client", "localhost", service), encoding="utf-8")
        with SynchronousTCPClient("localhost", port, 10, 10, security=Security.from_toml(path)) as client:
            return client.send_request(service)

    with served_by(kind, lambda message: message, made) as port:
        assert ask(port, "orders") == "orders"
        path = place.directory / "sealwire.toml"
        path.write_text(text.format("here", "here", "client.example", "bills"), encoding="utf-8")
        take_in_a_child(made, told=True)
        assert ask(port, "bills") == "bills"
