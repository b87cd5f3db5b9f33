"""The directories in which mutmut runs, one for each package, and what it found there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Container, Iterator
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

from mutation.explained import Change

ROOT = Path(__file__).parents[2]
_COPIED = ("src", "tests", "docs")
_KILLED = ("killed", "timeout", "segfault")


class Mutant(NamedTuple):
    """A mutant: its name for mutmut, what became of it, and if it survived, what is changed."""

    name: str
    status: str
    change: Change | None

    @property
    def is_killed(self) -> bool:
        return self.status in _KILLED


class Workplace:
    """The directory of one package; ``fresh`` removes what is there from an earlier run."""

    def __init__(self, name: str, options: dict[str, list[str]], *, fresh: bool) -> None:
        self._directory = ROOT / ".mutants" / name
        if fresh:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True, exist_ok=True)
        for part in _COPIED:
            shutil.rmtree(self._directory / part, ignore_errors=True)
            # Without the native core: what is mutated is what runs.
            shutil.copytree(ROOT / part, self._directory / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        settings = (ROOT / "pyproject.toml").read_text()
        assert settings.count("[tool.mutmut]\n") == 1
        tests = [*options["tests"], *(f"--deselect={test}" for test in options.get("slow", ()))]
        own = f"[tool.mutmut]\nonly_mutate = {json.dumps(options['mutate'])}\npytest_add_cli_args_test_selection = "
        own += json.dumps(tests) + "\n"
        (self._directory / "pyproject.toml").write_text(settings.replace("[tool.mutmut]\n", own))

    def run(self, processes: int, explained: Container[Change]) -> None:
        """Run the tests on all mutants that are neither killed nor explained."""
        settled = {mutant.name for mutant in self.mutants() if mutant.is_killed or mutant.change in explained}
        for meta in self._metas():
            found = json.loads(meta.read_text())
            codes = found["exit_code_by_key"]
            found["exit_code_by_key"] = {name: code if name in settled else None for name, code in codes.items()}
            meta.write_text(json.dumps(found))
        self._forget_tests()
        command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(processes)]
        environment = os.environ | {"SEALWIRE_NATIVE": "off", "PYTHONPATH": str(ROOT / "tests")}
        subprocess.run(command, cwd=self._directory, env=environment, check=True)

    def _forget_tests(self) -> None:
        """Have mutmut see anew which functions each test calls: a test that it knows may call others now."""
        path = self._directory / "mutants" / "mutmut-stats.json"
        if path.exists():
            known = {"tests_by_mangled_function_name": {}, "duration_by_test": {}}
            path.write_text(json.dumps(json.loads(path.read_text()) | known))

    def mutants(self) -> Iterator[Mutant]:
        """All mutants. What is changed is known only of those that survived."""
        for name, path, status in self._results():
            yield Mutant(name, status, None if status in (*_KILLED, "not checked") else self._change(name, path))

    def _change(self, name: str, path: Path) -> Change:
        from mutmut.mutation.diff_apply import get_diff_for_mutant

        module, _, rest = name.removeprefix("sealwire.").rpartition(".")
        function = rest.rpartition("__mutmut_")[0].removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
        with chdir(self._directory):
            lines = get_diff_for_mutant(name, path=path).splitlines()[2:]
        old, new = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
        return f"{module}.{function}", old, new

    def _results(self) -> Iterator[tuple[str, Path, str]]:
        for meta in self._metas():
            path = meta.relative_to(self._directory / "mutants").with_suffix("")
            for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
                yield name, path, _status(code)

    def _metas(self) -> list[Path]:
        return sorted(self._directory.glob("mutants/src/**/*.meta"))


def _status(code: int | None) -> str:
    from mutmut.stats import status_by_exit_code

    # What mutmut calls a time limit is also the end of a run of pytest that failed before any test.
    return "error" if code == 255 else status_by_exit_code[code]


def packages() -> dict[str, dict[str, list[str]]]:
    """What is mutated, by the name of the package."""
    return tomllib.loads(Path(__file__).with_name("packages.toml").read_text())
