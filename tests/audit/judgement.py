"""What a tool says of Sealwire, and how it is written down."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-audit" / "bin"
"""An environment of its own: some tools want other versions than Sealwire's."""


@dataclass
class Judgement:
    """A tool's, on one subject.

    Attributes:
        tool: Name and version of the tool.
        subject: What it looked at.
        verdict: The result in a sentence.
        table: Head and rows of what it found.
        bad: What is neither good nor accepted. Empty if all is well.
        accepted: Findings that are known, each with the reason.
        missing: Why the tool was not run; None if it was.
    """

    tool: str
    subject: str
    verdict: str = ""
    table: list[Sequence[str]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    accepted: list[tuple[str, str]] = field(default_factory=list)
    missing: str | None = None

    def judge(self, findings: Iterable[str], accepted: dict[str, str]) -> None:
        """Sort findings into accepted ones and bad ones. What is accepted and does not occur is bad as well.

        Args:
            findings: Lines, ``id: text``.
            accepted: Patterns of lines, each with the reason.
        """
        unused = dict(accepted)
        for line in findings:
            pattern = next((each for each in accepted if re.fullmatch(each, line)), None)
            if pattern is None:
                self.bad.append(line)
            else:
                unused.pop(pattern, None)
                self.accepted.append((line, accepted[pattern]))
        self.bad += [f"accepted, but no longer found: {pattern}" for pattern in unused]

    def page(self) -> list[str]:
        """Return its part of the page."""
        lines = [f"## {self.tool}", "", f"Subject: {self.subject}."]
        if self.missing is not None:
            return [*lines, "", f"**Not run**: {self.missing}.", ""]
        lines += ["", ("**Bad.** " if self.bad else "**Good.** ") + self.verdict, ""]
        if self.bad:
            lines += [f"* {each}" for each in self.bad] + [""]
        if self.table:
            head, *rows = self.table
            lines += [row(head), row(["---"] * len(head)), *map(row, rows), ""]
        if self.accepted:
            lines += ["Known and accepted:", ""]
            reasons: dict[str, list[str]] = {}
            for finding, reason in self.accepted:
                reasons.setdefault(reason, []).append(finding)
            for reason, found in reasons.items():
                lines.append(f"* {'; '.join(f'`{each}`' for each in dict.fromkeys(found))}: {reason}")
            lines.append("")
        return lines


def row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(each.replace("|", "\\|").replace("\n", " ") for each in cells) + " |"


def program(name: str) -> str | None:
    """Return the path of a tool, None if it is not installed."""
    ours = TOOLS / name
    return str(ours) if ours.exists() else shutil.which(name)


def run(
    *command: str, seconds: float = 120, cwd: Path | None = None, waits: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a tool, whatever its status. Its input is empty, or, if it waits, does not end."""
    end, held = os.pipe()
    if not waits:
        os.close(held)
    try:
        return subprocess.run(
            command,
            stdin=end,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            cwd=cwd,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        return subprocess.CompletedProcess(command, -1, said, f"no end after {seconds} seconds")
    finally:
        os.close(end)
        if waits:
            os.close(held)


def version(*command: str) -> str:
    """Return the first number like a version that a command prints."""
    done = run(*command)
    found = re.search(r"\d+\.\d+(?:\.\d+)*", done.stdout + done.stderr)
    return found[0] if found else "?"


def note(text: str) -> None:
    """Tell of the progress, beside the page."""
    print(text, file=sys.stderr, flush=True)
