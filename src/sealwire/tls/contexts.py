"""What is asked of TLS, the same on both sides but for who shows what (docs/protocol.md, section 1)."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from sealwire.errors import ConfigurationError
from sealwire.tls.credentials import Credentials

ALPN = "sealwire/1"


def server_context(credentials: Credentials, *, anonymous: bool = False) -> ssl.SSLContext:
    """A context that always asks for the client's certificate, and insists on it unless ``anonymous``.

    Raises ConfigurationError.
    """
    if credentials.leaf is None:
        raise ConfigurationError("a server needs a certificate and its private key (cert and key)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = _Accepted
    _configure(context, credentials)
    context.verify_mode = ssl.CERT_OPTIONAL if anonymous else ssl.CERT_REQUIRED
    # A resumed session would skip the check of revocation lists.
    context.num_tickets = 0
    return context


class _Accepted(ssl.SSLSocket):
    """Of a connection that its peer has reset, wrap_socket takes the descriptor, fails and forgets it.

    What fails there is this method, which nobody else calls.
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except OSError:
            self.close()
            raise


def client_context(credentials: Credentials, *, check_hostname: bool = True) -> ssl.SSLContext:
    """A context that verifies the server's chain, and its name unless the caller checks another name in it.

    Raises ConfigurationError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _configure(context, credentials)
    context.check_hostname = check_hostname
    # RFC 9525, section 2: the common name is no host name.
    context.hostname_checks_common_name = False
    return context


def _configure(context: ssl.SSLContext, credentials: Credentials) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Whoever sets it makes a cut look like the end that the peer wanted (close_notify).
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols([ALPN])
    # One group, as Mozilla's "modern" profile has it: by default OpenSSL offers more than that profile allows.
    context.set_ecdh_curve("X25519")
    try:
        context.load_verify_locations(cadata=credentials.anchors.decode("ascii"))
        if credentials.crl is not None:
            with _as_file(credentials.crl) as path:
                context.load_verify_locations(cafile=path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if credentials.chain is not None and credentials.key is not None:
            with _as_file(credentials.chain) as chain, _as_file(credentials.key) as key:
                context.load_cert_chain(chain, key)
    except ssl.SSLError as error:
        raise ConfigurationError(f"TLS does not take the certificate, key, CA or CRL: {error.reason}") from None


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path under which OpenSSL can read ``content``: exactly what was proved, whatever the file holds by now."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("sealwire", os.MFD_CLOEXEC)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:
        with tempfile.NamedTemporaryFile(prefix="sealwire") as private:
            private.write(content)
            private.flush()
            yield private.name
