"""What is asked of DTLS, the same as of TLS where the two have the same (docs/protocol.md, section 1).

pyOpenSSL, since the ssl module has no DTLS. All its contexts and connections are made here.
"""

from __future__ import annotations

from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Final, cast

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from OpenSSL._util import lib

from sealwire.dtls.records import MTU
from sealwire.errors import ConfigurationError
from sealwire.security import Security
from sealwire.tls.contexts import ALPN, verification_problem
from sealwire.tls.credential_set import CredentialSet

_DTLS_1_2: Final = 0xFEFD
_PROTOCOL: Final = ALPN.encode()
# pyOpenSSL's stubs have it as possibly None, for OpenSSL that is built without DTLS.
_COOKIE_EXCHANGE: Final = SSL.OP_COOKIE_EXCHANGE or 0
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_OPTIONS: Final = SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_QUERY_MTU
# OpenSSL, X509_STORE_CTX_get_error(3): those that have to do with how things are configured.
_PROBLEMS: Final = {
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in certificate chain",
    20: "unable to get local issuer certificate",
    21: "unable to verify the first certificate",
    23: "certificate revoked",
    26: "unsuitable certificate purpose",
}


@dataclass(slots=True)
class Facts:
    """What the callbacks of a connection are told and tell. problem: what is wrong with the peer's certificate."""

    cookie: bytes = b""
    problem: int = 0


def server_connection(security: Security, credentials: CredentialSet) -> SSL.Connection:
    """A server's end, on memory BIOs. Raises ConfigurationError."""
    connection = _connection(security.context(credentials, "DTLS server", lambda: _server(security, credentials)))
    connection.set_accept_state()
    return connection


def client_connection(security: Security, credentials: CredentialSet) -> SSL.Connection:
    """A client's end, on memory BIOs. Raises ConfigurationError."""
    connection = _connection(security.context(credentials, "DTLS client", lambda: _client(credentials)))
    connection.set_connect_state()
    return connection


def facts_of(connection: SSL.Connection) -> Facts:
    """Its facts."""
    return cast(Facts, connection.get_app_data())


def leaf_of(connection: SSL.Connection) -> bytes | None:
    """The peer's verified leaf certificate, DER."""
    leaf = connection.get_peer_certificate()
    return None if leaf is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, leaf)


def shortcoming(connection: SSL.Connection) -> str | None:
    """What a complete handshake did not agree to, though it must."""
    if connection.get_alpn_proto_negotiated() != _PROTOCOL:
        return f"the protocol {ALPN}"
    # RFC 7627. pyOpenSSL has no public name for it; where OpenSSL could not be asked, nobody gets in.
    if not lib.SSL_get_extms_support(connection._ssl):
        return "an extended master secret"
    return None


def reason(error: SSL.Error) -> str:
    """An error of DTLS in words, without anything that the peer chose."""
    try:
        return str(error.args[0][-1][2]) or "DTLS error"
    except (IndexError, TypeError):
        return "DTLS error"


def certificate_problem(connection: SSL.Connection, credentials: CredentialSet) -> str | None:
    """What is wrong with the peer's certificate, in words; None where nothing is."""
    code = facts_of(connection).problem
    words = _PROBLEMS.get(code, f"it could not be verified (X509_V_ERR {code})")
    return verification_problem(code, words, credentials) if code else None


def _connection(context: SSL.Context) -> SSL.Connection:
    connection = SSL.Connection(context, None)
    connection.set_ciphertext_mtu(MTU)
    connection.set_app_data(Facts())
    return connection


def _server(security: Security, credentials: CredentialSet) -> SSL.Context:
    context = _context(credentials)
    context.set_options(_COOKIE_EXCHANGE)
    mode = SSL.VERIFY_PEER
    if security.peers is None or not security.peers.allows_anonymous:
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(mode, _verified)
    context.set_alpn_select_callback(_select)
    context.set_cookie_generate_callback(lambda connection: facts_of(connection).cookie)
    context.set_cookie_verify_callback(
        lambda connection, cookie: compare_digest(cookie, facts_of(connection).cookie),
    )
    return context


def _client(credentials: CredentialSet) -> SSL.Context:
    context = _context(credentials)
    context.set_verify(SSL.VERIFY_PEER, _verified)
    context.set_alpn_protos([_PROTOCOL])
    return context


def _context(credentials: CredentialSet) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_min_proto_version(_DTLS_1_2)
    context.set_max_proto_version(_DTLS_1_2)
    context.set_options(_OPTIONS)
    # A resumed session would skip the check of revocation lists.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(_CIPHERS)
    try:
        store = context.get_cert_store()
        assert store is not None  # noqa: S101 - of a new context
        for authority in credentials.authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        for each in credentials.lists:
            store.add_crl(each)
        if credentials.lists:
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK)
        if credentials.key is not None:
            leaf, *above = credentials.certificates
            context.use_certificate(leaf)
            for certificate in above:
                context.add_extra_chain_cert(certificate)
            context.use_privatekey(load_pem_private_key(credentials.key, None))  # type: ignore[arg-type]  # it says if not
    except (SSL.Error, crypto.Error, TypeError) as error:
        why = reason(error) if isinstance(error, SSL.Error) else "a key of that kind"
        raise ConfigurationError(f"DTLS does not take the certificate, key, CA or CRL: {why}") from None
    return context


def _select(_: SSL.Connection, offered: list[bytes]) -> Any:
    return _PROTOCOL if _PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _verified(connection: SSL.Connection, _: crypto.X509, code: int, __: int, ok: int) -> bool:
    if not ok:
        facts_of(connection).problem = code
    return bool(ok)
