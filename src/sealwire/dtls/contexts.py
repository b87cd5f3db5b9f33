"""pyOpenSSL contexts and connections for DTLS 1.2, configured like those for TLS (docs/protocol.md, section 1).

The standard library's ssl module has no DTLS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from OpenSSL._util import lib

from sealwire.dtls.flight import LARGEST
from sealwire.dtls.records import MTU
from sealwire.errors import ConfigurationError
from sealwire.remedies import command
from sealwire.security import Security
from sealwire.trust.certificates import Certificates, is_root
from sealwire.trust.contexts import ALPN, verification_problem

_DTLS_1_2: Final = 0xFEFD
_PROTOCOL: Final = ALPN.encode()
# None in pyOpenSSL's stubs, for an OpenSSL built without DTLS.
_COOKIE_EXCHANGE: Final = SSL.OP_COOKIE_EXCHANGE or 0
_NO_AUTO_CHAIN: Final = 8
"""SSL_MODE_NO_AUTO_CHAIN, which pyOpenSSL has no name for: send only the certificates given, and no trust anchor."""
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_SIGNATURES: Final = (
    b"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:ed448:"
    b"rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"
    b"rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:RSA+SHA256:RSA+SHA384:RSA+SHA512"
)
"""The algorithms of TLS 1.3, and RSA's older ones for signatures of CAs. OpenSSL's default adds DSA and SHA-224."""
_OPTIONS: Final = SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_QUERY_MTU
# The errors of X509_STORE_CTX_get_error(3) that come from configuration.
_PROBLEMS: Final = {
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in certificate chain",
    20: "unable to get local issuer certificate",
    21: "unable to verify the first certificate",
    22: "certificate chain too long",
    23: "certificate revoked",
    26: "unsuitable certificate purpose",
}


@dataclass(slots=True)
class CallbackState:
    """Data exchanged with a connection's callbacks.

    Attributes:
        cookie: The cookie for the current ClientHello, in the cookie exchange.
        is_valid: Returns True for a cookie that the current ClientHello may have, at a server.
    """

    cookie: bytes = b""
    is_valid: Callable[[bytes], bool] | None = None


def server_connection(security: Security, certificates: Certificates) -> SSL.Connection:
    """Return a server's connection on memory BIOs. Raises ConfigurationError."""
    anonymous = security.peers is not None and security.peers.allows_anonymous
    context = certificates.once(("DTLS server", anonymous), lambda given: _server(given, anonymous))
    connection = _connection(context, LARGEST)
    connection.set_accept_state()
    return connection


def client_connection(certificates: Certificates) -> SSL.Connection:
    """Return a client's connection on memory BIOs. Raises ConfigurationError."""
    connection = _connection(certificates.once("DTLS client", _client), MTU)
    connection.set_connect_state()
    return connection


def callback_state(connection: SSL.Connection) -> CallbackState:
    """Return the CallbackState of a connection."""
    return cast(CallbackState, connection.get_app_data())


def leaf_of(connection: SSL.Connection) -> bytes | None:
    """Return the peer's verified leaf certificate, DER; None without one."""
    leaf = connection.get_peer_certificate()
    return None if leaf is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, leaf)


def certificates_above(connection: SSL.Connection) -> tuple[bytes, ...]:
    """Return the certificates (DER) between the peer's leaf and the root, in the chain that was verified."""
    chain = connection.get_verified_chain() or []
    return tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in chain[1:-1])


def missing_parameter(connection: SSL.Connection) -> str | None:
    """Return the name of a required parameter that a complete handshake did not negotiate, or None."""
    if connection.get_alpn_proto_negotiated() != _PROTOCOL:
        return f"the protocol {ALPN}"
    # RFC 7627. pyOpenSSL has no public function for it. If this one disappears, every handshake fails.
    if not lib.SSL_get_extms_support(connection._ssl):
        return "an extended master secret"
    return None


def overhead(connection: SSL.Connection) -> int:
    """Return the bytes that the cipher of a complete handshake adds to a record: tag and, for GCM, explicit nonce."""
    return 24 if "GCM" in (connection.get_cipher_name() or "") else 16


