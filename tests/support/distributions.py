"""Checks distributions as they are published, for ``make dist``: ``python tests/support/distributions.py DIRECTORY``.

A source distribution has every file of the repository, and nothing else. A wheel has the licence, SECURITY.md,
CHANGELOG.md, a bill of materials, a manual page for each command, and no file that only the build needs.
"""

from __future__ import annotations

import email
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from sealwire.cli.app import COMMANDS

ROOT = Path(__file__).parent.parent.parent
PAGES = ("sealwire", *(f"sealwire-{name}" for name in COMMANDS))
TEXTS = ("licenses/LICENSE", "extra_metadata/SECURITY.md", "extra_metadata/CHANGELOG.md")


def problems_of_source(path: Path) -> list[str]:
    """Compare a source distribution with the files that git has."""
    with tarfile.open(path) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()} - {"PKG-INFO"}
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    expected = set(listing.splitlines())
    return [f"lacks {name}" for name in sorted(expected - found)] + [f"has {name}" for name in sorted(found - expected)]


def problems_of_wheel(path: Path) -> list[str]:
    """Look for what a wheel must have, and must not."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA")).removesuffix("METADATA")
        problems = [f"lacks {name}" for name in TEXTS if metadata + name not in names]
        manual = metadata.replace(".dist-info/", ".data/data/share/man/man1/")
        known = ("sealwire/", "sealwire_command.py", metadata, manual)
        problems += [f"has {name}" for name in names if not name.startswith(known)]
        problems += [f"lacks {name}(1)" for name in PAGES if f"{manual}{name}.1" not in names]
        problems += [f"has {name}" for name in names if name.endswith((".pyx", ".pxd", ".c", ".pem", ".key"))]
        compiled = [name for name in names if name.endswith(".so")]
        if bool(compiled) is path.stem.endswith("-any"):
            problems.append("has a native core, and is for any platform" if compiled else "has no native core")
        bill = archive.read(f"{metadata}sboms/sealwire.cdx.json").decode()
        problems += problems_of_bill(bill)
        if bool(json.loads(bill)["components"]) is not bool(compiled):
            problems.append("has a bill of materials of another kind of wheel")
        required = email.message_from_bytes(archive.read(metadata + "METADATA")).get_all("Requires-Dist") or []
        core = [each for each in required if "extra ==" not in each]
        if [each.split(">")[0] for each in core] != ["cryptography"]:
            problems.append(f"needs {core}")
    return problems


def problems_of_bill(text: str) -> list[str]:
    """Validate a bill of materials against CycloneDX's schema."""
    version = SchemaVersion.from_version(json.loads(text)["specVersion"])
    error = JsonStrictValidator(version).validate_str(text)
    return [] if error is None else [f"has a bill of materials that is not valid: {error}"]


def main(directory: Path) -> int:
    checks = {
        ".gz": problems_of_source,
        ".whl": problems_of_wheel,
        ".json": lambda path: problems_of_bill(path.read_text()),
    }
    files = sorted(path for path in directory.iterdir() if path.suffix in checks)
    problems = [f"{path.name} {problem}" for path in files for problem in checks[path.suffix](path)]
    print("\n".join(problems or [f"{path.name}: complete" for path in files]))
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
