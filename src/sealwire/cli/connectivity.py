"""A server seen from outside: the certificate that it shows to every client, and whether it answers."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from sealwire.cli.addresses import Address, ServerAddress
from sealwire.cli.clients import open_client
from sealwire.cli.report import Finding, Severity
from sealwire.errors import SealwireError
from sealwire.moments import moment_text
from sealwire.security import Security
from sealwire.session import explain
from sealwire.trust.contexts import ALPN
from sealwire.trust.identity import PeerIdentity, canonical_host

STEP_SECONDS: Final = 5.0
"""Seconds that each step may take."""
_SLOW_SECONDS: Final = 1.0


def shown_certificate(address: Address) -> PeerIdentity:
    """Return the identity in the leaf certificate that a server shows; nothing is verified.

    Raises OSError, SealwireError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    with (
        socket.create_connection(address, STEP_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=canonical_host(address.host)) as tls,
    ):
        leaf = tls.getpeercert(binary_form=True)
    if leaf is None:
        raise ssl.SSLError("it showed no certificate")
    return PeerIdentity.from_der(leaf)


def check_connectivity(security: Security, address: ServerAddress) -> Iterator[Finding]:
    """Connect to a server, on TCP step by step, and find the first that fails."""
    server = str(address)
    if not isinstance(address, Address):
        yield from _check_ping(security, address, server)
        return
    try:
        socket.create_connection(address, STEP_SECONDS).close()
    except OSError as error:
        yield Finding(Severity.CRITICAL, server, *_unreachable(server, error))
        return
    try:
        leaf = shown_certificate(address)
    except (OSError, SealwireError) as error:
        reason = error if isinstance(error, SealwireError) else explain.reason(error)
        fix = "check that it is a Sealwire server rather than a proxy"
        yield Finding(Severity.CRITICAL, server, f"does not complete TLS ({reason})", fix)
        return
    now = datetime.now(UTC)
    if leaf.not_before > now:
        text = f"its certificate is not valid before {moment_text(leaf.not_before)}: one of the clocks is wrong"
        yield Finding(Severity.CRITICAL, server, text, "keep the clocks of both machines with NTP")
    if leaf.not_after < now:
        yield Finding(Severity.CRITICAL, server, "its certificate has expired", "renew it there")
    if "client" in security.credentials.current.roles:
        yield from _check_ping(security, address, server)
    else:
        text = "was not tried further: this configuration's certificate is not for clients"
        yield Finding(Severity.NOTE, server, text, "run this with a client's configuration")


def _unreachable(server: str, error: OSError) -> tuple[str, str]:
    """Return the problem and the remedy for a connection that was not made."""
    explained: SealwireError = explain.unreachable(server, explain.reason(error), error)
    if isinstance(error, TimeoutError):
        explained = explain.no_answer(server)
    elif isinstance(error, socket.gaierror):
        explained = explain.unresolved(server)
    problem, _, remedy = str(explained).partition("; ")
    return problem, remedy


def _check_ping(security: Security, address: ServerAddress, server: str) -> Iterator[Finding]:
    try:
        with open_client(address, STEP_SECONDS, STEP_SECONDS, security) as client:
            seconds = client.ping()
    except SealwireError as error:
        yield Finding(Severity.CRITICAL, server, str(error), "do as it says; the server's log may say more")
    else:
        if seconds > _SLOW_SECONDS:
            yield Finding(Severity.NOTE, server, f"answers after {seconds:.1f} s", "check the network and its load")
