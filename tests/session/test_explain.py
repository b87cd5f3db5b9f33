"""Each text of a failed connection says what was wrong, where, and what to do, and nothing that the peer chose."""

from __future__ import annotations

import errno
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from sealwire.errors import (
    BadTag,
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    RemoteProtocolError,
    SealwireError,
    TransportError,
    TruncatedFrame,
)
from sealwire.session import explain
from sealwire.trust.certificates import Certificates
from sealwire.wire.frames import MAX_FAULT_TEXT, FaultCode, RejectCode
from support.certificates import Files, make, make_ca, make_crl
from support.session import ADDRESS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    ca = make_ca()
    files = Files(tmp_path_factory.mktemp("files"))
    return files.loaded(make("own.example", issuer=ca), ca)


def tls_error(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL] an OpenSSL text (_ssl.c:1000)")
    error.reason = reason  # OpenSSL has errors without one
    return error


def verification_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


CLIENT: list[tuple[str, Callable[[], Exception], type[Exception], str]] = [
    (
        "an unknown host",
        lambda: explain.unresolved(ADDRESS),
        TransportError,
        "the host's address cannot be found; check its spelling and this machine's DNS",
    ),
    (
        "no connection",
        lambda: explain.unreachable(ADDRESS, "Connection refused"),
        TransportError,
        "Connection refused; check that the server runs and listens there",
    ),
    *(
        (
            f"no connection: {errno.errorcode[number]}",
            lambda number=number: explain.not_accepted(ADDRESS, "why", OSError(number, "why")),
            TransportError,
            f"why; {advice}",
        )
        for number, advice in (
            (errno.ECONNREFUSED, "check that the server runs and listens there"),
            (errno.ENETUNREACH, "check the address, and this machine's network and its routes"),
            (errno.EHOSTUNREACH, "check the address, and this machine's network and its routes; the machine"),
            (errno.ETIMEDOUT, "check that it is on, and that no firewall drops packets"),
            (errno.EACCES, "a firewall or policy of this machine does not permit it"),
            (errno.EADDRNOTAVAIL, "check the address"),
        )
    ),
    (
        "no connection to a Unix socket",
        lambda: explain.unreachable_path(ADDRESS, "orders.sock", PermissionError(errno.EACCES, "Permission denied")),
        TransportError,
        "Permission denied; check that the server runs and listens there, and that the socket's mode permits this user",
    ),
    (
        "no answer",
        lambda: explain.no_answer(ADDRESS),
        DeadlineExceeded,
        "did not answer in time; check that it is on",
    ),
    ("no handshake", lambda: explain.incomplete(ADDRESS), DeadlineExceeded, "did not complete the handshake in time"),
    ("no TLS", lambda: explain.incomplete(ADDRESS, "TLS"), DeadlineExceeded, "did not complete TLS in time"),
    (
        "a bad certificate",
        lambda: explain.server_certificate(ADDRESS, "it has expired"),
        HandshakeFailed,
        "is not acceptable: it has expired; it must come from a CA in this client's ca file, be valid now, and have "
        "the host name among its subject alternative names",
    ),
    (
        "a refused certificate",
        lambda: explain.client_refused(ADDRESS, "tlsv1 alert unknown ca", anonymous=False),
        HandshakeFailed,
        r"refused this client's certificate: unknown CA; the other side's ca file must have that CA, its crl file",
    ),
    (
        "another alert",
        lambda: explain.client_refused(ADDRESS, "tlsv1 alert internal error", anonymous=False),
        HandshakeFailed,
        r"ended the handshake \(internal error\); its log says why",
    ),
    (
        "no certificate",
        lambda: explain.client_refused(ADDRESS, "certificate required", anonymous=True),
        HandshakeFailed,
        "it requires a certificate, and this client has none; configure cert and key",
    ),
    (
        "another protocol",
        lambda: explain.other_protocol(ADDRESS),
        HandshakeFailed,
        "did not agree to the protocol sealwire/1; something else listens there",
    ),
    ("the end", lambda: explain.ended_handshake(ADDRESS), HandshakeFailed, "ended the handshake"),
]


