"""The terms that DTLS must agree to, against clients and servers that want other ones; in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from sealwire import ConfigurationError, Credentials, HandshakeFailed, Keyring, PeerNotAllowed, Security
from sealwire.dtls.association import Association
from sealwire.dtls.client_association import ClientAssociation
from sealwire.dtls.contexts import server_connection
from sealwire.dtls.cookies import CookieExchange
from sealwire.dtls.records import MTU, client_random
from sealwire.dtls.records import datagrams as in_datagrams
from sealwire.dtls.server_association import ServerAssociation
from sealwire.pki.authority import Issuer, create_ca
from sealwire.server_events import ServerEvents
from sealwire.session.buffers import Buffers
from sealwire.session.terms import check_server
from sealwire.trust.contexts import client_context, server_context
from sealwire.trust.identity import canonical_host
from sealwire.wire.keys import Key
from support.certificates import Files, Handshake, Made, make, make_ca, make_crl, raw_names
from support.sides import Side

HOME = ("192.0.2.2", 1234)
HELD = Buffers(1 << 30).open()
NO_EXTENDED_MASTER_SECRET = 1  # SSL_OP_NO_EXTENDED_MASTER_SECRET, which pyOpenSSL has no name for
KEYS = Keyring([Key("k1", b"k" * 32)])


@pytest.fixture(scope="module")
def ca() -> Issuer:
    return create_ca("CA")


def security(directory: Path, ca: Issuer, *names: str, crl: bool = False, **options: Any) -> Security:
    side = Side(directory / names[0], *names)
    side.leaf(ca, **options.pop("leaf", {}))
    side.trust(ca)
    if crl:
        side.revoke(options.pop("list_of", ca), *options.pop("revoked", ()))
    files = {part: side.path(part) for part in ("cert", "key", "ca", *(["crl"] if crl else []))}
    return Security(credentials=Credentials.from_files(**files), keys=KEYS, **options)


@pytest.fixture
def server(tmp_path: Path, ca: Issuer) -> Security:
    return security(tmp_path, ca, "server.example", peers=["dns:client.example"])


@pytest.fixture
def client(tmp_path: Path, ca: Issuer) -> Security:
    return security(tmp_path, ca, "client.example")


def converse(
    ours: Association | SSL.Connection,
    server: Security,
    *,
    until: Callable[[ServerAssociation], bool] = lambda _: False,
    said: list[bytes] | None = None,
) -> ServerAssociation:
    """Hand datagrams to and fro until nothing is said any more; raises what either side raises.

    ``until``: an earlier end. ``said``: collects all datagrams.
    """
    listener = CookieExchange(server)
    theirs: ServerAssociation | None = None
    received = sent = 0
    while datagrams := outgoing(ours):
        for datagram in datagrams:
            assert len(datagram) <= MTU
            received += len(datagram)
            if theirs is not None:
                theirs.datagram_received(datagram)
                if until(theirs):
                    return theirs
                continue
            taken = listener.listen(datagram, HOME)
            if isinstance(taken, list):
                answers = taken
                incoming(ours, taken)
                received = 0
            else:
                theirs = ServerAssociation(
                    server,
                    *taken,
                    address=HOME,
                    hello=datagram,
                    busy=lambda _: None,
                    establish=lambda _: True,
                    holding=HELD,
                    events=ServerEvents(),
                )
                theirs.begin()
        if theirs is not None:
            answers = theirs.datagrams_to_send()
            sent += sum(map(len, answers))
            assert sent <= 3 * received
            incoming(ours, answers)
        if said is not None:
            said += [*datagrams, *answers]
    assert theirs is not None
    return theirs


def outgoing(side: Association | SSL.Connection) -> list[bytes]:
    if isinstance(side, Association):
        return side.datagrams_to_send()
    with suppress(SSL.WantReadError):
        side.do_handshake()
    try:
        return list(in_datagrams(side.bio_read(65536)))
    except SSL.WantReadError:
        return []


def incoming(side: Association | SSL.Connection, said: list[bytes]) -> None:
    for datagram in said:
        if isinstance(side, Association):
            side.datagram_received(datagram)
        else:
            side.bio_write(datagram)


def associate(
    client: Security, server: Security, host: str = "server.example", said: list[bytes] | None = None
) -> ServerAssociation:
    ours = ClientAssociation(client, client.credentials.current, host=host, address=host)
    return converse(ours, server, said=said)


def stranger(
    client: Security,
    *,
    ciphers: bytes = b"ECDHE+AESGCM",
    alpn: bytes = b"",
    options: int = 0,
    certificate: x509.Certificate | None = None,
    key: Any = None,
) -> SSL.Connection:
    """A client that is not ours, with the certificate of ours unless it has one."""
    own = client.credentials.current
    context = SSL.Context(SSL.DTLS_METHOD)
    context.use_certificate(certificate or own.certificates[0])
    assert own.key is not None
    context.use_privatekey(key or cast(Any, load_pem_private_key(own.key, None)))
    context.set_cipher_list(ciphers)
    context.set_options(SSL.OP_NO_QUERY_MTU | options)
    if alpn:
        context.set_alpn_protos([alpn])
    connection = SSL.Connection(context, None)
    connection.set_ciphertext_mtu(MTU)
    connection.set_connect_state()
    return connection


def test_both_know_each_other(client: Security, server: Security) -> None:
    theirs = associate(client, server)
    assert theirs.open
    assert theirs.session.key_id == "k1"
    assert theirs.peer is not None
    assert theirs.peer.dns == ("client.example",)


OURS = b"sealwire/1"


def test_a_stranger_that_offers_what_is_asked(client: Security, server: Security) -> None:
    """So that what the next test leaves out is what it is refused for."""
    theirs = converse(stranger(client, alpn=OURS), server)
    assert theirs.peer is not None
    assert not theirs.ended


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"alpn": OURS, "options": NO_EXTENDED_MASTER_SECRET}, "extended master secret"),
        ({"alpn": b"sealwire/2"}, "the protocol sealwire/1"),
        ({}, "the protocol sealwire/1"),
        ({"alpn": OURS, "ciphers": b"ECDHE-ECDSA-AES256-SHA384"}, "no shared cipher"),
    ],
    ids=["no extended master secret", "another protocol", "no protocol", "no AEAD"],
)
def test_what_a_client_must_offer(client: Security, server: Security, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(HandshakeFailed, match=problem):
        converse(stranger(client, **options), server)


DSA_P = (
    "c70e0b66670a9ecf7c1fc419c787cb5988e7acf49336b5ee4a54fa14d455ce78c63a14c96426f2377b62ba1bf62f77063bfe"
    "32810d848ef702e2a4d2f4d2237199fe97b02cbc130b1e6ce46098c300d4d39944f9932bec4041d885fb1d1d63570c4ffffd"
    "7f648d165f47e9ab46284a875338a7803eed754e1a286795c840f333805cb3e62f9d991ed164ea606b39e7320cab06a3386b"
    "531565b414e3f05805109fcc2f55a8451310a7422d59cb573794c548bc937102a33cb9daec30945610a371921780ecb22c64"
    "984f7c1bdf693e4647f5a82ddd048a126a5890d2c3484289891dbb45b9f337d188a0bad50ce5ca54c0dba22bd63280862897"
    "5c742ec61db1"
)
DSA_Q = "ab28cfafe5f8d94f61933f2818a7f3aaacb22bdfc7b550bda2b97b307b63bcd3"
DSA_G = (
    "cc769017c08c31e72b59158163c61f1498e289fe67186e4b23f3949d4fbddc2941fe7ae4999b12dfe17630694ba6071f5d48"
    "52c97e4c23f3691c8a7e321cda2508a8f518ae0354519cadef79c3a9b81cfb1f126a2986881fa2e72c0009b7ad82753d94d1"
    "53c284de78c186bd14d68293f454dedf84b6ceae06c222b9baa5294ac8207a5699be2b0b4c2ce86855202b50c7157188dd63"
    "7d303127d5edcd1bbbe9113a7f83aab88cfad43fccc31911bcf60db9cd0bce428ba9ada691d19a725439b81a66aaf3f2d437"
    "8165fb46e335bcd2500652944f68e185180852fa5c443e8913265d72a73faa356e433918e6fd82f83a189ab25e9741e6719f"
    "88d448c8a4"
)


def test_no_renegotiation(client: Security, server: Security) -> None:
    """A client that asks for another handshake gets none, and what was agreed on stays."""
    ours = stranger(client, alpn=OURS)
    theirs = converse(ours, server)
    before = ours.get_finished()
    assert ours.renegotiate()

    def ask_again() -> None:
        for _ in range(5):
            for datagram in outgoing(ours):
                theirs.datagram_received(datagram)
            incoming(ours, theirs.datagrams_to_send())
            with suppress(SSL.WantReadError):
                ours.do_handshake()

    if SSL.OPENSSL_VERSION_NUMBER >= 0x4000_0000:
        with pytest.raises(SSL.Error, match="no renegotiation"):
            ask_again()
    else:
        with suppress(SSL.Error):  # 3.3 waits, without a word
            ask_again()
    assert ours.get_finished() == before


def test_no_session_is_resumed(client: Security, server: Security) -> None:
    """The server gives no ticket, and shows its certificate again to a client that asks to go on with a session."""
    certificate, ticket = 11, 4
    first = stranger(client, alpn=OURS)
    again = SSL.Connection(first.get_context(), None)
    again.set_ciphertext_mtu(MTU)
    again.set_connect_state()
    for ours in (first, again):
        said: list[bytes] = []
        converse(ours, server, said=said)
        session = first.get_session()
        assert session is not None
        again.set_session(session)
        records = [each[at:] for each in said for at in record_starts(each)]
        messages = {each[13] for each in records if each[0] == 22 and each[3:5] == b"\0\0"}
        assert certificate in messages
        assert ticket not in messages


def record_starts(datagram: bytes) -> Iterator[int]:
    """Yield the place of each record in a datagram (RFC 6347, section 4.1)."""
    at = 0
    while at < len(datagram):
        yield at
        at += 13 + int.from_bytes(datagram[at + 11 : at + 13], "big")


def test_dsa(tmp_path: Path, ca: Issuer, client: Security, server: Security) -> None:
    """TLS 1.3 has no DSA; OpenSSL would take it on DTLS 1.2."""
    parameters = dsa.DSAParameterNumbers(*(int(number, 16) for number in (DSA_P, DSA_Q, DSA_G)))
    key = parameters.parameters().generate_private_key()
    issuer = Made(ca.certificate, cast(Any, ca.private_key))
    certificate = make("client.example", issuer=issuer, key=cast(Any, key)).certificate
    with pytest.raises(HandshakeFailed, match="did not return a certificate"):
        converse(stranger(client, alpn=OURS, certificate=certificate, key=key), server)


def test_ed25519(tmp_path: Path, ca: Issuer, client: Security, caplog: pytest.LogCaptureFixture) -> None:
    """OpenSSL has no cipher suite of DTLS for a server with it, which is said when it is loaded; clients may use it."""
    issuer, own = Made(ca.certificate, cast(Any, ca.private_key)), cast(Any, ed25519.Ed25519PrivateKey)
    server = security(tmp_path, ca, "server.example", peers=["dns:client.example"])
    listener = CookieExchange(server)
    for name in ("server.example", "client.example"):
        made = make(name, issuer=issuer, key=own.generate())
        (tmp_path / name / "cert").write_bytes(made.pem)
        (tmp_path / name / "key").write_bytes(made.key_pem)
    assert server.reload()
    assert client.reload()
    ours = ClientAssociation(client, client.credentials.current, host="server.example", address="there")
    (hello,) = ours.datagrams_to_send()
    assert len(listener.listen(hello, HOME)) == 1
    assert "UDP clients are still shown the certificate before" in caplog.text
    with pytest.raises(ConfigurationError, match=r"server\.example/cert: a UDP server cannot use an Ed25519"):
        CookieExchange(server)
    assert associate(
        client, security(tmp_path, ca, "other.example", peers=["dns:client.example"]), "other.example"
    ).open


def test_no_trust_anchor_is_sent(tmp_path: Path) -> None:
    """A peer that needs one to be sent would trust any peer that sends one."""
    root = make_ca("root")
    issuing = make_ca("issuing", issuer=root)
    files = Files(tmp_path)
    peers = ["dns:server.example", "dns:client.example"]
    for issuer, chain in ((root, []), (issuing, [issuing]), (issuing, [issuing, root])):
        server, client = (
            Security(
                credentials=files.credentials(make(name, issuer=issuer), root, chain=chain), keys=KEYS, peers=peers
            )
            for name in ("server.example", "client.example")
        )
        said: list[bytes] = []
        assert associate(client, server, said=said).open
        assert sum(issuing.der[-32:] in each for each in said) == 2 * bool(chain)
        assert not any(root.der[-32:] in each or root.der[-64:-32] in each for each in said)


@pytest.mark.parametrize("uris", [10, 60, 150])
def test_a_large_certificate(tmp_path: Path, ca: Issuer, client: Security, uris: int) -> None:
    """A server sends three times what it has received at most, and ours sends what is lacking to that."""
    names = [f"https://server.example/{number:030}" for number in range(uris)]
    server = security(tmp_path, ca, "server.example", *names, peers=["dns:client.example"])
    assert associate(client, server).open


def test_a_wrong_welcome(client: Security, server: Security) -> None:
    """It fails as on TCP: its sender has the certificate, and not the key."""
    ours = ClientAssociation(client, client.credentials.current, host="server.example", address="there")
    theirs = converse(ours, server, until=lambda end: end.open)
    (welcome,) = theirs.protocol.frames_to_send()
    raw = b"".join(welcome)
    theirs.protocol.queued.append((raw[:-1] + bytes([raw[-1] ^ 1]),))
    with pytest.raises(HandshakeFailed, match="there did not prove that it holds this client's key"):
        incoming(ours, theirs.datagrams_to_send())
    assert ours.ended


def test_an_association_is_freed_when_it_ends(client: Security, server: Security) -> None:
    """At once, and not when garbage is collected: a flood would fill the memory until then."""
    gc.disable()
    try:
        ours = ClientAssociation(client, client.credentials.current, host="server.example", address="there")
        ends = [weakref.ref(ours), weakref.ref(converse(ours, server))]
        del ours
        assert [end() for end in ends] == [None, None]
    finally:
        gc.enable()


def test_another_addresss_cookie(client: Security, server: Security) -> None:
    listener = CookieExchange(server)
    ours = ClientAssociation(client, client.credentials.current, host="server.example", address="there")
    (first,) = ours.datagrams_to_send()
    asked = listener.listen(first, HOME)
    assert isinstance(asked, list)
    ours.datagram_received(asked[0])
    (second,) = ours.datagrams_to_send()
    assert client_random(first) == client_random(second) is not None
    for address in (("192.0.2.3", 1234), ("192.0.2.2", 1235)):
        assert isinstance(listener.listen(second, address), list)
    assert isinstance(CookieExchange(server).listen(second, HOME), list)  # of another process
    assert isinstance(listener.listen(second, HOME), tuple)


def test_a_listener_after_much_nonsense(client: Security, server: Security) -> None:
    listener = CookieExchange(server)
    (hello,) = ClientAssociation(
        client, client.credentials.current, host="server.example", address=""
    ).datagrams_to_send()
    for size in range(1, len(hello)):
        assert listener.listen(hello[:size], HOME) == []
    for place in range(len(hello)):
        taken = listener.listen(hello[:place] + bytes([hello[place] ^ 0xFF]) + hello[place + 1 :], HOME)
        assert isinstance(taken, list)
        assert sum(map(len, taken)) < len(hello)
    (answer,) = listener.listen(hello, HOME)
    assert isinstance(answer, bytes)


def test_revoked(tmp_path: Path, ca: Issuer, client: Security, server: Security) -> None:
    serial = client.credentials.current.certificates[0].serial_number
    strict = security(tmp_path, ca, "strict.example", crl=True, revoked=[serial], peers=["dns:client.example"])
    with pytest.raises(HandshakeFailed, match="certificate is not acceptable: certificate revoked"):
        associate(client, strict, "strict.example")
    serial = server.credentials.current.certificates[0].serial_number
    wary = security(tmp_path, ca, "wary.example", crl=True, revoked=[serial])
    with pytest.raises(HandshakeFailed, match=r"of server\.example is not acceptable: certificate revoked"):
        associate(wary, server)


def test_a_list_of_another_ca(tmp_path: Path, ca: Issuer, client: Security) -> None:
    options: Any = {"crl": True, "list_of": create_ca("other"), "peers": ["dns:client.example"]}
    with pytest.raises(HandshakeFailed, match="has no revocation list of the CA that issued it"):
        associate(client, security(tmp_path, ca, "strict.example", **options), "strict.example")


def test_one_rule_for_revocation_lists(tmp_path: Path) -> None:
    """TLS, DTLS and standing associations agree about each client: of several lists of a CA the newest decides."""
    root = make_ca("An Issuer")
    between, again = make_ca("between", issuer=root), make_ca("An Issuer")
    good, bad = (make("client.example", issuer=root, serial=serial) for serial in (1, 2))
    below, same = make("client.example", issuer=between), make("client.example", issuer=again, serial=2)
    files, everything = Files(tmp_path), make_crl(between) + make_crl(again)
    judged: list[tuple[bool, bool]] = []
    for lists, clients in (
        (make_crl(root, number=1) + make_crl(root, bad, number=2), (good, bad, below, same)),
        (make_crl(root, bad, number=2) + make_crl(root, number=1), (good, bad)),
        (make_crl(root, bad, number=2) + make_crl(root, good, number=3), (good, bad)),
        (make_crl(root, bad, name=x509.Name.from_rfc4514_string("CN=an  ISSUER")), (good, bad)),
        (make_crl(root) + make_crl(between, below, number=7), (below, good)),
    ):
        credentials = files.credentials(
            make("server.example", issuer=root), root, again, chain=[between], crl=everything + lists
        )
        server = Security(credentials=credentials, keys=KEYS, peers=["dns:client.example"])
        for own in clients:
            client = Security(credentials=files.credentials(own, root, again, chain=[between]), keys=KEYS)
            contexts = server_context(credentials.current), client_context(client.credentials.current)
            tls = bool(Handshake(*contexts).failures)
            with pytest.raises(HandshakeFailed, match="certificate revoked") if tls else nullcontext():
                associate(client, server)
            judged.append((tls, credentials.current.revocations.include(own.certificate)))
    assert judged == [(bool(each), bool(each)) for each in (0, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0)]


def test_another_ca(tmp_path: Path, ca: Issuer, client: Security, server: Security) -> None:
    other = create_ca("other")
    stranger = security(tmp_path, other, "client.other", peers=["dns:client.example"])
    # A server's side has its say first of the client's certificate, a client's of the server's.
    with pytest.raises(HandshakeFailed, match=r"certificate of server\.example is not acceptable: .* certificate"):
        associate(stranger, server)
    (tmp_path / "client.other" / "ca").write_bytes(other.cert_pem + ca.cert_pem)
    assert stranger.reload()
    with pytest.raises(HandshakeFailed, match=r"the client's certificate is not acceptable: .* certificate"):
        associate(stranger, server)


def test_names(tmp_path: Path, ca: Issuer, client: Security, server: Security) -> None:
    with pytest.raises(HandshakeFailed, match="hostname mismatch"):
        associate(client, server, "other.example")
    with pytest.raises(PeerNotAllowed):
        associate(security(tmp_path, ca, "c2.example", peers=["dns:elsewhere.example"]), server)
    with pytest.raises(Exception, match="not on the peer list"):
        associate(security(tmp_path, ca, "c3.example"), server)


@pytest.mark.parametrize("kind", [2, 7], ids=["DNS", "IP"])
def test_the_rule_for_host_names_is_that_of_tls(tmp_path: Path, kind: int) -> None:
    """OpenSSL compares names on TLS and cannot be asked to on DTLS; here both judge the same certificates."""
    files, authority = Files(tmp_path), make_ca()
    client = Security(credentials=files.credentials(make("client.example", issuer=authority), authority), keys=KEYS)
    names, hosts = (OWN, ASKED) if kind == 2 else (OWN_ADDRESSES, ASKED_ADDRESSES)
    for own in names:
        leaf = make(issuer=authority, raw_san=raw_names((kind, own)))
        credentials = files.credentials(leaf, authority)
        server = Security(credentials=credentials, keys=KEYS, peers=["dns:client.example"])
        contexts = server_context(credentials.current), client_context(client.credentials.current)
        for host in hosts:
            tls = not Handshake(*contexts, host=host).failures
            with nullcontext() if tls else pytest.raises(HandshakeFailed, match="hostname mismatch"):
                associate(client, server, canonical_host(host))


OWN = [
    b"a.b.example", b"A.B.Example", b"*.b.example", b"*.B.example", b"*.example", b"*", b"*.", b"a*.b.example",
    b"*a.b.example", b"a.*.example", b"*.*.example", b"*.b_b.example", b"*.-b.example", b"*.b-.example",
    b"*.b.example.", b"a.b.example.",
    b"*.xn--b-xga.example", b"xn--*.b.example", b"a_a.b.example", b"a.b.example\0.c", b".b.example",
    b"192.0.2.7",
]  # fmt: skip
ASKED = ["a.b.example", "b.example", "a_a.b.example", "xn--a-xga.b.example", "a.xn--b-xga.example", "a.b_b.example"]
OWN_ADDRESSES = [ip_address(each).packed for each in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7")]
ASKED_ADDRESSES = ["192.0.2.7", "192.0.2.8", "::ffff:192.0.2.7", "2001:db8::7", "a.b.example"]


def test_the_generation_in_service(tmp_path: Path, ca: Issuer, client: Security) -> None:
    """A server whose certificate is another one by now shows that, to a client that has answered a cookie before."""
    server = security(tmp_path, ca, "server.example", peers=["dns:client.example"])
    listener = CookieExchange(server)
    ours = ClientAssociation(client, client.credentials.current, host="server.example", address="there")
    asked = listener.listen(ours.datagrams_to_send()[0], HOME)
    assert isinstance(asked, list)
    ours.datagram_received(asked[0])
    side = Side.__new__(Side)
    side.directory, side.names = tmp_path / "server.example", ("server.example",)
    fingerprint = side.leaf(ca)
    assert server.reload()
    (hello,) = ours.datagrams_to_send()
    taken = listener.listen(hello, HOME)
    assert isinstance(taken, tuple)
    theirs = ServerAssociation(
        server,
        *taken,
        address=HOME,
        hello=hello,
        busy=lambda _: None,
        establish=lambda _: True,
        holding=HELD,
        events=ServerEvents(),
    )
    theirs.begin()
    for _ in range(3):
        incoming(ours, theirs.datagrams_to_send())
        incoming(theirs, ours.datagrams_to_send())
    assert theirs.open
    assert ours.peer is not None
    assert ours.peer.fingerprint == fingerprint


def test_no_certificate(tmp_path: Path, ca: Issuer, server: Security) -> None:
    (tmp_path / "ca").write_bytes(ca.cert_pem)
    nobody = Security(credentials=Credentials.from_files(ca=tmp_path / "ca"), keys=KEYS)
    with pytest.raises(HandshakeFailed, match="peer did not return a certificate"):
        associate(nobody, server)
    open_server = security(tmp_path, ca, "open.example", peers=["anonymous"])
    theirs = associate(nobody, open_server, "open.example")
    assert theirs.open
    assert theirs.peer is None


def test_a_server_needs_a_certificate(tmp_path: Path, ca: Issuer) -> None:
    (tmp_path / "ca").write_bytes(ca.cert_pem)
    nobody = Security(credentials=Credentials.from_files(ca=tmp_path / "ca"), keys=KEYS, peers=["anonymous"])
    with pytest.raises(ConfigurationError, match="a server needs a certificate"):
        check_server(nobody)
    assert server_connection(nobody, nobody.credentials.current)
