"""A server from outside: where it is, and the certificate that it shows to anybody."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from sealwire.cli.findings import Finding, Severity
from sealwire.client import SynchronousTCPClient
from sealwire.errors import SealwireError
from sealwire.security import Security
from sealwire.tls.contexts import ALPN
from sealwire.tls.identity import PeerIdentity, canonical_host

PATIENCE = 5.0
"""Seconds for each step."""
_SLOW = 1.0


_FORM = re.compile(r"(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})", re.ASCII)


class _Address(click.ParamType[tuple[str, int]]):
    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        match = _FORM.fullmatch(value)
        if match is None or not 0 < int(match[3]) < 65536:
            self.fail(f"{value!r} is no host and port, like server.example:7443 or [::1]:7443", param, ctx)
        return match[1] or match[2], int(match[3])


ADDRESS = _Address()


def shown_leaf(host: str, port: int) -> bytes:
    """The leaf certificate (DER) that a server shows, whoever it is. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    with (
        socket.create_connection((host, port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=canonical_host(host)) as tls,
    ):
        leaf = tls.getpeercert(binary_form=True)
    if leaf is None:
        raise ssl.SSLError("it showed no certificate")
    return leaf


def reach(security: Security, host: str, port: int) -> Iterator[Finding]:
    """The way to a server, step by step, as far as it goes."""
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), PATIENCE):
            pass
    except TimeoutError:
        fix = "see whether it is on, and whether a firewall drops packets on the way"
        yield Finding(Severity.CRITICAL, where, "does not answer", fix)
        return
    except OSError as error:
        fix = "see whether the server runs, and listens on an address that is reached from here (--host)"
        yield Finding(Severity.CRITICAL, where, f"cannot be connected to ({error.strerror or error})", fix)
        return
    try:
        leaf = PeerIdentity.from_der(shown_leaf(host, port))
    except (OSError, SealwireError) as error:
        fix = "see whether that is a Sealwire server, and no proxy"
        yield Finding(
            Severity.CRITICAL, where, f"does not complete TLS ({getattr(error, 'reason', None) or error})", fix
        )
        return
    now = datetime.now(UTC)
    if leaf.not_before > now:
        what = f"its certificate is not valid before {leaf.not_before:%Y-%m-%d %H:%M} UTC: one of the clocks is wrong"
        yield Finding(Severity.CRITICAL, where, what, "see whether both machines' clocks are kept by NTP")
    if leaf.not_after < now:
        yield Finding(Severity.CRITICAL, where, "its certificate has expired", "renew it there")
    if "client" not in security.credentials.current.roles:
        what = "was not tried further: this configuration's certificate is not for clients"
        yield Finding(Severity.NOTE, where, what, "run this with a client's configuration")
        return
    try:
        with SynchronousTCPClient(host, port, PATIENCE, PATIENCE, security=security) as client:
            seconds = client.ping()
    except SealwireError as error:
        yield Finding(Severity.CRITICAL, where, str(error), "as it says; the server's log may say more")
        return
    if seconds > _SLOW:
        yield Finding(Severity.NOTE, where, f"answers after {seconds:.1f} s", "see what is slow on the way")
