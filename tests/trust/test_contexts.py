from __future__ import annotations

import os
import socket
import ssl
import tempfile
import types
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sealwire.errors import ConfigurationError
from sealwire.trust import contexts
from sealwire.trust.certificates import Certificates
from sealwire.trust.contexts import ALPN, client_context, server_context, verification_problem
from support.certificates import CLIENT, DAY, HOST, SERVER, Files, Handshake, Made, make, make_ca, make_crl, version_1

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def leaf(ca: Made) -> Made:
    return make(HOST, issuer=ca, uses=[SERVER])


@pytest.fixture(scope="module")
def client_leaf(ca: Made) -> Made:
    return make("client.example", issuer=ca, uses=[CLIENT])


@pytest.fixture
def server(files: Files, ca: Made, leaf: Made) -> Certificates:
    return files.loaded(leaf, ca)


@pytest.fixture
def client(files: Files, ca: Made, client_leaf: Made) -> Certificates:
    return files.loaded(client_leaf, ca)


def foreign_client(files: Files, own: Made | None, *, anchor: Made) -> ssl.SSLContext:
    """A client that checks nothing of ours beforehand: what an attacker, or a careless program, would come with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=anchor.pem.decode())
    context.set_alpn_protocols([ALPN])
    if own is not None:
        context.load_cert_chain(files.write(own.pem), files.write(own.key_pem))
    return context


def foreign_server(files: Files, own: Made, *chain: Made) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols([ALPN])
    pem = own.pem + b"".join(each.pem for each in chain)
    context.load_cert_chain(files.write(pem), files.write(own.key_pem))
    return context


class TestAgreement:
    def test_tls_13_mutual_with_our_protocol(self, server: Certificates, client: Certificates) -> None:
        pair = Handshake(server_context(server), client_context(client))
        assert not pair.failures
        for end in (pair.server, pair.client):
            assert end.version() == "TLSv1.3"
            assert end.selected_alpn_protocol() == ALPN
            assert end.compression() is None
        assert pair.server.getpeercert(binary_form=True) == client.leaf
        assert pair.client.getpeercert(binary_form=True) == server.leaf

    @pytest.mark.parametrize("others", [["h2"], ["sealwire/2", "SEALWIRE/1", "sealwire/1 "], None])
    def test_another_protocol_is_not_agreed_to(
        self, files: Files, server: Certificates, client_leaf: Made, ca: Made, others: list[str] | None
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=ca.pem.decode())
        context.load_cert_chain(files.write(client_leaf.pem), files.write(client_leaf.key_pem))
        if others is not None:
            context.set_alpn_protocols(others)
        pair = Handshake(server_context(server), context)
        # Whoever uses the contexts looks; see the channel.
        assert pair.server.selected_alpn_protocol() is None

    def test_tls_12_clients_are_refused(self, files: Files, server: Certificates, client_leaf: Made, ca: Made) -> None:
        context = foreign_client(files, client_leaf, anchor=ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        pair = Handshake(server_context(server), context)
        assert pair.problem("server") == "UNSUPPORTED_PROTOCOL"

    def test_tls_12_servers_are_refused(self, files: Files, client: Certificates, leaf: Made) -> None:
        context = foreign_server(files, leaf)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        pair = Handshake(context, client_context(client))
        assert pair.problem("client") == "TLSV1_ALERT_PROTOCOL_VERSION"

    @pytest.mark.parametrize("curve", ["prime256v1", "secp384r1", "secp521r1", "X448"])
    def test_one_group(
        self,
        files: Files,
        server: Certificates,
        client: Certificates,
        leaf: Made,
        client_leaf: Made,
        ca: Made,
        curve: str,
    ) -> None:
        theirs = foreign_client(files, client_leaf, anchor=ca)
        theirs.set_ecdh_curve(curve)
        assert Handshake(server_context(server), theirs).problem("server") == "NO_SUITABLE_KEY_SHARE"
        other = foreign_server(files, leaf)
        other.set_ecdh_curve(curve)
        assert "client" in Handshake(other, client_context(client)).failures

    def test_options_are_the_defaults_and_more(self, server: Certificates, client: Certificates) -> None:
        for protocol, context in (
            (ssl.PROTOCOL_TLS_SERVER, server_context(server)), (ssl.PROTOCOL_TLS_CLIENT, client_context(client)),
        ):  # fmt: skip
            more = ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
            assert context.options == (ssl.SSLContext(protocol).options | more) & ~ssl.OP_IGNORE_UNEXPECTED_EOF

    def test_lists_are_applied_beside_all_that_openssl_verifies_by_default(
        self, files: Files, leaf: Made, ca: Made
    ) -> None:
        default = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).verify_flags
        for crl, more in ((None, ssl.VerifyFlags(0)), (make_crl(ca), ssl.VERIFY_CRL_CHECK_LEAF)):
            assert server_context(files.loaded(leaf, ca, crl=crl)).verify_flags == default | more

    def test_a_python_that_cannot_choose_a_group(
        self, monkeypatch: pytest.MonkeyPatch, server: Certificates, client: Certificates
    ) -> None:
        class Old(ssl.SSLContext):
            def set_ecdh_curve(self, name: str, /) -> None:
                raise ssl.SSLError("unknown group")

        module = types.SimpleNamespace(**vars(ssl))
        module.SSLContext = Old
        monkeypatch.setattr(contexts, "ssl", module)
        assert not Handshake(server_context(server), client_context(client)).failures

    def test_no_authentication_after_the_handshake(self, server: Certificates, client: Certificates) -> None:
        assert not server_context(server).post_handshake_auth
        assert not client_context(client).post_handshake_auth

    def test_the_environment_has_no_say(
        self,
        monkeypatch: pytest.MonkeyPatch,
        files: Files,
        server: Certificates,
        client: Certificates,
        tmp_path: Path,
    ) -> None:
        evil = make_ca("evil")
        monkeypatch.setenv("SSL_CERT_FILE", str(files.write(evil.pem)))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keylog"))
        for context in (server_context(server), client_context(client)):
            assert context.keylog_filename is None
            assert len(context.get_ca_certs()) == 1
        pair = Handshake(foreign_server(files, make(HOST, issuer=evil)), client_context(client))
        assert "client" in pair.failures
        assert not (tmp_path / "keylog").exists()


class TestClientCertificates:
    """The server's judgement of them."""

    def problem(self, files: Files, server: Certificates, own: Made | None, ca: Made) -> str:
        return Handshake(server_context(server), foreign_client(files, own, anchor=ca)).problem("server")

    def test_none(self, files: Files, server: Certificates, ca: Made) -> None:
        assert self.problem(files, server, None, ca) == "PEER_DID_NOT_RETURN_A_CERTIFICATE"

    def test_of_another_ca(self, files: Files, server: Certificates, ca: Made) -> None:
        own = make("client.example", issuer=make_ca("other"))
        assert self.problem(files, server, own, ca) == "unable to get local issuer certificate"

    def test_of_a_ca_of_the_same_name(self, files: Files, server: Certificates, ca: Made) -> None:
        own = make("client.example", issuer=make_ca("CA"))
        assert "server" in Handshake(server_context(server), foreign_client(files, own, anchor=ca)).failures

    def test_self_signed(self, files: Files, server: Certificates, ca: Made) -> None:
        assert self.problem(files, server, make("client.example"), ca) == "self-signed certificate"

    def test_expired(self, files: Files, server: Certificates, ca: Made) -> None:
        own = make("client.example", issuer=ca, start=-2 * DAY, end=-HOUR)
        assert self.problem(files, server, own, ca) == "certificate has expired"

    def test_not_yet_valid(self, files: Files, server: Certificates, ca: Made) -> None:
        own = make("client.example", issuer=ca, start=HOUR)
        assert self.problem(files, server, own, ca) == "certificate is not yet valid"

    def test_for_servers_only(self, files: Files, server: Certificates, leaf: Made, ca: Made) -> None:
        assert self.problem(files, server, leaf, ca) == "unsuitable certificate purpose"

    def test_issued_by_a_leaf(self, files: Files, server: Certificates, client_leaf: Made, ca: Made) -> None:
        own = make("admin.example", issuer=client_leaf)
        theirs = foreign_client(files, None, anchor=ca)
        theirs.load_cert_chain(files.write(own.pem + client_leaf.pem), files.write(own.key_pem))
        assert "CA" in Handshake(server_context(server), theirs).problem("server")

    def test_version_1_intermediate(self, files: Files, server: Certificates, ca: Made) -> None:
        between = version_1(ca)
        own = make("admin.example", issuer=between)
        theirs = foreign_client(files, None, anchor=ca)
        theirs.load_cert_chain(files.write(own.pem + between.pem), files.write(own.key_pem))
        assert "server" in Handshake(server_context(server), theirs).failures

    def test_huge(self, files: Files, server: Certificates, ca: Made) -> None:
        own = make(*(f"{number}.client.example" for number in range(6000)), issuer=ca)
        assert len(own.der) > 100_000
        assert self.problem(files, server, own, ca) == "EXCESSIVE_MESSAGE_SIZE"

    def test_anonymous_asks_all_the_same(
        self, files: Files, server: Certificates, client: Certificates, ca: Made
    ) -> None:
        context = server_context(server, anonymous=True)
        without = Handshake(context, client_context(files.loaded(None, ca)))
        assert not without.failures
        assert without.server.getpeercert(binary_form=True) is None
        assert Handshake(context, client_context(client)).server.getpeercert(binary_form=True) == client.leaf

    def test_anonymous_takes_no_bad_certificate_for_none(self, files: Files, server: Certificates, ca: Made) -> None:
        context = server_context(server, anonymous=True)
        for own in (make("a.example"), make("a.example", issuer=ca, start=-2 * DAY, end=-HOUR)):
            assert "server" in Handshake(context, foreign_client(files, own, anchor=ca)).failures


