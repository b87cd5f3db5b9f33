"""`"module:name"`: what it names, and errors that say what is wrong and where."""

from __future__ import annotations

import decimal
from pathlib import Path

import pytest

from sealwire import ConfigurationError
from sealwire.pickling.importing import import_object


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module's file in the current directory; its name is never used twice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / f"imported_{tmp_path.name}.py"


def test_names_and_nested_names(module: Path) -> None:
    module.write_text("class Outer:\n    class Inner:\n        pass\n")
    assert import_object("decimal:Decimal") is decimal.Decimal
    assert import_object(f"{module.stem}:Outer.Inner").__qualname__ == "Outer.Inner"


@pytest.mark.parametrize("name", ["decimal", "decimal:", ":Decimal", "a b:C", "a:b:c", ".a:b", 3, None])
def test_form(name: object) -> None:
    with pytest.raises(ConfigurationError, match='expected "module:Class"'):
        import_object(name)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0\n", r"cannot be imported: ZeroDivisionError at .*\.py:1: division by zero"),
        ("\nx = (\n", r"cannot be imported: SyntaxError at .*\.py:2: '\(' was never closed"),
        ("import json\njson.loads('')\n", r"cannot be imported: JSONDecodeError at .*imported_.*\.py:2: "),
        ("import not_installed_anywhere\n", r"cannot be imported: ModuleNotFoundError at .*\.py:1: No module named"),
        ("raise SystemExit\n", "ended the program when it was imported; put its code as a program under"),
        ("def a(): pass\ndef _b(): pass\n", "has no name; it has a$"),
        ("_b = 1\n", "has no name; it has no function and no class of its own"),
    ],
)
def test_errors_of_the_module(module: Path, source: str, reason: str) -> None:
    module.write_text(source)
    with pytest.raises(ConfigurationError, match=f"^{module.stem}:name: {module.stem} {reason}"):
        import_object(f"{module.stem}:name")


def test_no_module() -> None:
    with pytest.raises(ConfigurationError, match=r"^nowhere\.a:B: there is no module 'nowhere'; install it, start"):
        import_object("nowhere.a:B")
    with pytest.raises(ConfigurationError, match=r"there is no module 'nowhere'; leave out \.py"):
        import_object("nowhere.py:B")
