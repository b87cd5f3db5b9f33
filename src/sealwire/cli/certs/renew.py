"""``sealwire certs renew``: new certificates for old ones, once or from time to time."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire.cli.certs.common import (
    CA,
    certificate_path,
    certs,
    certs_command,
    directory_option,
    load_ca,
    new_pair,
    write,
)
from sealwire.cli.certs.common import print_certificate as show
from sealwire.cli.certs.revoke import write_crl
from sealwire.cli.console import print_line
from sealwire.cli.inventory import kind_of
from sealwire.cli.lifetimes import due_from, life_of
from sealwire.cli.options import PartType
from sealwire.cli.pem_files import UNREADABLE, read_certificates, read_crls, read_pem
from sealwire.cli.progress import progress
from sealwire.cli.remedies import new_ca
from sealwire.cli.workdir import mode_of, refuse_link, remove_old_copies, report_written
from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.pki.authority import MAX_LEAF_DAYS, Issuer, PrivateKey
from sealwire.pki.csr import key_like
from sealwire.pki.csr import renew as renew_certificate
from sealwire.pki.files import PUBLIC, NewFile, locked
from sealwire.pki.pem import private_key_of, private_key_pem, read_private_key

_DEFAULT_PART: Final = 66
_LONGEST_PAUSE: Final = timedelta(hours=1)
"""The time between two checks of the daemon, since files may come or change meanwhile."""
_AFTER_FAILURE: Final = timedelta(minutes=1)
"""The first pause after a failure; each further one is twice as long."""
_CLOCKS: Final = timedelta(minutes=10)
"""A certificate that would end no later than that after the old one is not a renewal."""


@dataclass(frozen=True, kw_only=True)
class _Options:
    """The arguments of the command."""

    which: Sequence[str]
    everything: bool
    once: bool
    daemon: bool
    part: float | None
    within: int | None
    command: str | None
    keep_key: bool
    days: int | None
    directory: Path

    @property
    def paths(self) -> list[Path]:
        if self.which:
            return [certificate_path(name, self.directory) for name in self.which]
        return _leaves_in(self.directory)

    def due(self, life: tuple[datetime, datetime | None]) -> datetime:
        """Return when to renew something with this life."""
        start, end = life
        if end is None:
            return datetime.max.replace(tzinfo=UTC)
        if self.within is not None:
            return end - timedelta(days=self.within)
        if self.part is None and not (self.once or self.daemon):
            return start
        return due_from(start, end, _DEFAULT_PART / 100 if self.part is None else self.part)


@certs.command()
@click.argument("which", metavar="[STEM_OR_FILE...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every leaf of the directory that has its key beside it.")
@click.option(
    "--once", is_flag=True, help="Renew what is due, for a timer. Without names, all, and the revocation list."
)
@click.option("--daemon", is_flag=True, help="The same, again and again, until a signal.")
@click.option(
    "--at",
    "part",
    type=PartType(),
    help=f"Only when so much of the life is over.  [--once, --daemon: {_DEFAULT_PART}%]",
)
@click.option("--within", type=click.IntRange(0, 3650), metavar="DAYS", help="Only those that expire in fewer days.")
@click.option("--exec", "command", metavar="CMD", help="Then run this by the shell; SEALWIRE_RENEWED has the files.")
@click.option("--keep-key", is_flag=True, help="Certify the old key again, instead of a new one.")
@click.option(
    "--days", type=click.IntRange(1, MAX_LEAF_DAYS), help="Days until it expires.  [default: as many as the old one]"
)
@directory_option
def renew(**given: Any) -> None:
    """Replace certificates by new ones.

    A new certificate has the same names, uses and length of life, and a new key of the same kind. Key and certificate
    replace the old ones in such an order that at no moment there is no key for the certificate; modes are kept, and so
    are the old files, under other names: private keys for 7 days, certificates for 90. A running server or client
    notices.

    \b
    sealwire certs renew server
    sealwire certs renew --once --exec 'systemctl reload orders'
    sealwire certs renew --daemon --at 66%
    """
    options = _Options(**given)
    if options.once and options.daemon:
        raise click.UsageError("--once or --daemon, not both")
    if options.part is not None and options.within is not None:
        raise click.UsageError("--at or --within, not both")
    if options.daemon and options.within is not None:
        raise click.UsageError("--daemon takes --at: with --within it could renew without end")
    if bool(options.which) is options.everything and not (options.once or options.daemon):
        raise click.UsageError("name the certificates to renew, or give --all, --once or --daemon")
    if options.command is None or not options.command.strip():
        options = _Options(**given | {"command": None})
    load_ca_here(options.directory)
    if options.daemon:
        _go_on(options)
    renewed, errors = _round(options)
    failed = _run(options.command, renewed) if renewed else None
    if not renewed and not errors:
        print_line("nothing to renew")
    _finish([*errors, *([failed] if failed else [])])


def load_ca_here(directory: Path) -> Issuer:
    """Read the CA of a directory; without its key say what to do in its place. Raises ConfigurationError."""
    if not (directory / f"{CA}.key").exists():
        ask = certs_command(directory, "request", "PROFILE", "--as", "STEM")
        install = certs_command(directory, "install", "STEM")
        raise ConfigurationError(
            f"{directory / CA}.key: the CA's key is not here; make a request here ({ask}), have it signed where the "
            f"key is (`sealwire certs sign STEM.new.csr`), bring STEM.new.pem here, and put both in place ({install}); "
            "or leave that to the CA that issued the certificate"
        )
    return load_ca(directory)


def _finish(errors: Sequence[str]) -> None:
    for error in errors[:-1]:
        print_line(f"Error: {error}", err=True)
    if errors:
        raise ConfigurationError(errors[-1])


def _go_on(options: _Options) -> None:
    """Renew the certificates that are due, again and again."""
    waiting: list[Path] = []
    pause = _AFTER_FAILURE
    while True:
        renewed, errors = _round(options)
        # What could not be told to the command is told again.
        waiting = list(dict.fromkeys([*waiting, *renewed]))
        failed = _run(options.command, waiting) if waiting else None
        if failed:
            errors.append(failed)
        else:
            waiting = []
        for error in errors:
            print_line(f"Error: {error}", err=True)
        now = datetime.now(UTC)
        moment = min([now + _LONGEST_PAUSE, *(max(now, due) for due in _next(options))])
        time.sleep((pause if errors else moment - now).total_seconds() + 1)
        pause = min(2 * pause, _LONGEST_PAUSE) if errors else _AFTER_FAILURE


def _next(options: _Options) -> list[datetime]:
    """Return when the certificates, as far as they can be read, will be due."""
    found = []
    for path in options.paths:
        try:
            found.append(options.due(life_of(_read_leaf(path))))
        except ConfigurationError:
            continue
    return found


def _round(options: _Options) -> tuple[list[Path], list[str]]:
    """Renew the certificates that are due. Return the files that were written, and the problems with others."""
    renewed: list[Path] = []
    errors: list[str] = []

    def attempt(renewal: Callable[[], list[Path]]) -> None:
        try:
            renewed.extend(renewal())
        except ConfigurationError as error:
            errors.append(str(error))
        except BrokenPipeError:
            raise  # of standard output
        except OSError as error:
            errors.append(f"{error.filename or options.directory}: {error.strerror}")

    try:
        ca, paths = load_ca_here(options.directory), options.paths
    except (ConfigurationError, OSError) as error:
        return [], [str(error)]
    with progress("renewing", len(paths), mixed=False) as show_progress:
        for number, path in enumerate(paths, 1):
            attempt(partial(_renew, ca, path, options))
            show_progress(number, f"{number:,} of {len(paths):,} certificates")
    if (options.once or options.daemon) and not options.which:
        attempt(lambda: _renew_crl(ca, options))
        attempt(lambda: remove_old_copies(options.directory) and [])
    return renewed, errors


def _renew(ca: Issuer, path: Path, options: _Options) -> list[Path]:
    """Renew a certificate, if it is due; return the files that were written."""
    key_path = path.with_suffix(".key")
    refuse_link(path)
    refuse_link(key_path)
    old = _read_leaf(path)  # which says so if it is not there, before a lock is made
    if options.due(life_of(old)) > datetime.now(UTC):
        return []
    with locked(path):
        old = _read_leaf(path)
        if options.due(life_of(old)) > datetime.now(UTC):
            return []
        made, key = _successor(ca, path, old, options)
        pem = made.public_bytes(Encoding.PEM)  # intermediates behind the old leaf were its issuer's; this CA has none
        private = private_key_pem(key)
        keep = options.keep_key
        write([NewFile(path, pem, mode_of(path, PUBLIC))] if keep else new_pair(path, pem, private))
    report_written(path, "the new certificate")
    show(made)
    if old.issuer != made.issuer:
        print_line(
            f"The old one was from {old.issuer.rfc4514_string()}, this one is from {made.issuer.rfc4514_string()}."
        )
    return [path, *([] if keep else [key_path])]


def _successor(ca: Issuer, path: Path, old: x509.Certificate, options: _Options) -> tuple[x509.Certificate, PrivateKey]:
    start, end = old.not_valid_before_utc, old.not_valid_after_utc
    days = options.days or min(MAX_LEAF_DAYS, math.ceil((end - start) / timedelta(days=1)))
    last = ca.certificate.not_valid_after_utc
    if (options.once or options.daemon) and last <= end + _CLOCKS and end > datetime.now(UTC):
        raise ConfigurationError(
            f"{path}: cannot be renewed beyond {moment_text(last)}, when the CA itself ends; "
            f"{new_ca(options.directory / f'{CA}.pem')}, then renew by it"
        )
    key = _old_key(path.with_suffix(".key"), old) if options.keep_key else key_like(old.public_key())
    try:
        return renew_certificate(ca, old, key=key, days=days), key
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _renew_crl(ca: Issuer, options: _Options) -> list[Path]:
    """Write the next revocation list if it is due, for as many days as before."""
    path = options.directory / "crl.pem"
    if not path.exists():
        return []
    own = [crl for crl in read_crls(path) if crl.issuer == ca.certificate.subject]
    lives = [(each.last_update_utc, each.next_update_utc) for each in own if each.next_update_utc is not None]
    if not lives:
        return []
    start, end = max(lives)
    if options.due((start, end)) > datetime.now(UTC):
        return []
    write_crl(ca, options.directory, [], None, max(1, round((end - start) / timedelta(days=1))))
    return [path]


def _run(command: str | None, renewed: Sequence[Path]) -> str | None:
    """Run the user's command; return the problem if it failed."""
    if command is None:
        return None
    variables = os.environ | {"SEALWIRE_RENEWED": " ".join(map(os.path.abspath, renewed))}
    shell = ["/bin/sh", "-c", command]
    status = subprocess.run(shell, env=variables, stdin=subprocess.DEVNULL, check=False).returncode  # noqa: S603 - the user's own
    return f"--exec: `{command}` ended with status {status}; the new files are in place" if status else None


def _leaves_in(directory: Path) -> list[Path]:
    return [
        path
        for path in sorted(directory.glob("*.pem"))
        if path.stem != CA
        and path.suffixes[-2:] != [".new", ".pem"]
        and path.with_suffix(".key").exists()
        and not path.name.startswith(".")
    ]


def _read_leaf(path: Path) -> x509.Certificate:
    leaf = read_certificates(path)[0]
    try:
        _ = leaf.extensions  # parsed here, where the file can be named
    except UNREADABLE:
        raise ConfigurationError(f"{path}: has names or extensions that cannot be read") from None
    if kind_of(leaf) == "CA":
        raise ConfigurationError(f"{path}: the certificate of a CA, which is not renewed; {new_ca(path)}")
    return leaf


def _old_key(path: Path, leaf: x509.Certificate) -> PrivateKey:
    found = private_key_of(read_pem(path, private=True), str(path), leaf.public_key())
    if found is None:
        raise ConfigurationError(f"{path}: the key of another certificate; renew without --keep-key")
    key = read_private_key(found, str(path))
    if not isinstance(key, PrivateKey):
        raise ConfigurationError(f"{path}: TLS has no use for a key of this type; renew without --keep-key")
    return key
