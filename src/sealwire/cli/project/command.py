"""``sealwire new``: a small project to begin with, out of the files in ``template``."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import click

from sealwire.cli.console import print_line
from sealwire.errors import ConfigurationError
from sealwire.extras import installing
from sealwire.remedies import command

_NAME: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?", re.ASCII)
_TAKEN: Final = ("sealwire", "tests", "pytest")


@click.command()
@click.argument("path", metavar="NAME", type=click.Path(path_type=Path))
def new(*, path: Path) -> None:
    """Write a small project to begin with.

    It has a service, a client, their types, configuration and tests.

    NAME names a new directory, and the package in it. Nothing is overwritten. The README in it says how to run
    it; `pytest` in it runs its tests.

    \b
    sealwire new shop
    cd shop
    """
    name = path.resolve().name
    module = name.replace("-", "_").lower()
    if _NAME.fullmatch(name) is None or keyword.iskeyword(module):
        raise click.BadParameter(f"{name!r}: expected letters, digits, - and _, like my-shop", param_hint="NAME")
    if module in sys.stdlib_module_names or module in _TAKEN:
        raise click.BadParameter(
            f"{name!r}: Python would take it for another module; choose another", param_hint="NAME"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigurationError(f"{path}: exists and is not empty; choose another name, or remove it")
    install = installing("cli").removeprefix("run `").replace("`", "  #", 1).removesuffix("  #")
    words = {"name": name, "module": module, "install": install}
    for source, parts in _templates(files("sealwire.cli.project") / "template"):
        place = Path(*(_placed(part, module) for part in parts))
        text = source.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(f"{{{{{word}}}}}", value)
        (path / place).parent.mkdir(parents=True, exist_ok=True)
        (path / place).write_text(text, encoding="utf-8")
        print_line(f"wrote {path / place}")
    print_line(f"next: {command('cd', path)}, and README.md there")


def _templates(directory: Traversable, *parts: str) -> Iterator[tuple[Traversable, tuple[str, ...]]]:
    for each in sorted(directory.iterdir(), key=lambda each: each.name):
        if each.is_dir():
            yield from _templates(each, *parts, each.name)
        elif each.name.endswith(".in"):
            yield each, (*parts, each.name.removesuffix(".in"))


def _placed(part: str, module: str) -> str:
    return {"package": module, "gitignore": ".gitignore"}.get(part, part)
