from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sealwire import Credentials, Keyring, toml_options
from sealwire.errors import ConfigurationError


def test_unknown_options_are_named_with_their_table() -> None:
    toml_options.reject_unknown({"a": 1}, ["a", "b"], "table.")
    with pytest.raises(ConfigurationError, match=r"^unknown key 'table\.c'; expected a, b$"):
        toml_options.reject_unknown({"a": 1, "c": 2}, ["a", "b"], "table.")


def test_types_are_exact() -> None:
    assert toml_options.get_typed({"a": 1}, "a", int, "a number") == 1
    assert toml_options.get_typed({}, "a", int, "a number", 2) == 2
    with pytest.raises(ConfigurationError, match=r"^a: expected a number, not a boolean$"):
        toml_options.get_typed({"a": True}, "a", int, "a number")


@pytest.mark.parametrize("value", ["", 1, ["x"], None])
def test_what_is_not_a_path(value: Any) -> None:
    assert toml_options.path({"a": "x"}, "a") == "x"
    with pytest.raises(ConfigurationError, match=r"^a: expected a path as a string, not "):
        toml_options.path({"a": value}, "a")


@pytest.mark.parametrize("value", ["x", 1, [1], ["x", 1], {}])
def test_what_is_not_a_list_of_strings(value: Any) -> None:
    assert toml_options.strings({"a": ["x", "y"]}, "a") == ["x", "y"]
    assert toml_options.strings({}, "a") is None
    with pytest.raises(ConfigurationError, match=r"^a: expected a list of strings"):
        toml_options.strings({"a": value}, "a")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b"\xef\xbb\xbfa = 1\n",
            "not valid TOML: it begins with a byte order mark (BOM); save it as UTF-8 without one",
        ),
        ("a = 1".encode("utf-16"), "not valid TOML: not UTF-8 text but UTF-16; save it as UTF-8"),
        ("a = 1".encode("utf-16-le"), "not valid TOML: not UTF-8 text but UTF-16; save it as UTF-8"),
        ("a = 1\nb = 'é'".encode("latin-1"), "not valid TOML: not UTF-8 text, in line 2; save it as UTF-8"),
        (b"a = ", "not valid TOML"),
        (b"[" * 100_000, "not valid TOML"),
    ],
)
def test_file_that_is_not_toml(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "é.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        toml_options.read_toml(file)
    assert str(caught.value).startswith(f"{file}: {problem}")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        Keyring.from_file(file)
    assert str(caught.value).startswith(f"{file}: {problem}")


@pytest.mark.parametrize("path", [None, 5, "a\0b", "\ud800", "", "/nonexistent/file"])
def test_what_is_not_a_file(path: Any) -> None:
    with pytest.raises(ConfigurationError):
        toml_options.read_toml(path)
    with pytest.raises(ConfigurationError):
        Keyring.from_file(path)
    with pytest.raises(ConfigurationError):
        Credentials.from_files(ca=path, crl="crl.pem")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("cert = certs/server.pem", 'a text or a path stands in quotes, as in "server.pem"'),
        (r'cert = "certs\server.pem"', "write each backslash twice, or the text in single quotes"),
        ('cert = "server.pem\nkey = 1', "a quote is missing at the end of the line"),
    ],
)
def test_syntax_that_is_often_wrong_has_a_remedy(text: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^not valid TOML: ") as refused:
        toml_options.parse_toml(text.encode())
    assert str(refused.value).endswith(f"; {remedy}")