class TestClient:
    @pytest.mark.parametrize(
        ("make_error", "kind", "text"), [row[1:] for row in CLIENT], ids=[row[0] for row in CLIENT]
    )
    def test_names_the_server(self, make_error: Callable[[], Exception], kind: type[Exception], text: str) -> None:
        error = make_error()
        assert type(error) is kind
        assert ADDRESS in str(error)
        assert re.search(text, str(error))

    @pytest.mark.parametrize(
        ("code", "text"),
        [
            (1, "it speaks another version of the protocol; upgrade the older side"),
            (2, "it uses another codec; configure the same on both sides"),
            (
                3,
                "not authorised; check that both sides hold the same key under the same id, that this client's ",
            ),
            (4, "it is overloaded; try again later"),
            (5, "it is shutting down; try again later"),
        ],
    )
    def test_rejected(self, code: int, text: str) -> None:
        error = explain.rejected(ADDRESS, code)
        assert type(error) is HandshakeRejected
        assert error.code == code
        assert str(error).startswith(f"{ADDRESS} refused: {text}")
        assert RejectCode(code)

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (tls_error("WRONG_VERSION_NUMBER"), "what came is not TLS; is a Sealwire server there?"),
            (tls_error(None), "tls error; is a Sealwire server there?"),
            (
                ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
                "Connection reset by peer; is a Sealwire",
            ),
            (verification_error(62, "Hostname mismatch."), "Hostname mismatch; it must come from a CA in this"),
            (verification_error(10, "certificate has expired"), "certificate has expired; it must come from a CA"),
        ],
    )
    def test_tls(self, certificates: Certificates, error: OSError, text: str) -> None:
        explained = explain.client_tls(error, ADDRESS, certificates)
        assert type(explained) is HandshakeFailed
        assert ADDRESS in str(explained)
        assert text in str(explained)
        assert "_ssl.c" not in str(explained)

    @pytest.mark.parametrize(
        ("error", "failure", "kind", "text"),
        [
            (DeadlineExceeded("x"), None, DeadlineExceeded, "did not complete the handshake in time"),
            (
                ConnectionClosed("x"),
                None,
                HandshakeFailed,
                r"ended the connection during the handshake; its log says why",
            ),
            (
                ConnectionClosed("x"),
                ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
                HandshakeFailed,
                "its log says why",
            ),
            (ConnectionClosed("x"), tls_error("UNEXPECTED_EOF_WHILE_READING"), HandshakeFailed, "its log says why"),
            (
                ConnectionClosed("x"),
                tls_error("TLSV1_ALERT_UNKNOWN_CA"),
                HandshakeFailed,
                r"refused this client's certificate: unknown CA",
            ),
            (TruncatedFrame("x"), None, HandshakeFailed, "inside its answer to the handshake"),
            (
                BadTag("a frame has a wrong tag"),
                None,
                HandshakeFailed,
                "did not prove that it holds this client's key: a frame has a wrong tag; compare the keyrings, and "
                "check whether a proxy ends TLS",
            ),
        ],
    )
    def test_no_welcome(self, error: SealwireError, failure: OSError | None, kind: type[Exception], text: str) -> None:
        explained = explain.missing_welcome(error, ADDRESS, failure, anonymous=False)
        assert type(explained) is kind
        assert str(explained).startswith(ADDRESS)
        assert re.search(text, str(explained))
        assert explained.__cause__ is (error if isinstance(error, BadTag) else None)

    def test_no_welcome_without_a_certificate(self) -> None:
        failure = tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED")
        explained = explain.missing_welcome(ConnectionClosed("x"), ADDRESS, failure, anonymous=True)
        assert "it requires a certificate, and this client has none; configure cert and key" in str(explained)


class TestServer:
    """The server's log begins with the client's address, so that these texts do without."""

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (tls_error("NO_SHARED_CIPHER"), "TLS failed: no shared cipher"),
            (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "TLS failed: protocol version"),
            (
                tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"),
                "the client refused this server's certificate: expired; renew it",
            ),
            (
                ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
                "the connection ended during TLS: Connect",
            ),
            (
                verification_error(10, "certificate has expired"),
                "the client's certificate is not acceptable: certificate",
            ),
        ],
    )
    def test_tls(self, certificates: Certificates, error: OSError, text: str) -> None:
        explained = explain.server_tls(error, certificates)
        assert type(explained) is HandshakeFailed
        assert str(explained).startswith(text)

    @pytest.mark.parametrize(
        ("code", "text"),
        [
            (4, "max_connections are established (REJECT 4)"),
            (5, "the server is shutting down (REJECT 5)"),
            (None, "the client ended the handshake"),
        ],
    )
    def test_not_established(self, code: int | None, text: str) -> None:
        assert str(explain.not_established(code)) == text

    def test_dropped(self) -> None:
        error = explain.dropped_reply()
        assert "before the reply, which was dropped" in str(error)
        assert (error.code, error.last) == (None, None)


RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
REASONS: list[tuple[str, Callable[[Certificates], SealwireError], str]] = [
    ("an unknown host", lambda _: explain.unresolved(ADDRESS), "unreachable"),
    ("no connection", lambda _: explain.unreachable(ADDRESS, "x"), "unreachable"),
    ("a connection that was reset", lambda _: explain.not_accepted(ADDRESS, "x", RESET), "unreachable"),
    ("a bad server certificate", lambda _: explain.server_certificate(ADDRESS, "x"), "certificate"),
    ("TLS with a server", lambda c: explain.client_tls(tls_error("X"), ADDRESS, c), "tls"),
    ("a refused certificate", lambda _: explain.client_refused(ADDRESS, "unknown ca", anonymous=False), "certificate"),
    ("another alert", lambda _: explain.client_refused(ADDRESS, "internal error", anonymous=False), "tls"),
    ("no certificate", lambda _: explain.client_refused(ADDRESS, "unknown ca", anonymous=True), "tls"),
    ("REJECT 1", lambda _: explain.rejected(ADDRESS, 1), "version"),
    ("REJECT 2", lambda _: explain.rejected(ADDRESS, 2), "codec"),
    ("REJECT 3", lambda _: explain.rejected(ADDRESS, 3), "not_authorised"),
    ("REJECT 4", lambda _: explain.rejected(ADDRESS, 4), "overloaded"),
    ("REJECT 5", lambda _: explain.rejected(ADDRESS, 5), "draining"),
    ("no answer", lambda _: explain.ended_handshake(ADDRESS), "ended"),
    ("a client's bad certificate", lambda c: explain.server_tls(verification_error(10, "x"), c), "certificate"),
    ("TLS with a client", lambda c: explain.server_tls(tls_error("NO_SHARED_CIPHER"), c), "tls"),
    ("the end of TLS", lambda c: explain.server_tls(tls_error("UNEXPECTED_EOF_WHILE_READING"), c), "ended"),
    ("a reset in TLS", lambda c: explain.server_tls(RESET, c), "ended"),
    ("a probe", lambda _: explain.silent(), "silent"),
    ("a client that refuses", lambda _: explain.server_refused("tlsv1 alert unknown ca"), "server_certificate"),
    ("a server that is full", lambda _: explain.not_established(4), "overloaded"),
    ("a server that drains", lambda _: explain.not_established(5), "draining"),
    ("a client that leaves", lambda _: explain.not_established(None), "ended"),
    ("a beginning that is none", lambda _: explain.ended_at_start(RESET), "ended"),
]


