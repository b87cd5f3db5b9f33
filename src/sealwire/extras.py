"""Optional dependencies: the packages that an extra lacks, and how to install them from where this installation came.

A name alone would be looked up on a package index, where another project may have it.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from sealwire.errors import ConfigurationError
from sealwire.remedies import command

_NAME: Final = "sealwire"
_REQUIREMENT: Final = re.compile(r"([\w.-]+)(?:\[[^]]*\])?(?:>=([\d.]+))?.*extra == ['\"]([\w-]+)['\"]")


def missing(extra: str, feature: str) -> ConfigurationError:
    """Return the error for a feature without its extra: it names everything that is missing, and how to install it.

    Args:
        extra: The extra's name.
        feature: The feature that needs it.
    """
    what = ", ".join(lacking(extra) or _requirements(extra)) or "its packages"
    return ConfigurationError(f"{feature} needs the extra [{extra}], of which is missing: {what}; {installing(extra)}")


def lacking(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed, or too old; empty if it is complete."""
    found = []
    for name, least in _requirements(extra).items():
        try:
            present = version(name)
        except PackageNotFoundError:
            found.append(name)
        else:
            if _numbers(present) < _numbers(least):
                found.append(f"{name} {least} or later (this is {present})")
    return found


def installing(extra: str, *options: str) -> str:
    """Return how to install this package with an extra from its source, which pip has recorded (PEP 610)."""
    pip = sys.executable, "-m", "pip", "install", *options
    suffix = f"[{extra}]" if extra else ""
    recorded = None
    with suppress(PackageNotFoundError):  # a source tree on the path
        recorded = distribution(_NAME).read_text("direct_url.json")
    source = json.loads(recorded) if recorded else {}
    url = str(source.get("url", ""))
    path = Path(unquote(urlsplit(url).path))
    if not url.startswith("file:") and url:
        vcs = source.get("vcs_info", {})
        reference = f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url
        return f"run {command(*pip, f'{_NAME}{suffix} @ {reference}')}"
    if url and "vcs_info" not in source and path.exists():
        editable = ("--editable",) if source.get("dir_info", {}).get("editable") else ()
        return f"run {command(*pip, *editable, f'{path}{suffix}')}"
    return f"run {command(*pip, f'.{suffix}')} in its source tree"


def _requirements(extra: str) -> dict[str, str]:
    """Return the packages of an extra, and the oldest version of each that will do; empty if that is not known."""
    with suppress(PackageNotFoundError):
        matches = map(_REQUIREMENT.match, distribution(_NAME).requires or ())
        return {match[1]: match[2] or "" for match in matches if match is not None and match[3] == extra}
    return {}


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)[:3]]
