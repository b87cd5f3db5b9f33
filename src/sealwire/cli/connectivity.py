"""A server seen from outside: the certificate that it shows to every client, and whether it answers."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from sealwire.cli.addresses import Address
from sealwire.cli.report import Finding, Severity
from sealwire.errors import SealwireError
from sealwire.listeners import address_text
from sealwire.moments import moment_text
from sealwire.security import Security
from sealwire.sync.client import SynchronousTCPClient
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


def check_connectivity(security: Security, address: Address) -> Iterator[Finding]:
    """Connect to a server step by step, and find the first that fails."""
    server = address_text(address)
    try:
        socket.create_connection(address, STEP_SECONDS).close()
    except TimeoutError:
        fix = "check that the machine is on, and that no firewall drops packets on the way"
        yield Finding(Severity.CRITICAL, server, "does not answer", fix)
        return
    except socket.gaierror as error:
        fix = "check the name's spelling and this machine's DNS"
        yield Finding(Severity.CRITICAL, server, f"the host's address cannot be found ({error.strerror})", fix)
        return
    except OSError as error:
        fix = "check that the server runs, and that it listens on an address that this machine reaches (--host)"
        yield Finding(Severity.CRITICAL, server, f"cannot be connected to ({error.strerror or error})", fix)
        return
    try:
        leaf = shown_certificate(address)
    except (OSError, SealwireError) as error:
        reason = getattr(error, "reason", None) or error
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


def _check_ping(security: Security, address: Address, server: str) -> Iterator[Finding]:
    try:
        with SynchronousTCPClient(*address, STEP_SECONDS, STEP_SECONDS, security=security) as client:
            seconds = client.ping()
    except SealwireError as error:
        yield Finding(Severity.CRITICAL, server, str(error), "do as it says; the server's log may say more")
    else:
        if seconds > _SLOW_SECONDS:
            yield Finding(Severity.NOTE, server, f"answers after {seconds:.1f} s", "check the network and its load")