class TestServerCertificates:
    """The client's judgement of them."""

    def problem(self, files: Files, client: Certificates, own: Made, *chain: Made, host: str = HOST) -> str:
        return Handshake(foreign_server(files, own, *chain), client_context(client), host=host).problem("client")

    def test_of_another_ca(self, files: Files, client: Certificates) -> None:
        own = make(HOST, issuer=make_ca("other"))
        assert self.problem(files, client, own) == "unable to get local issuer certificate"

    def test_expired(self, files: Files, client: Certificates, ca: Made) -> None:
        own = make(HOST, issuer=ca, start=-2 * DAY, end=-HOUR)
        assert self.problem(files, client, own) == "certificate has expired"

    def test_not_yet_valid(self, files: Files, client: Certificates, ca: Made) -> None:
        assert self.problem(files, client, make(HOST, issuer=ca, start=HOUR)) == "certificate is not yet valid"

    def test_for_clients_only(self, files: Files, client: Certificates, ca: Made) -> None:
        assert self.problem(files, client, make(HOST, issuer=ca, uses=[CLIENT])) == "unsuitable certificate purpose"

    @pytest.mark.parametrize(
        "name", ["other.example", f"{HOST}.evil", f"x{HOST}", "*.example.evil", "*", "s*.example.x"]
    )
    def test_of_another_host(self, files: Files, client: Certificates, ca: Made, name: str) -> None:
        assert "Hostname mismatch" in self.problem(files, client, make(name, issuer=ca))

    def test_of_another_address(self, files: Files, client: Certificates, ca: Made) -> None:
        assert "IP address mismatch" in self.problem(files, client, make(HOST, issuer=ca), host="192.0.2.7")

    def test_the_common_name_is_not_a_host_name(self, files: Files, client: Certificates, ca: Made) -> None:
        own = make(common_name=HOST, issuer=ca)
        assert "Hostname mismatch" in self.problem(files, client, own)

    def test_without_check_of_the_host_the_chain_still_counts(
        self, files: Files, client: Certificates, ca: Made
    ) -> None:
        context = client_context(client, check_hostname=False)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert not Handshake(foreign_server(files, make("other.example", issuer=ca)), context).failures
        assert "client" in Handshake(foreign_server(files, make("other.example")), context).failures

    def test_without_a_host_there_is_no_connection(self, client: Certificates) -> None:
        one, two = socket.socketpair()
        with one, two, pytest.raises(ValueError, match="requires server_hostname"):
            client_context(client).wrap_socket(one)

    def test_weak_keys_are_refused(self, files: Files, client: Certificates, ca: Made) -> None:
        own = make(HOST, issuer=ca, key=rsa.generate_private_key(65537, 1024))
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.set_ciphers("DEFAULT@SECLEVEL=0")
        theirs.load_cert_chain(files.write(own.pem), files.write(own.key_pem))
        assert Handshake(theirs, client_context(client)).problem("client") == "EE certificate key too weak"


