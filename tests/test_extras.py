"""The error for a missing extra: everything that it lacks, and how to install it from where this came from."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from sealwire import extras

PIP = f"{shlex.quote(sys.executable)} -m pip install"


def installed(place: Path, source: object, *requirements: str) -> None:
    """An installation as pip records it, for ``importlib.metadata`` to find."""
    info = place / "sealwire-0.1.0.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.4", "Name: sealwire", "Version: 0.1.0"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in requirements)]) + "\n")
    if source is not None:
        (info / "direct_url.json").write_text(json.dumps(source))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"url": "file://{place}", "dir_info": {}}, f"run `{PIP} '{{place}}[cli]'`"),
        ({"url": "file://{place}", "dir_info": {"editable": True}}, f"run `{PIP} --editable '{{place}}[cli]'`"),
        ({"url": "file://{place}/gone", "dir_info": {}}, f"run `{PIP} '.[cli]'` in its source tree"),
        ({"url": "https://x.example/a.whl", "archive_info": {}}, f"run `{PIP} 'sealwire[cli] @ https://x.example/a.whl'`"),
        (
            {"url": "ssh://git@x.example/s", "vcs_info": {"vcs": "git", "commit_id": "12ab"}},
            f"run `{PIP} 'sealwire[cli] @ git+ssh://git@x.example/s@12ab'`",
        ),
        (None, f"run `{PIP} '.[cli]'` in its source tree"),
    ],
)  # fmt: skip
def test_from_where_this_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: object, says: str) -> None:
    place = tmp_path / "a place"
    place.mkdir()
    installed(place, json.loads(json.dumps(source).replace("{place}", str(place).replace(" ", "%20"))))
    monkeypatch.syspath_prepend(str(place))
    assert extras.installing("cli") == says.replace("{place}", str(place))


def test_all_that_is_missing_or_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ("click>=99.1", "rich>=1", "nothing-here>=2; python_version > '3'", "nor.this")
    installed(
        tmp_path, None, *(f"{each}{' and' if ';' in each else ';'} extra == 'cli'" for each in wanted), "other>=3"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    old, *others = extras.lacking("cli")
    assert old.startswith("click 99.1 or later (this is 8.")
    assert others == ["nothing-here", "nor.this"]
    assert f"needs the extra [cli], of which is missing: {old}, nothing-here, nor.this; run" in str(
        extras.missing("cli", "the command line")
    )


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of an interpreter that has this package, what it depends on, and nothing else."""
    place = tmp_path / "bare"
    place.mkdir()
    for name in ("sealwire", "cryptography", "cffi", "pycparser"):
        for file in {str(file).partition("/")[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            (place / file).symlink_to(distribution(name).locate_file(file))
    for file in ("sealwire", "sealwire_command.py"):
        if not (place / file).exists():  # of a checkout
            (place / file).symlink_to(Path(extras.__file__).parent.parent / file)
    return os.environ | {"PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"}


@pytest.mark.parametrize(
    ("program", "lacks"),
    [
        ("from sealwire_command import main; main()", "[cli], of which is missing: click, rich, tomlkit; run `"),
        ("import sealwire.dtls", "[dtls], of which is missing: pyopenssl; run `"),
        ("import sealwire.integrations.prometheus", "[prometheus], of which is missing: prometheus-client; run `"),
        ("import sealwire.integrations.celery", "[celery], of which is missing: celery; run `"),
    ],
)
def test_without_any(bare: dict[str, str], program: str, lacks: str) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env=bare, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert lacks in done.stderr.splitlines()[-1]
    assert "pip install 'sealwire" not in done.stderr
