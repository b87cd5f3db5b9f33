from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import sealwire
from sealwire import dtls

SOURCE = Path(sealwire.__file__).parent
ARTICLE = ("BYTE_COUNT", "add_msg_header", "len_inbytes", "len_frombytes", "recvall", "send_msg", "recv_msg")
PUBLIC = (
    *ARTICLE, "encode", "decode", "Codec", "Allowlist", "Limits", "Security", "Credentials", "Keyring", "Key",
    "PeerPolicy", "PeerIdentity", "TCPServer", "ThreadingTCPServer", "ForkingTCPServer", "RequestHandler", "serve",
    "SynchronousTCPClient", "SealwireError",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_is_there(name: str) -> None:
    assert name in sealwire.__all__
    assert getattr(sealwire, name) is not None


def test_all_is_what_can_be_imported_and_once() -> None:
    assert len(sealwire.__all__) == len(set(sealwire.__all__))
    namespace: dict[str, object] = {}
    exec("from sealwire import *", namespace)
    assert set(sealwire.__all__) <= set(namespace)


def test_dir_has_the_asynchronous_classes_too() -> None:
    assert set(sealwire.__all__) <= set(dir(sealwire))
    assert set(dtls.__all__) <= set(dir(dtls))


def test_nothing_public_is_left_out() -> None:
    named = {name for name, value in vars(sealwire).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert named <= set(sealwire.__all__) | {"annotations", "TYPE_CHECKING", "Any"}


@pytest.mark.parametrize("name", [name for name in sealwire.__all__ if callable(getattr(sealwire, name))])
def test_has_a_docstring_and_types(name: str) -> None:
    value = getattr(sealwire, name)
    assert inspect.getdoc(value)
    assert value.__module__.startswith("sealwire")
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(each.annotation is not inspect.Parameter.empty for each in signature.parameters.values())


def test_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()


def modules_after(statement: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_importing_it_is_light() -> None:
    loaded = modules_after("import sealwire")
    assert "sealwire.sync.server" in loaded
    assert not loaded & {"asyncio", "click", "rich", "trustme", "pytest", "OpenSSL", "sealwire.cli", "sealwire.testing"}


def test_importing_it_reads_no_environment_and_writes_nothing(tmp_path: Path) -> None:
    statement = (
        "import os; os.environ.clear(); before = set(os.listdir('/proc/self/fd')); import sealwire, logging; "
        "assert set(os.listdir('/proc/self/fd')) == before; assert not logging.getLogger().handlers"
    )
    assert "sealwire" in modules_after(statement)


def test_only_pickling_imports_pickle() -> None:
    importers = {
        path.relative_to(SOURCE).parts[0]
        for path in SOURCE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.split()[:2] in (["import", "pickle"], ["from", "pickle"], ["import", "_pickle"], ["from", "_pickle"])
    }
    assert importers == {"pickling"}


def test_nothing_imports_how_not_to(tmp_path: Path) -> None:
    """Other ways from bytes to code, or to randomness that is no secret."""
    found = [
        f"{path.relative_to(SOURCE)}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.split()[:2] in [[word, name] for word in ("import", "from") for name in ("marshal", "shelve", "dill")]
        or line.strip().startswith(("eval(", "exec("))
    ]
    assert found == []
