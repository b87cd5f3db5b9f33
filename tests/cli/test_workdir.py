from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sealwire.cli.workdir import prepare


def test_new_ones_are_the_owners_and_git_sees_nothing(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        prepare(tmp_path / "a" / "certs")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "certs").stat().st_mode) == 0o700
    assert "\n*\n" in (tmp_path / "a" / "certs" / ".gitignore").read_text()


def test_existing_ones_stay_as_they_are(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare(tmp_path)
    assert os.listdir(tmp_path) == []
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "certs").write_text("")
    with pytest.raises(FileExistsError):
        prepare(tmp_path / "certs")
