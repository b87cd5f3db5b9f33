"""Prints the oldest versions that pyproject.toml allows of all that the package uses, as constraints for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ADAPTED = ("attrs", "msgspec", "numpy", "pydantic", "uvloop")
"""Libraries that users bring along."""


def main() -> None:
    project = tomllib.loads((Path(__file__).parent.parent.parent / "pyproject.toml").read_text())
    used = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        used += extra
    used += [each for each in project["dependency-groups"]["test"] if each.startswith(ADAPTED)]
    for requirement in used:
        name, version = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
