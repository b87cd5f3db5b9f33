"""Finds the commands that the source advises."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import sealwire

SOURCE = Path(sealwire.__file__).parent
PROGRAMS = (
    "sealwire",
    "openssl",
    "ssh-keygen",
    "puttygen",
    "keytool",
    "chmod",
    "chown",
    "cp",
    "umask",
    "id",
    "cd",
    "{}",
)
"""The first words of commands. The only one that differs from place to place is the interpreter, of pip."""
CODE = re.compile(
    r"-.*|async( with)?|await .*|with|name|serializer|workers|without|if (TYPE_CHECKING|__name__ == '__main__'):"
)
"""What else stands in backquotes: options, and words of Python."""
_QUOTED = re.compile(r"`((?:'[^']*'|\"[^\"]*\"|[^`'\"])+)`")
_WORD = r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+"
_BUILDERS = ("command", "line", "certs_command", "keys_command")


class Advice(NamedTuple):
    """A command in the source; ``{}`` stands for a word that is put in."""

    module: str
    template: str


def advised() -> Iterator[Advice]:
    """Yield every command in a message: in backquotes in a text, or made by ``sealwire.remedies``."""
    for module, text in texts():
        for command in quoted(text):
            if not CODE.fullmatch(command) and not command.startswith("{}"):  # which stands for what is made
                yield Advice(module, command)
    for module, node in _nodes():
        if module != "remedies.py":
            yield from (Advice(module, template) for template in _templates(node))


@cache
def _nodes() -> list[tuple[str, ast.AST]]:
    return [
        (str(path.relative_to(SOURCE)), node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr | ast.JoinedStr | ast.Constant | ast.Call)
    ]


@cache
def texts() -> list[tuple[str, str]]:
    """Return the module and content of every text that is not a docstring, with ``{}`` for what is put in."""
    skipped = {id(node.value) for _, node in _nodes() if isinstance(node, ast.Expr)}
    skipped |= {id(part) for _, node in _nodes() if isinstance(node, ast.JoinedStr) for part in node.values}
    return [
        (module, text)
        for module, node in _nodes()
        if id(node) not in skipped and (text := _text(node)) is not None and " " in text
    ]


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(each.value if isinstance(each, ast.Constant) else "{}" for each in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def quoted(text: str) -> list[str]:
    """Return what stands in backquotes, single ones."""
    return [] if "`" not in text else _QUOTED.findall(re.sub(r"``.*?``|:\w+:`[^`]*`", "", text))


def _templates(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _BUILDERS:
        return
    words = [*_words(node.args)]
    if node.func.id in ("certs_command", "keys_command"):
        words = ["sealwire", node.func.id.partition("_")[0], *words[1:], "*"]
    if words != ["*"] and words[2:] != ["*", "*"]:  # a function of another name, and the builders themselves
        yield " ".join(words)


def _words(arguments: list[ast.expr]) -> Iterator[str]:
    for each in arguments:
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield shlex.quote(each.value)
        else:
            yield "*" if isinstance(each, ast.Starred) else "{}"
