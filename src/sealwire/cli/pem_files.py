"""Reads PEM files for the commands; each error names the file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.pki import pem
from sealwire.remedies import command
from sealwire.trust.file_permissions import open_to_others
from sealwire.trust.reading import read_file

UNREADABLE: Final = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm)
"""Errors of ``cryptography`` for the names and extensions of broken certificates."""
MAX_FILE: Final = Limits().max_crl
"""The largest file that is read, in bytes."""
CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
CRL: Final = b"-----BEGIN X509 CRL-----"


def read_pem(path: Path, *, private: bool = False, max_size: int = MAX_FILE) -> bytes:
    """Read a file, but not the file of a ``private`` key if other users can open it. Raises ConfigurationError."""
    return read_file(path, max_bytes=max_size, check=_check_private if private else None).data


def _check_private(status: os.stat_result, name: str) -> None:
    if open_to_others(name, status):
        raise ConfigurationError(
            f"{name}: mode {stat.S_IMODE(status.st_mode):04o} lets other users open it; run "
            f"{command('chmod', '600', name)} and, if another user could have read it, replace it"
        )


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Read at least one certificate. Raises ConfigurationError."""
    return pem.read_certificates(read_pem(path), str(path))


def read_crls(path: Path) -> list[x509.CertificateRevocationList]:
    """Read at least one revocation list. Raises ConfigurationError."""
    return pem.read_crls(read_pem(path), str(path))


def problem_of(error: ConfigurationError, path: Path) -> str:
    """Return the reason in an error about a file, without the file's name and the remedy, for a table."""
    return str(error).removeprefix(f"{path}: ").partition(";")[0]
