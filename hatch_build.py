"""Compiles the native core, ``src/sealwire/native``, with Cython: into a wheel, or in place for development.

Each wheel says in its ``sboms`` (PEP 770), in CycloneDX's form, what of other projects is in it.

``pip install`` compiles it if a C compiler and CPython's headers are there, and otherwise installs the pure library and
says so. ``SEALWIRE_NATIVE=require`` makes it fail in this case; ``SEALWIRE_NATIVE=off`` compiles nothing.

``python hatch_build.py [DIRECTORY]`` compiles into the source tree, or into ``DIRECTORY/sealwire/native``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("sealwire", "native")
SHARED = "_shared"
"""The module of what Cython adds to each module that uses typed memory; compiled once, not in each."""
CYTHON = "cython>=3.1,<3.3"
"""The lists that Cython 3.3.0 and 3.3.1 make free an item twice if they cannot grow."""
MANUAL = ("click>=8.4", "cryptography>=43", "rich>=13.7", "tomlkit>=0.13")
"""What docs/man.py imports: the same as the extra ``cli``."""
# Not by PYTHONPATH, from which pip's isolation takes what is installed in place outside.
_RUN = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# Every index is checked, and so is every overflow of a C integer: the core reads what a peer wrote.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": True,
    "wraparound": False,
    "overflowcheck": True,
    "initializedcheck": True,
    "cdivision": False,
}


class CompileHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel, and its bill of materials."""

    def dependencies(self) -> list[str]:
        """Return the packages that the build needs in addition."""
        return [*MANUAL, *([] if _wish() == "off" else [CYTHON, "setuptools>=77"])]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, but not for an editable installation, which the Makefile compiles in place."""
        if self.target_name != "wheel" or version == "editable":
            return
        # Two builds of one tree may run at a time: whatever this one writes is in its own directory.
        self._directory = Path(tempfile.mkdtemp(prefix="sealwire-native-"))
        compiled = _wish() != "off" and self._compile(build_data)
        bill = self._directory / "sealwire.cdx.json"
        bill.write_text(json.dumps(bill_of_materials(self.metadata.version, compiled=compiled), indent=2) + "\n")
        build_data["sbom_files"].append(str(bill))
        for page in self._pages():
            build_data["shared_data"][str(page)] = f"share/man/man1/{page.name}"

    def _pages(self) -> list[Path]:
        """Write the manual pages of the commands; without what they need, as without isolation, a wheel has none."""
        pages = self._directory / "man"
        source, script = Path(self.root, "src"), Path(self.root, "docs", "man.py")
        command = [sys.executable, "-B", "-c", _RUN, source, script, pages, self.metadata.version]
        try:
            subprocess.run(command, env=os.environ | {"SEALWIRE_NATIVE": "off"}, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            self.app.display_warning(f"sealwire: without its manual pages, which need {', '.join(MANUAL)} ({reason})")
            return []
        return sorted(pages.iterdir())

    def _compile(self, build_data: dict[str, Any]) -> bool:
        """Add the compiled modules; return False if they cannot be made and need not be there."""
        try:
            files = compile_into(Path(self.root), self._directory)
        except Exception as error:
            if _wish() == "require":
                raise
            self.app.display_warning(
                f"sealwire: installed without its native core, which is faster but needs a C compiler and CPython's "
                f"headers ({type(error).__name__}); SEALWIRE_NATIVE=require makes this an error, with the reason"
            )
            return False
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for file in files:
            build_data["force_include"][str(file)] = str(PACKAGE / file.name)
        return True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the directory of the build."""
        if hasattr(self, "_directory"):
            shutil.rmtree(self._directory, ignore_errors=True)


def bill_of_materials(version: str, *, compiled: bool) -> dict[str, Any]:
    """Return the software bill of materials of a wheel: what others wrote of what is in it (CycloneDX 1.6).

    Args:
        version: The version of this package.
        compiled: True if the native core is there, of which Cython has written a part.
    """
    parts = []
    if compiled:
        cython = version_of("cython")
        # Its COPYING.txt: the snippets "do not encumber the resulting output with any license restrictions".
        parts.append(
            {
                "type": "library",
                "bom-ref": "cython",
                "name": "Cython",
                "version": cython,
                "purl": f"pkg:pypi/cython@{cython}",
                "description": "snippets in the modules of sealwire/native, which carry no restriction of its licence",
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        )
    own = {
        "type": "library",
        "bom-ref": "sealwire",
        "name": "sealwire",
        "version": version,
        "licenses": [{"license": {"id": "MIT"}}],
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": parts,
        "dependencies": [{"ref": "sealwire", "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _wish() -> str:
    wish = os.environ.get("SEALWIRE_NATIVE", "")
    if wish not in ("", "off", "require"):
        raise SystemExit(f"SEALWIRE_NATIVE={wish}: must be off, require or unset")
    return wish


def compile_into(root: Path, target: Path) -> list[Path]:
    """Compile all modules in a process of its own.

    Args:
        root: The directory of this file.
        target: Where to put what is made.

    Returns:
        The compiled modules, in ``target / PACKAGE``.

    Raises:
        subprocess.CalledProcessError: It cannot be compiled; the compiler has said why on standard error.
    """
    subprocess.run([sys.executable, __file__, str(target)], cwd=root, check=True, stdout=sys.stderr)
    return sorted(file for file in (target / PACKAGE).iterdir() if file.suffix in (".so", ".pyd"))


def _compile(root: Path, target: Path) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    sources = sorted((root / "src" / PACKAGE).glob("*.pyx"))
    with tempfile.TemporaryDirectory(prefix="sealwire-c-") as temporary:
        names = {".".join((*PACKAGE.parts, source.stem)): str(source) for source in sources}
        shared = ".".join((*PACKAGE.parts, SHARED))
        names[shared] = str(Path(temporary, f"{SHARED}.c"))  # written by Cython
        options = [] if "CFLAGS" in os.environ else ["-O3", "-g0"]
        extensions = cythonize(
            [Extension(name, [source], extra_compile_args=options) for name, source in names.items()],
            include_path=[str(root / "src")],
            build_dir=temporary,
            compiler_directives=DIRECTIVES,
            shared_utility_qualified_name=shared,
            force=True,
            quiet=True,
        )
        distribution = Distribution({"name": "sealwire", "ext_modules": extensions})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(target), temporary
        command.parallel = os.cpu_count()
        command.ensure_finalized()
        command.run()


def _compile_in_place(root: Path) -> None:
    try:
        _compile(root, root / "src")
    except Exception as error:
        if _wish() == "require":
            raise
        print(f"this tree is used without its native core, which cannot be compiled: {error}", file=sys.stderr)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    if len(sys.argv) > 1:
        _compile(here, Path(sys.argv[1]))
    elif _wish() != "off":
        _compile_in_place(here)
