from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sealwire.cli.pem_files import MAX_FILE, problem_of, read_certificates, read_crls, read_pem
from sealwire.errors import ConfigurationError
from sealwire.pki.authority import create_ca

CA = create_ca("Test CA")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "a b.key"
    path.write_bytes(CA.key_pem)
    path.chmod(0o600)
    return path


def test_a_private_key(key: Path) -> None:
    assert read_pem(key, private=True) == CA.key_pem
    key.chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"a b\.key: mode 0640 lets other users open it; run `chmod 600 '.*'`"):
        read_pem(key, private=True)


@pytest.mark.parametrize(("user", "private"), [(os.geteuid(), True), (os.geteuid() + 1, False)])
def test_an_access_control_list(key: Path, user: int, private: bool) -> None:
    """Its mask looks like the mode of the group; its entries decide."""
    unnamed = 0xFFFFFFFF
    entries = [(1, 6, unnamed), (2, 4, user), (4, 0, unnamed), (16, 4, unnamed), (32, 0, unnamed)]
    content = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(key, "system.posix_acl_access", content)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error.strerror}")
    assert key.stat().st_mode & 0o777 == 0o640
    if private:
        read_pem(key, private=True)
    else:
        with pytest.raises(ConfigurationError, match="mode 0640 lets other users open it"):
            read_pem(key, private=True)


@pytest.mark.parametrize(
    ("read", "reason"),
    [(read_certificates, "no certificate in PEM form"), (read_crls, "no revocation list in PEM form")],
)
@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN X509 CRL-----\nA\n-----END X509 CRL-----\n"])
def test_nothing_to_read(tmp_path: Path, read: Callable[[Path], Any], reason: str, content: bytes) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"a\.pem: {reason} could be read"):
        read(path)


def test_a_file_has_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    with path.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(ConfigurationError, match="larger than"):
        read_pem(path)


def test_the_problem_alone() -> None:
    error = ConfigurationError("certs/a.pem: too old; renew it")
    assert problem_of(error, Path("certs/a.pem")) == "too old"
