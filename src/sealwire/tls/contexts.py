"""What is asked of TLS, the same on both sides but for who shows what (docs/protocol.md, section 1)."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sealwire.errors import ConfigurationError
from sealwire.tls.credential_set import CredentialSet

ALPN = "sealwire/1"


def server_context(credentials: CredentialSet, *, anonymous: bool = False) -> ssl.SSLContext:
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


def client_context(credentials: CredentialSet, *, check_hostname: bool = True) -> ssl.SSLContext:
    """A context that verifies the server's chain, and its name unless the caller checks another name in it.

    Raises ConfigurationError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _configure(context, credentials)
    context.check_hostname = check_hostname
    # RFC 9525, section 2: the common name is no host name.
    context.hostname_checks_common_name = False
    return context


def plain_context(credentials: CredentialSet, *, server: bool) -> ssl.SSLContext:
    """A context with the credentials that verifies nobody: to prove them against somebody who does.

    Raises ConfigurationError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _configure(context, credentials)
    return context


def load_chain(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Give a new context its certificates and its private key, both PEM. Raises ssl.SSLError."""
    with _as_file(chain) as chain_path, _as_file(key) as key_path:
        context.load_cert_chain(chain_path, key_path)


def verification_problem(code: int, words: str, credentials: CredentialSet) -> str:
    """What is wrong with the peer's certificate, in words; where it is rather our revocation list, that.

    code, words: OpenSSL's own.
    """
    crl = credentials.paths.get("crl", "")
    return _OF_LISTS.get(code, "{problem}").format(problem=words, crl=crl)


# OpenSSL, X509_STORE_CTX_get_error(3).
_OF_LISTS = {
    3: "{problem}: {crl} has no revocation list of the CA that issued it, so that nobody from that CA gets in; add it",
    8: "{problem}: {crl} is not signed by the CA whose name it has, so that nobody from it gets in; get the CA's own",
    11: "{problem}: {crl} is of the future, so that nobody gets in; check this machine's clock",
    12: "{problem}: {crl} is out of date, so that nobody gets in; get the CA's present one (`sealwire certs crl`)",
}


def _configure(context: ssl.SSLContext, credentials: CredentialSet) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Whoever sets it makes a cut look like the end that the peer wanted (close_notify).
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols([ALPN])
    # One group, as Mozilla's "modern" profile has it: by default OpenSSL offers more than that profile allows. The
    # first releases of CPython 3.11 (Debian 12 has one) cannot name it to OpenSSL 3: there it is that default.
    with suppress(ssl.SSLError):
        context.set_ecdh_curve("X25519")
    try:
        context.load_verify_locations(cadata=credentials.anchors.decode("ascii"))
        if credentials.crl is not None:
            with _as_file(credentials.crl) as path:
                context.load_verify_locations(cafile=path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if credentials.chain is not None and credentials.key is not None:
            load_chain(context, credentials.chain, credentials.key)
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
