"""Commands that messages advise, as a shell takes them."""

from __future__ import annotations

import os
import shlex


def line(*words: str | os.PathLike[str]) -> str:
    """Return a command line; words with blanks or characters of the shell are quoted."""
    return shlex.join(os.fspath(word) for word in words)


def command(*words: str | os.PathLike[str]) -> str:
    """Return a command line in backquotes, for a message. A word in capitals stands for what only the reader knows."""
    return f"`{line(*words)}`"
