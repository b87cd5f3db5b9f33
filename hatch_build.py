"""Compiles the vetting pass with mypyc, where SEALWIRE_COMPILE=1 asks for it: ``SEALWIRE_COMPILE=1 pip install .``

It needs a C compiler and CPython's headers. Without the variable nothing is compiled and nothing more is installed; the
modules are ordinary Python and do the same either way.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = ("opcodes", "leaves", "probes", "keys", "nodes", "vet", "resolve", "adapters/record")
_OPTIONS = ("--follow-imports=silent", "--ignore-missing-imports")  # `make check` checks the types


class CompileHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel; the Python ones stay beside them."""

    def dependencies(self) -> list[str]:
        """What the build needs more."""
        return ["mypy>=1.13", "setuptools>=77"] if _wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, where it is wanted; not for an editable installation, whose sources may change."""
        if self.target_name != "wheel" or version == "editable" or not _wanted():
            return
        self._directory = tempfile.mkdtemp(prefix="sealwire-compile-")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for file in _compile(Path(self.root) / "src", Path(self._directory)):
            build_data["force_include"][str(file)] = str(file.relative_to(self._directory))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clean up."""
        shutil.rmtree(getattr(self, "_directory", ""), ignore_errors=True)


def _wanted() -> bool:
    return os.environ.get("SEALWIRE_COMPILE") == "1"


def _compile(source: Path, target: Path) -> list[Path]:
    """The compiled modules, below ``target`` as they have to be below site-packages."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    here = Path.cwd()
    os.chdir(source)
    try:
        modules = [f"sealwire/pickling/{name}.py" for name in MODULES]
        distribution = Distribution({"name": "sealwire", "ext_modules": mypycify([*_OPTIONS, *modules])})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(target), str(target / "temporary")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(here)
        shutil.rmtree(source / "build", ignore_errors=True)
    return [file for suffix in ("*.so", "*.pyd") for file in target.rglob(suffix) if "temporary" not in file.parts]
