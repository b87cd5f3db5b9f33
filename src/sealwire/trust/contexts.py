"""Makes TLS contexts: TLS 1.3 only, mutual certificates, no resumption (docs/protocol.md, section 1)."""

from __future__ import annotations

import os
import ssl
import tempfile
from _ssl import ENCODING_DER
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from cryptography import x509

from sealwire.errors import ConfigurationError
from sealwire.pki.pem import to_pem
from sealwire.trust.certificates import Certificates

ALPN = "sealwire/1"


def server_context(credentials: Certificates, *, anonymous: bool = False) -> ssl.SSLContext:
    """Make a server's context, which always requests the client's certificate.

    Args:
        credentials: Certificate, private key and trust anchors.
        anonymous: Accept clients without a certificate as well.

    Raises:
        ConfigurationError: There is no certificate, or OpenSSL refuses a part of the credentials.
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
    """Closes the socket of a connection that was reset before wrap_socket.

    wrap_socket takes over the descriptor, fails in this method and leaks it. Sealwire itself never calls recv.
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except OSError:
            self.close()
            raise


def client_context(credentials: Certificates, *, check_hostname: bool = True) -> ssl.SSLContext:
    """Make a client's context, which verifies the server's chain and host name.

    Args:
        credentials: Trust anchors, and certificate and private key unless the client is anonymous.
        check_hostname: False if the caller verifies another name in the certificate instead.

    Raises:
        ConfigurationError: OpenSSL refuses a part of the credentials.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _configure(context, credentials)
    context.check_hostname = check_hostname
    # RFC 9525, section 2: a common name is not a host name.
    context.hostname_checks_common_name = False
    return context


def plain_context(credentials: Certificates, *, server: bool) -> ssl.SSLContext:
    """Make a context that shows nothing but the own chain, and verifies no peer, to test it. Raises ConfigurationError.

    OpenSSL completes a chain with trust anchors, which this context does not have.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _refusal():
        _show(context, credentials)
    return context


def verifying_context(
    credentials: Certificates, *, server: bool, anchors: Iterable[x509.Certificate], lists: bool
) -> ssl.SSLContext:
    """Make a context that verifies chains as the credentials do, to test them. Raises ConfigurationError.

    Args:
        credentials: The credentials.
        server: True if it is for a server.
        anchors: Those of the trust anchors to use.
        lists: Apply the revocation lists.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    with _refusal():
        _trust(context, to_pem(anchors), credentials.crl if lists else None)
    return context


def certificates_above(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """Return the certificates (DER) between the peer's leaf and the root, in the chain that was verified."""
    found = tls._sslobj.get_verified_chain() or ()  # type: ignore[attr-defined]  # public from Python 3.13 on
    return tuple(each.public_bytes(ENCODING_DER) for each in found[1:-1])


def load_chain(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Load certificates and private key (both PEM) into a new context. Raises ssl.SSLError."""
    with _as_file(chain) as chain_path, _as_file(key) as key_path:
        context.load_cert_chain(chain_path, key_path)


def verification_problem(code: int, words: str, credentials: Certificates) -> str:
    """Explain why verification of a peer's certificate failed, naming our revocation list if that is the cause.

    Args:
        code: OpenSSL's verify code.
        words: OpenSSL's text for it.
        credentials: The credentials that were used.
    """
    return _PROBLEMS.get(code, "{problem}").format(
        problem=words.removesuffix("."), crl=credentials.paths.get("crl", ""), ca=credentials.paths["ca"]
    )


# Codes of OpenSSL, X509_STORE_CTX_get_error(3).
_UNKNOWN = (
    "{problem}: {ca} does not have the CA that issued it, or the peer's cert file lacks an intermediate certificate"
)
_PROBLEMS = {
    3: "{problem}: {crl} has no revocation list of the CA that issued it, so all of that CA's are refused; add it",
    18: "{problem}: it was issued by itself and not by a CA, and is not in {ca} either",
    19: "{problem}: {ca} does not have that CA",
    20: _UNKNOWN,
    21: _UNKNOWN,
    26: "{problem}: its extended key usage must have serverAuth for a server, clientAuth for a client",
    8: "{problem}: {crl} is not signed by the CA that it names, so all its certificates are refused; get the CA's own",
    11: "{problem}: {crl} is not valid yet, so all certificates are refused; check this machine's clock",
    12: "{problem}: {crl} is out of date, so all certificates are refused; get the CA's current list "
    "(`sealwire certs crl`)",
}


CRL_CODES: Final = frozenset((3, 8, 11, 12))
"""The codes of problems that come from revocation lists and not from the certificate."""


def _configure(context: ssl.SSLContext, credentials: Certificates) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # With this option a truncated stream would look like one that the peer closed (close_notify).
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols([ALPN])
    # One group, from Mozilla's "modern" profile; OpenSSL's default offers more. Early releases of CPython 3.11 (as in
    # Debian 12) cannot set this group in OpenSSL 3, and keep the default.
    with suppress(ssl.SSLError):
        context.set_ecdh_curve("X25519")
    with _refusal():
        _trust(context, credentials.anchors, credentials.crl)
        _show(context, credentials)


def _trust(context: ssl.SSLContext, anchors: bytes, lists: bytes | None) -> None:
    context.load_verify_locations(cadata=anchors.decode("ascii"))
    if lists is not None:
        with _as_file(lists) as path:
            context.load_verify_locations(cafile=path)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _show(context: ssl.SSLContext, credentials: Certificates) -> None:
    if credentials.chain is not None and credentials.key is not None:
        load_chain(context, credentials.chain, credentials.key)


@contextmanager
def _refusal() -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise ConfigurationError(f"OpenSSL refuses the certificate, key, CA or CRL: {error.reason}") from None


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yield a path where OpenSSL reads ``content``: the bytes that were validated, not the file's present ones."""
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