def reason(error: SSL.Error) -> str:
    """Return an error of DTLS as text, without any text that the peer chose."""
    try:
        return str(error.args[0][-1][2]) or "DTLS error"
    except (IndexError, TypeError):
        return "DTLS error"


def certificate_problem(connection: SSL.Connection, certificates: Certificates) -> str | None:
    """Return the reason if the peer's certificate was not verified, or None."""
    # Not by a callback, for which pyOpenSSL has public functions: an exception of a signal handler would be lost in it.
    code = lib.SSL_get_verify_result(connection._ssl)
    words = _PROBLEMS.get(code, f"it could not be verified (X509_V_ERR {code})")
    return verification_problem(code, words, certificates) if code else None


def _connection(context: SSL.Context, largest: int) -> SSL.Connection:
    connection = SSL.Connection(context, None)
    connection.set_ciphertext_mtu(largest)  # of handshake messages, the only ones that DTLS divides
    connection.set_app_data(CallbackState())
    return connection


def _server(certificates: Certificates, anonymous: bool) -> SSL.Context:
    key = certificates.certificates[0].public_key() if certificates.certificates else None
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        raise ConfigurationError(
            f"{certificates.paths['cert']}: a UDP server cannot use an Ed25519 or Ed448 key, for which OpenSSL has no "
            "cipher suite of DTLS 1.2; issue a certificate with an ECDSA key (P-256), as "
            f"{command('sealwire', 'certs', 'issue', 'server', 'NAME', '--as', 'STEM')} does"
        )
    context = _context(certificates)
    context.set_options(_COOKIE_EXCHANGE)
    mode = SSL.VERIFY_PEER
    if not anonymous:
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(mode)
    context.set_alpn_select_callback(_select)
    context.set_cookie_generate_callback(lambda connection: callback_state(connection).cookie)
    context.set_cookie_verify_callback(_has_valid_cookie)
    return context


def _client(certificates: Certificates) -> SSL.Context:
    context = _context(certificates)
    context.set_verify(SSL.VERIFY_PEER)
    context.set_alpn_protos([_PROTOCOL])
    return context


def _context(certificates: Certificates) -> SSL.Context:
    """Return a context with the settings of both ends."""
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_min_proto_version(_DTLS_1_2)
    context.set_max_proto_version(_DTLS_1_2)
    context.set_options(_OPTIONS)
    # A resumed session would skip the check of certificate revocation lists.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(_CIPHERS)
    # pyOpenSSL has no public function for it. If this one disappears, no context is made.
    if lib.SSL_CTX_set1_sigalgs_list(context._context, _SIGNATURES) != 1:
        raise ConfigurationError("OpenSSL refuses the signature algorithms of DTLS")
    context.set_mode(_NO_AUTO_CHAIN)
    try:
        store = context.get_cert_store()
        assert store is not None  # a new context has one
        for authority in certificates.authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        for each in certificates.lists:
            store.add_crl(each)
        if certificates.lists:
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK)
        if certificates.key is not None:
            leaf, *above = certificates.certificates
            context.use_certificate(leaf)
            for certificate in above:
                if not is_root(certificate):  # the peer has it, or trusts another
                    context.add_extra_chain_cert(certificate)
            context.use_privatekey(load_pem_private_key(certificates.key, None))  # type: ignore[arg-type]  # raises TypeError for other keys
    except (SSL.Error, crypto.Error, TypeError) as error:
        why = reason(error) if isinstance(error, SSL.Error) else "this type of key is not supported"
        raise ConfigurationError(f"DTLS does not accept the certificate, key, CA or CRL: {why}") from None
    return context


def _select(_: SSL.Connection, offered: list[bytes]) -> Any:
    return _PROTOCOL if _PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _has_valid_cookie(connection: SSL.Connection, cookie: bytes) -> bool:
    is_valid = callback_state(connection).is_valid
    return is_valid is not None and is_valid(cookie)
