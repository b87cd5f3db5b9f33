"""What DTLS must agree to, against clients and servers that want something else; in memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from sealwire import ConfigurationError, Credentials, HandshakeFailed, Keyring, PeerNotAllowed, Security
from sealwire.dtls.association import Association, ClientAssociation, ServerAssociation
from sealwire.dtls.contexts import server_connection
from sealwire.dtls.listener import Listener
from sealwire.dtls.records import MTU, client_random, datagrams
from sealwire.tls.issue import Issuer, create_ca
from sealwire.wire.keys import Key
from support.sides import Side

HOME = ("192.0.2.2", 1234)
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


def converse(ours: Association | SSL.Connection, server: Security) -> ServerAssociation:
    """Hand datagrams to and fro until nothing is said any more; raises what either side raises."""
    listener = Listener(server)
    theirs: ServerAssociation | None = None
    while said := outgoing(ours):
        for datagram in said:
            assert len(datagram) <= MTU
            if theirs is not None:
                theirs.datagram_received(datagram)
                continue
            taken = listener.listen(datagram, HOME)
            if isinstance(taken, list):
                incoming(ours, taken)
            else:
                theirs = ServerAssociation(server, *taken, address=HOME, random=b"", busy=lambda: None)
                theirs.begin()
        if theirs is not None:
            incoming(ours, theirs.datagrams_to_send())
    assert theirs is not None
    return theirs


def outgoing(side: Association | SSL.Connection) -> list[bytes]:
    if isinstance(side, Association):
        return side.datagrams_to_send()
    with suppress(SSL.WantReadError):
        side.do_handshake()
    try:
        return list(datagrams(side.bio_read(65536)))
    except SSL.WantReadError:
        return []


def incoming(side: Association | SSL.Connection, said: list[bytes]) -> None:
    for datagram in said:
        if isinstance(side, Association):
            side.datagram_received(datagram)
        else:
            side.bio_write(datagram)


def associate(client: Security, server: Security, host: str = "server.example") -> ServerAssociation:
    return converse(ClientAssociation(client, client.present(), host=host, where=host), server)


def stranger(
    client: Security, *, ciphers: bytes = b"ECDHE+AESGCM", alpn: bytes = b"", options: int = 0
) -> SSL.Connection:
    """A client that is not ours, and has the certificate of ours."""
    own = client.present()
    context = SSL.Context(SSL.DTLS_METHOD)
    context.use_certificate(own.certificates[0])
    assert own.key is not None
    context.use_privatekey(cast(Any, load_pem_private_key(own.key, None)))
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
    assert theirs.key_id == "k1"
    assert theirs.peer is not None
    assert theirs.peer.dns == ("client.example",)


OURS = b"sealwire/1"


def test_a_stranger_who_offers_what_is_asked(client: Security, server: Security) -> None:
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


def test_another_addresss_cookie(client: Security, server: Security) -> None:
    listener = Listener(server)
    ours = ClientAssociation(client, client.present(), host="server.example", where="there")
    (first,) = ours.datagrams_to_send()
    asked = listener.listen(first, HOME)
    assert isinstance(asked, list)
    ours.datagram_received(asked[0])
    (second,) = ours.datagrams_to_send()
    assert client_random(first) == client_random(second) is not None
    for address in (("192.0.2.3", 1234), ("192.0.2.2", 1235)):
        assert isinstance(listener.listen(second, address), list)
    assert isinstance(Listener(server).listen(second, HOME), list)  # of another process
    assert isinstance(listener.listen(second, HOME), tuple)


def test_a_listener_after_much_nonsense(client: Security, server: Security) -> None:
    listener = Listener(server)
    (hello,) = ClientAssociation(client, client.present(), host="server.example", where="").datagrams_to_send()
    for size in range(1, len(hello)):
        assert listener.listen(hello[:size], HOME) == []
    for place in range(len(hello)):
        taken = listener.listen(hello[:place] + bytes([hello[place] ^ 0xFF]) + hello[place + 1 :], HOME)
        assert isinstance(taken, list)
        assert sum(map(len, taken)) < len(hello)
    (answer,) = listener.listen(hello, HOME)
    assert isinstance(answer, bytes)


def test_revoked(tmp_path: Path, ca: Issuer, client: Security, server: Security) -> None:
    serial = client.present().certificates[0].serial_number
    strict = security(tmp_path, ca, "strict.example", crl=True, revoked=[serial], peers=["dns:client.example"])
    with pytest.raises(HandshakeFailed, match="certificate is not acceptable: certificate revoked"):
        associate(client, strict, "strict.example")
    serial = server.present().certificates[0].serial_number
    wary = security(tmp_path, ca, "wary.example", crl=True, revoked=[serial])
    with pytest.raises(HandshakeFailed, match=r"of server\.example is not acceptable: certificate revoked"):
        associate(wary, server)


def test_a_list_of_another_ca(tmp_path: Path, ca: Issuer, client: Security) -> None:
    options: Any = {"crl": True, "list_of": create_ca("other"), "peers": ["dns:client.example"]}
    with pytest.raises(HandshakeFailed, match="has no revocation list of the CA that issued it"):
        associate(client, security(tmp_path, ca, "strict.example", **options), "strict.example")


def test_another_ca(tmp_path: Path, ca: Issuer, client: Security, server: Security) -> None:
    other = create_ca("other")
    stranger = security(tmp_path, other, "client.other", peers=["dns:client.example"])
    # A server's side has its say first of the client's certificate, a client's of the server's.
    with pytest.raises(HandshakeFailed, match=r"certificate of server\.example is not acceptable: .* certificate"):
        associate(stranger, server)
    (tmp_path / "client.other" / "ca").write_bytes(ca.cert_pem)
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


def test_the_generation_in_service(tmp_path: Path, ca: Issuer, client: Security) -> None:
    """A server whose certificate is another one by now shows that, to a client that has answered a cookie before."""
    server = security(tmp_path, ca, "server.example", peers=["dns:client.example"])
    listener = Listener(server)
    ours = ClientAssociation(client, client.present(), host="server.example", where="there")
    asked = listener.listen(ours.datagrams_to_send()[0], HOME)
    assert isinstance(asked, list)
    ours.datagram_received(asked[0])
    side = Side.__new__(Side)
    side.directory, side.names = tmp_path / "server.example", ("server.example",)
    fingerprint = side.leaf(ca)
    assert server.reload()
    taken = listener.listen(ours.datagrams_to_send()[0], HOME)
    assert isinstance(taken, tuple)
    theirs = ServerAssociation(server, *taken, address=HOME, random=b"", busy=lambda: None)
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
        nobody.check_server()
    assert server_connection(nobody, nobody.present())