class TestChains:
    def test_intermediate(self, files: Files, server: Certificates, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        client = files.loaded(make("client.example", issuer=between), ca, chain=[between])
        assert not Handshake(server_context(server), client_context(client)).failures

    def test_missing_intermediate(self, files: Files, server: Certificates, ca: Made) -> None:
        client = files.loaded(make("client.example", issuer=make_ca("between", issuer=ca)), ca)
        pair = Handshake(server_context(server), client_context(client))
        assert pair.problem("server") == "unable to get local issuer certificate"

    def test_expired_intermediate(self, files: Files, server: Certificates, ca: Made) -> None:
        between = make_ca("between", issuer=ca, start=-2 * DAY, end=-HOUR)
        client = files.loaded(make("client.example", issuer=between), ca, chain=[between])
        assert Handshake(server_context(server), client_context(client)).problem("server") == "certificate has expired"

    def test_names_outside_an_intermediates_constraints(self, files: Files, server: Certificates, ca: Made) -> None:
        constraints = x509.NameConstraints([x509.DNSName("b.example")], None)
        between = make_ca("between", issuer=ca, extensions=[constraints])
        for name, problem in (("a.b.example", None), ("a.example", "permitted subtree violation")):
            client = files.loaded(make(name, issuer=between), ca, chain=[between])
            pair = Handshake(server_context(server), client_context(client))
            assert (pair.problem("server") if pair.failures else None) == problem

    def test_an_intermediate_is_not_an_anchor(self, files: Files, leaf: Made, ca: Made) -> None:
        other = make_ca("other")
        between = make_ca("between", issuer=other)
        client = files.loaded(make("client.example", issuer=between), ca)
        server = files.loaded(leaf, between, ca)
        assert "server" in Handshake(server_context(server), client_context(client)).failures

    def test_several_anchors(self, files: Files, leaf: Made, ca: Made) -> None:
        other = make_ca("other")
        context = server_context(files.loaded(leaf, ca, other, ca))
        for issuer in (ca, other):
            own = files.loaded(make("client.example", issuer=issuer), ca)
            assert not Handshake(context, client_context(own)).failures

    def test_the_ends_may_have_different_anchors(self, files: Files, leaf: Made, ca: Made) -> None:
        other = make_ca("other")
        server = files.loaded(leaf, other)
        client = files.loaded(make("client.example", issuer=other), ca)
        assert not Handshake(server_context(server), client_context(client)).failures


class TestRevocation:
    def outcome(self, files: Files, leaf: Made, ca: Made, crl: bytes, own: Made) -> str | None:
        server = files.loaded(leaf, ca, crl=crl)
        pair = Handshake(server_context(server), foreign_client(files, own, anchor=ca))
        return pair.problem("server") if pair.failures else None

    def test_revoked_client(self, files: Files, leaf: Made, client_leaf: Made, ca: Made) -> None:
        assert self.outcome(files, leaf, ca, make_crl(ca, client_leaf), client_leaf) == "certificate revoked"

    def test_others_come_in(self, files: Files, leaf: Made, client_leaf: Made, ca: Made) -> None:
        assert self.outcome(files, leaf, ca, make_crl(ca, leaf), client_leaf) is None

    def test_revoked_server(self, files: Files, server: Certificates, leaf: Made, client_leaf: Made, ca: Made) -> None:
        client = files.loaded(client_leaf, ca, crl=make_crl(ca, leaf))
        pair = Handshake(server_context(server), client_context(client))
        assert pair.problem("client") == "certificate revoked"

    def test_no_list_of_this_ca(self, files: Files, leaf: Made, client_leaf: Made, ca: Made) -> None:
        crl = make_crl(make_ca("other"))
        assert self.outcome(files, leaf, ca, crl, client_leaf) == "unable to get certificate CRL"

    def test_forged_list(self, files: Files, leaf: Made, client_leaf: Made, ca: Made) -> None:
        with pytest.raises(ConfigurationError, match="is not signed with that CA's key"):
            self.outcome(files, leaf, ca, make_crl(make_ca("CA")), client_leaf)

    def test_a_list_of_an_intermediate(self, files: Files, leaf: Made, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        own = make("client.example", issuer=between)
        for revoked, problem in (([own], "certificate revoked"), ([], None)):
            server = files.loaded(leaf, ca, crl=make_crl(between, *revoked) + make_crl(ca))
            client = files.loaded(own, ca, chain=[between])
            pair = Handshake(server_context(server), client_context(client))
            assert (pair.problem("server") if pair.failures else None) == problem

    def test_a_certificate_beside_the_list_vouches_for_nobody(self, files: Files, leaf: Made, ca: Made) -> None:
        evil = make_ca("evil")
        crl = evil.pem + make_crl(ca) + make_crl(evil)
        own = make("admin.example", issuer=evil)
        assert self.outcome(files, leaf, ca, crl, own) == "unable to get local issuer certificate"


class TestProblems:
    """What a failed verification means, in words of ours if the files of this end may be the cause."""

    @pytest.mark.parametrize(
        ("code", "explained"),
        [
            (3, "words: crl.pem has no revocation list of the CA that issued it"),
            (8, "words: crl.pem is not signed by the CA that it names"),
            (10, "words"),
            (11, "words: crl.pem is not valid yet"),
            (12, "words: crl.pem is out of date"),
            (18, "words: it was issued by itself and not by a CA, and is not in ca.pem either"),
            (19, "words: ca.pem does not have that CA"),
            (20, "words: ca.pem does not have the CA that issued it"),
            (21, "words: ca.pem does not have the CA that issued it"),
            (26, "words: its extended key usage must have serverAuth for a server"),
        ],
    )
    @pytest.mark.parametrize("words", ["words", "words."])
    def test_a_code_of_openssl(self, ca: Made, code: int, explained: str, words: str) -> None:
        contents = {"ca": ca.pem, "crl": make_crl(ca)}
        credentials = Certificates.parse(contents, {part: f"{part}.pem" for part in contents}, None)
        found = verification_problem(code, words, credentials)
        assert found.startswith(explained)
        assert code != 10 or found == explained

    def test_without_a_file_of_lists(self, client: Certificates) -> None:
        assert verification_problem(20, "words", client).startswith(f"words: {client.paths['ca']} does not have")


class TestResumption:
    @pytest.mark.parametrize("ours", [True, False])
    def test_no_session_is_ever_resumed(
        self, files: Files, server: Certificates, client: Certificates, client_leaf: Made, ca: Made, ours: bool
    ) -> None:
        theirs = client_context(client) if ours else foreign_client(files, client_leaf, anchor=ca)
        context = server_context(server)
        first = Handshake(context, theirs)
        session = first.client.session
        assert session is None or not session.has_ticket
        second = Handshake(context, theirs, session=session)
        assert not second.failures
        assert not second.client.session_reused
        assert not second.server.session_reused

    def test_server_sends_no_tickets(self, server: Certificates, client: Certificates) -> None:
        context = server_context(server)
        assert context.num_tickets == 0
        assert context.session_stats()["number"] == 0


class TestTruncation:
    @pytest.mark.parametrize("reader", ["server", "client"])
    def test_a_cut_is_not_an_end(self, server: Certificates, client: Certificates, reader: str) -> None:
        pair = Handshake(server_context(server), client_context(client))
        end, incoming = (pair.server, pair.to_server) if reader == "server" else (pair.client, pair.to_client)
        incoming.write_eof()
        with pytest.raises(ssl.SSLError, match="EOF"):
            end.read(1)

    @pytest.mark.parametrize("reader", ["server", "client"])
    def test_close_notify_is_one(self, server: Certificates, client: Certificates, reader: str) -> None:
        pair = Handshake(server_context(server), client_context(client))
        end, other = (pair.server, pair.client) if reader == "server" else (pair.client, pair.server)
        with pytest.raises(ssl.SSLWantReadError):
            other.unwrap()
        assert end.read(1) == b""

    def test_whatever_python_or_the_system_set_before(
        self, monkeypatch: pytest.MonkeyPatch, server: Certificates, client: Certificates
    ) -> None:
        def lenient(protocol: int) -> ssl.SSLContext:
            context = real(protocol)
            context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
            return context

        real = ssl.SSLContext
        module = types.SimpleNamespace(**vars(ssl))
        module.SSLContext = lenient
        monkeypatch.setattr(contexts, "ssl", module)
        for context in (server_context(server), client_context(client)):
            assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF

    def test_over_sockets(self, server: Certificates, client: Certificates) -> None:
        one, two = socket.socketpair()
        ours = server_context(server).wrap_socket(
            one, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        theirs = client_context(client).wrap_socket(two, server_hostname=HOST, do_handshake_on_connect=False)
        with ours, theirs:
            waiting = [ours, theirs]
            for end in waiting:
                end.setblocking(False)
            for _ in range(10):
                for end in list(waiting):
                    try:
                        end.do_handshake()
                    except ssl.SSLWantReadError:
                        continue
                    waiting.remove(end)
            assert not waiting
            theirs.close()
            with pytest.raises(ssl.SSLError, match="EOF"):
                ours.recv(1)


class TestMaking:
    def test_a_server_needs_a_certificate(self, files: Files, ca: Made) -> None:
        with pytest.raises(ConfigurationError, match="a server needs a certificate"):
            server_context(files.loaded(None, ca))

    def test_what_openssl_does_not_take(self, files: Files, ca: Made) -> None:
        weak = make(HOST, issuer=ca, key=rsa.generate_private_key(65537, 1024))
        with pytest.raises(ConfigurationError, match="EE_KEY_TOO_SMALL"):
            server_context(files.loaded(weak, ca))

    def test_uses_what_was_proved_and_not_the_files(
        self, files: Files, ca: Made, leaf: Made, client: Certificates
    ) -> None:
        server = files.loaded(leaf, ca)
        for path in files.directory.iterdir():
            path.unlink()
        assert not Handshake(server_context(server), client_context(client)).failures

    def test_no_key_is_written_to_a_disk(self, monkeypatch: pytest.MonkeyPatch, server: Certificates) -> None:
        monkeypatch.setattr(tempfile, "NamedTemporaryFile", lambda **_: pytest.fail("a file was written"))
        server_context(server)

    def test_leaves_no_descriptor_open(self, server: Certificates) -> None:
        before = set(os.listdir("/proc/self/fd"))
        server_context(server)
        with pytest.raises(ConfigurationError):
            server_context(replace(server, key=make().key_pem))
        assert set(os.listdir("/proc/self/fd")) == before

    def test_without_files_in_memory(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Certificates, client: Certificates
    ) -> None:
        monkeypatch.delattr(os, "memfd_create")
        directory = tmp_path / "temporary"
        directory.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(directory))
        seen: list[int] = []
        make_file = tempfile.NamedTemporaryFile

        def watched(**options: str) -> object:
            file = make_file(**options)
            seen.append(os.fstat(file.fileno()).st_mode & 0o777)
            return file

        monkeypatch.setattr(tempfile, "NamedTemporaryFile", watched)
        assert not Handshake(server_context(server), client_context(client)).failures
        assert seen == [0o600] * 4
        assert list(directory.iterdir()) == []