class TestReasons:
    """The words in audit records and metrics do not change."""

    @pytest.mark.parametrize(("make_error", "word"), [row[1:] for row in REASONS], ids=[row[0] for row in REASONS])
    def test_word(
        self, certificates: Certificates, make_error: Callable[[Certificates], SealwireError], word: str
    ) -> None:
        assert make_error(certificates).reason == word

    @pytest.mark.parametrize(
        ("make_error", "transient"),
        [
            (lambda _: explain.not_accepted(ADDRESS, "x", RESET), True),
            (lambda c: explain.client_tls(RESET, ADDRESS, c), True),
            (lambda c: explain.client_tls(tls_error("UNEXPECTED_EOF_WHILE_READING"), ADDRESS, c), True),
            (lambda c: explain.client_tls(tls_error("WRONG_VERSION_NUMBER"), ADDRESS, c), False),
            (lambda c: explain.client_tls(tls_error(None), ADDRESS, c), False),
            (lambda _: explain.missing_welcome(ConnectionClosed("x"), ADDRESS, RESET, anonymous=False), True),
            (lambda _: explain.missing_welcome(TruncatedFrame("x"), ADDRESS, RESET, anonymous=False), False),
            (lambda _: explain.other_protocol(ADDRESS), False),
        ],
    )
    def test_only_what_an_overloaded_server_does_is_transient(
        self, certificates: Certificates, make_error: Callable[[Certificates], HandshakeFailed], transient: bool
    ) -> None:
        """Clients try again at once."""
        assert make_error(certificates).transient is transient

    def test_a_tcp_socket_has_no_mode(self) -> None:
        assert str(explain.unreachable(ADDRESS, "x")).endswith("check that the server runs and listens there")

    def test_a_path_that_no_socket_can_have(self) -> None:
        failed = explain.unreachable_path("x", "x" * 108, OSError("AF_UNIX path too long"))
        assert str(failed).startswith(
            "cannot connect to x: the path has 108 bytes, and that of a Unix socket 107 at most"
        )
        assert str(failed).endswith("; choose a shorter one at both ends")

    def test_the_file_that_lacks_a_ca(self, certificates: Certificates) -> None:
        """It is found by OpenSSL's code for the problem."""
        error = verification_error(19, "self-signed certificate in certificate chain")
        for explained in (explain.client_tls(error, ADDRESS, certificates), explain.server_tls(error, certificates)):
            assert f"{certificates.paths['ca']} does not have that CA" in str(explained)

    def test_a_connection_that_was_not_accepted(self) -> None:
        for error in (None, ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")):
            made = explain.not_accepted(ADDRESS, "Connection refused", error)
            assert type(made) is TransportError
            assert str(made) == str(explain.unreachable(ADDRESS, "Connection refused"))
        assert str(explain.not_accepted(ADDRESS, "x", RESET)) == str(explain.unreachable(ADDRESS, "x"))

    @pytest.mark.parametrize(
        ("make_error", "sent"),
        [
            (lambda: explain.no_answer(ADDRESS), False),
            (lambda: explain.incomplete(ADDRESS), False),
            (lambda: explain.nothing_came(ADDRESS), True),
            (lambda: explain.no_time_to_resend(sent=True), True),
            (lambda: explain.no_time_to_resend(sent=False), False),
            (lambda: explain.not_encoded(), False),
            (lambda: explain.other_requests(), False),
            (lambda: explain.no_reply(ADDRESS, sent=True), True),
            (lambda: explain.no_reply(ADDRESS, sent=False), False),
            (lambda: explain.not_taken(), False),
            (lambda: explain.not_taken(sent=True), True),
        ],
    )
    def test_whether_a_handler_may_have_seen_the_request(
        self, make_error: Callable[[], DeadlineExceeded], sent: bool
    ) -> None:
        assert make_error().sent is sent

    def test_a_late_reply(self) -> None:
        assert str(explain.no_reply(ADDRESS, sent=True)).startswith(
            f"nothing came from {ADDRESS} in time; allow more time (wait), or"
        )
        assert "no handler has seen it" in str(explain.no_reply(ADDRESS, sent=False))
        assert str(explain.nothing_came()) == "nothing came from the peer in time"

    def test_the_carrier_of_what_failed(self) -> None:
        assert str(explain.server_refused("no shared cipher", "DTLS")) == "DTLS failed: no shared cipher"
        assert str(explain.ended_at_start(RESET)) == "the connection ended at its beginning: Connection reset by peer"
        assert str(explain.ended_at_start(RESET, "in its header")).startswith("the connection ended in its header: ")

    def test_a_ca_that_is_revoked(self, tmp_path: Path) -> None:
        ca = make_ca()
        loaded = Files(tmp_path).loaded(make("own.example", issuer=ca), ca, crl=make_crl(ca))
        path = loaded.paths["crl"]
        assert str(explain.revoked_above(loaded)).startswith(f"the certificate of a CA above it is revoked, by {path};")

    def test_a_copy_has_no_frames(self) -> None:
        """A kept error with frames would keep the connection that it came through."""
        with pytest.raises(HandshakeRejected) as raised:
            raise explain.rejected(ADDRESS, 4)
        assert raised.value.__traceback__ is not None
        kept = explain.without_frames(raised.value)
        assert kept.__traceback__ is None
        assert (type(kept), kept.args, kept.reason, kept.code) == (
            HandshakeRejected,
            explain.rejected(ADDRESS, 4).args,
            "overloaded",
            4,
        )


class TestReason:
    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (tls_error("TLSV1_ALERT_UNKNOWN_CA"), "unknown ca"),
            (tls_error(None), "tls error"),
            (tls_error(""), "tls error"),
            (OSError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
            (TimeoutError(), "TimeoutError"),
            (ConnectionResetError("said without a number"), "ConnectionResetError"),
        ],
    )
    def test_words(self, error: OSError, text: str) -> None:
        assert explain.reason(error) == text


class TestFaults:
    @pytest.mark.parametrize("code", list(FaultCode))
    def test_every_code_has_a_text(self, code: FaultCode) -> None:
        text = explain.FAULT_TEXTS[code]
        assert 0 < len(text.encode()) < MAX_FAULT_TEXT
        assert text.isascii()
        assert text.isprintable()

    def test_no_two_are_the_same(self) -> None:
        assert len(set(explain.FAULT_TEXTS.values())) == len(explain.FAULT_TEXTS) == len(FaultCode)


def test_nothing_of_the_peers_but_a_code(certificates: Certificates) -> None:
    """Only OpenSSL's reasons and the protocol's errors are passed on, and both are texts of this side."""
    chosen = "\x1b]0;chosen by the peer\x07"
    error = tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE")
    error.args = (1, chosen)
    closed = ConnectionClosed(chosen, code=0, last=0)
    texts = [
        explain.client_tls(error, ADDRESS, certificates),
        explain.server_tls(error, certificates),
        explain.missing_welcome(closed, ADDRESS, error, anonymous=False),
        explain.missing_welcome(closed, ADDRESS, None, anonymous=False),
        explain.missing_welcome(TruncatedFrame(chosen), ADDRESS, None, anonymous=False),
        explain.missing_welcome(DeadlineExceeded(chosen), ADDRESS, None, anonymous=False),
    ]
    assert not [text for text in map(str, texts) if "chosen" in text or not text.isprintable()]


def test_no_error_of_the_protocol_passes_for_a_welcome() -> None:
    error = RemoteProtocolError("CLOSE before WELCOME")
    explained = explain.missing_welcome(error, ADDRESS, None, anonymous=False)
    assert str(error) in str(explained)
    assert explained.__cause__ is error
