"""Arguments that cannot work: every server and client says so in an error of its own, never in one of Python's."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import sealwire
from pickling import shop
from sealwire import ConfigurationError, SealwireError, Security, TransportError, dtls, nats
from sealwire.pki.files import PRIVATE, NewFile, write_files
from sealwire.testing import Throwaway
from support.certificates import make, make_ca
from support.service import Deployment, running

pytestmark = pytest.mark.usefixtures("clean")

HOST_SERVERS = ["TCPServer", "ForkingTCPServer", "PreforkTCPServer", "AsyncTCPServer", "UDPServer"]
PATH_SERVERS = ["UnixStreamServer", "AsyncUnixServer"]
HOST_CLIENTS = ["SynchronousTCPClient", "AsyncTCPClient", "SynchronousUDPClient", "AsyncUDPClient"]
PATH_CLIENTS = ["SynchronousUnixClient", "AsyncUnixClient"]

PORTS = [True, "7443", 70000, 65536, -1, 1.5, None]
NAMES = [None, 5, b"localhost", "a\0b", "x" * 70 + ".example", "a..b", "x" * 300, "\ud800"]
UNKNOWN = ["fe80::1%nosuch", "host name", "999.1.1.1"]
PATHS = ["", "/tmp/a\0b", None, 5, "/tmp/\ud800"]
MISSING = ["/nonexistent/directory/socket", "/etc/passwd/socket", "/tmp/" + "x" * 110]


def made(name: str, *arguments: Any, **options: Any) -> Any:
    return getattr(dtls if "UDP" in name else sealwire, name)(*arguments, **options)


@pytest.fixture
def serve(deployment: Deployment) -> Callable[..., None]:
    """Make a server that must not come about."""

    def serve(name: str, address: Any, **options: Any) -> None:
        peers = ["dns:client.example", f"uid:{os.getuid()}"]
        made(name, address, len, deployment.security("server", peers=peers, service="orders"), **options)

    return serve


@pytest.fixture
def request_one(deployment: Deployment) -> Callable[..., None]:
    """Make a client and send a request with it."""

    def request_one(name: str, *address: Any) -> None:
        peers = ["dns:localhost", f"uid:{os.getuid()}"]
        security = deployment.security("client", peers=peers, service="orders")
        client = made(name, *address, 0.2, 0.2, security=security)

        async def on_a_loop() -> None:
            async with client:
                await client.send_request(1)

        if name.startswith("Async"):
            asyncio.run(on_a_loop())
        else:
            with client:
                client.send_request(1)

    return request_one


@pytest.mark.parametrize("name", HOST_SERVERS)
def test_address_of_a_server(serve: Callable[..., None], name: str) -> None:
    for port in PORTS:
        with pytest.raises(ConfigurationError, match="port must be a whole number from 0 to 65535"):
            serve(name, ("127.0.0.1", port))
    for host in NAMES:
        with pytest.raises(ConfigurationError, match="host to listen on"):
            serve(name, (host, 0))
    for host in UNKNOWN:
        with pytest.raises(TransportError, match=r"cannot listen on .*; the host must be an address of this machine"):
            serve(name, (host, 0))
    for address in ("127.0.0.1:7443", None, ("127.0.0.1",), 5):
        with pytest.raises(ConfigurationError, match="a pair of host and port"):
            serve(name, address)


@pytest.mark.parametrize("name", PATH_SERVERS)
def test_path_of_a_server(serve: Callable[..., None], name: str) -> None:
    for path in PATHS:
        with pytest.raises(ConfigurationError, match="path"):
            serve(name, path)
    with pytest.raises(ConfigurationError, match="an abstract Unix socket has no permissions"):
        serve(name, "\0orders")
    for path in MISSING:
        with pytest.raises(
            TransportError, match=r"cannot listen on /.*(make its directory first|107 at most; choose a shorter one)"
        ):
            serve(name, path)


@pytest.mark.parametrize("name", ["TCPServer", "PreforkTCPServer", "AsyncTCPServer"])
def test_socket_that_does_not_listen(serve: Callable[..., None], name: str) -> None:
    with socket.socket() as silent, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for listener in (silent, datagrams, 5):
            with pytest.raises(ConfigurationError, match="listener must be an open socket that listens"):
                serve(name, None, listener=listener)


@pytest.mark.parametrize("name", HOST_CLIENTS)
def test_address_of_a_client(request_one: Callable[..., None], name: str) -> None:
    for port in [*PORTS, 0]:
        with pytest.raises(ConfigurationError, match="port must be a whole number from 1 to 65535"):
            request_one(name, "localhost", port)
    for host in NAMES:
        with pytest.raises(ConfigurationError, match=r"host|neither a DNS name"):
            request_one(name, host, 7443)
    with pytest.raises(SealwireError):
        request_one(name, "fe80::1%nosuch", 7443)


@pytest.mark.parametrize("name", PATH_CLIENTS)
def test_path_of_a_client(request_one: Callable[..., None], name: str) -> None:
    for path in PATHS:
        with pytest.raises(ConfigurationError, match="path"):
            request_one(name, path)
    for path in [*MISSING, "\0orders"]:
        with pytest.raises(TransportError, match=r"cannot connect to [/@]"):
            request_one(name, path)


def test_functions_that_connect(deployment: Deployment, tmp_path: Path) -> None:
    security = deployment.security("client", peers=[f"uid:{os.getuid()}"], service="orders")
    without_service = deployment.security("client")
    for connect, connect_unix in (
        (sealwire.sync.connect, sealwire.sync.connect_unix),
        (in_a_loop(sealwire.aio.connect), in_a_loop(sealwire.aio.connect_unix)),
    ):
        for port in PORTS:
            with pytest.raises(ConfigurationError, match="port must be"):
                connect("localhost", port, security)
        for seconds in (None, "5", float("nan"), float("inf"), 0, True, 10**400):
            with pytest.raises(ConfigurationError, match="timeout must be a number"):
                connect("localhost", 7443, security, timeout=seconds)
            with pytest.raises(ConfigurationError, match="timeout must be a number"):
                connect_unix(str(tmp_path / "socket"), security, timeout=seconds)
        for path in PATHS:
            with pytest.raises(ConfigurationError, match="path"):
                connect_unix(path, security)
        with pytest.raises(ConfigurationError, match="give the service a name"):
            connect_unix(str(tmp_path / "socket"), without_service)


def in_a_loop(function: Any) -> Callable[..., Any]:
    return lambda *arguments, **options: asyncio.run(function(*arguments, **options))


NO_LISTS = [None, True, 5, 1.5, 1j, len, object()]


NATS_ENDS = ["NATSServer", "SynchronousNATSClient", "AsyncNATSClient"]
POOLS = ["ClientPool", "AsyncClientPool"]


@pytest.fixture
def begun_with() -> Callable[..., Any]:
    """Make an end on TCP, UDP or NATS, or connect, with a Security. Nobody listens there."""

    def begun_with(name: str, security: Security) -> Any:
        address = ["localhost", 7443]
        if name in NATS_ENDS:
            server = {"subject": "orders"} if name == "NATSServer" else {}
            where = ["nats://localhost:4222", *([len, security] if server else ["orders"])]
            return getattr(nats, name)(*where, **server or {"security": security})
        if name.endswith("connect"):
            connect = {"sync": sealwire.sync.connect, "aio": in_a_loop(sealwire.aio.connect)}[name.partition(".")[0]]
            return connect(*address, security)
        if name in HOST_SERVERS:
            return made(name, ("127.0.0.1", 0), len, security)
        return made(name, *([["localhost:7443"]] if name in POOLS else address), security=security)

    return begun_with


HOST_ENDS = [*HOST_SERVERS, *HOST_CLIENTS, *POOLS, *NATS_ENDS, "sync.connect", "aio.connect"]


@pytest.mark.parametrize("name", HOST_ENDS)
def test_a_certificate_for_the_other_end(begun_with: Callable[..., Any], name: str, tmp_path: Path) -> None:
    """A certificate whose purpose every peer must refuse is refused before it is shown."""
    role, other = ("server", "client") if "Server" in name else ("client", "server")
    place = Throwaway(tmp_path)
    cert, key = place.leaf("own", "localhost", profile=other)
    security = partial(Security.from_files, cert=cert, key=key, keyring=place.keyring, peers=["dns:localhost"])
    with pytest.raises(ConfigurationError) as refused:
        begun_with(name, security(ca=place.ca))
    text = f"{cert}: the certificate is not for TLS {role}s, so {other}s would refuse it; name a {role}'s as"
    assert str(refused.value).startswith(text)


def test_a_servers_certificate_without_a_name(deployment: Deployment, tmp_path: Path) -> None:
    """Clients refuse it unless they list its fingerprint."""
    ca = make_ca()
    files = {"ca": ca.pem}
    for role in ("server", "client"):
        leaf = make(*(["client.example"] if role == "client" else []), issuer=ca)
        files |= {f"{role}.pem": leaf.pem, f"{role}.key": leaf.key_pem}
        if role == "server":
            pin = f"sha256:{sha256(leaf.der).hexdigest()}"
    write_files([NewFile(tmp_path / part, content, PRIVATE) for part, content in files.items()])

    def security(role: str, peers: list[str] | None) -> Security:
        credentials = sealwire.Credentials.from_files(
            cert=tmp_path / f"{role}.pem", key=tmp_path / f"{role}.key", ca=tmp_path / "ca"
        )
        return Security(credentials=credentials, keys=deployment.keys, peers=peers)

    server = sealwire.ThreadingTCPServer(("127.0.0.1", 0), len, security("server", ["dns:client.example"]))
    with running(server) as port:
        with sealwire.SynchronousTCPClient("localhost", port, security=security("client", [pin])) as client:
            assert client.send_request("four") == 4
        with (
            sealwire.SynchronousTCPClient("localhost", port, security=security("client", None)) as client,
            pytest.raises(sealwire.HandshakeFailed, match="certificate"),
        ):
            client.send_request("four")


@pytest.mark.parametrize("name", HOST_ENDS)
def test_no_ca_where_there_is_tls(begun_with: Callable[..., Any], name: str, tmp_path: Path) -> None:
    place = Throwaway(tmp_path)
    security = Security.from_files(keyring=place.keyring, peers=[f"uid:{os.getuid()}"], service="orders")
    with pytest.raises(ConfigurationError, match=r"^ca is missing; name the file with the certificates of the CA"):
        begun_with(name, security)


def test_no_ca(tmp_path: Path) -> None:
    place = Throwaway(tmp_path)
    cert, key = place.leaf("own", "localhost")
    for peers in (None, ["dns:client.example"], ["anonymous"], sealwire.PeerPolicy.any_signed_by_ca()):
        with pytest.raises(ConfigurationError, match="ca is missing"):
            Security.from_files(keyring=place.keyring, peers=peers)
    with pytest.raises(ConfigurationError, match=r"^ca: name the file .*, or leave out cert and key on a Unix socket"):
        Security.from_files(cert=cert, key=key, keyring=place.keyring, peers=["uid:0"])


@pytest.mark.parametrize("value", [5, True, b"x", [shop.Money], shop.Money, {}, "shop:Money", len])
def test_what_a_codec_is_made_of(value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"allowlist must be an Allowlist, as Allowlist\(Order, Item\) makes it"
    ):
        sealwire.Codec(value)
    with pytest.raises(ConfigurationError, match=r"limits must be Limits"):
        sealwire.Codec(limits=value)


def test_lists_that_are_none() -> None:
    for value in NO_LISTS:
        with pytest.raises(ConfigurationError, match="peers must be a list of entries"):
            sealwire.PeerPolicy(value)
        with pytest.raises(ConfigurationError, match="without must be a list of datetime"):
            sealwire.Allowlist(without=value)
        with pytest.raises(ConfigurationError, match=r"there is no group .* of standard types"):
            sealwire.Allowlist(without=["uuid", value, []])


def test_what_only_a_method_makes() -> None:
    for arguments in ((), ("cert.pem",), ({"ca": "ca.pem"},)):
        with pytest.raises(ConfigurationError, match=r"credentials are made by Credentials\.from_files"):
            sealwire.Credentials(*arguments)
    for text in (Path("keyring.toml"), b"", None, 5):
        with pytest.raises(ConfigurationError, match=r"Keyring\.from_file takes a path"):
            sealwire.Keyring.from_toml(text)
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        sealwire.Keyring.from_toml("\ud800")


class Asks(sealwire.RequestHandler):
    def handle(self, message: Any) -> Any:
        return message


class Answers(sealwire.RequestHandler):
    def respond(self) -> Any:
        return 1


@pytest.mark.parametrize("name", [*HOST_SERVERS, *PATH_SERVERS])
def test_handlers_that_take_other_arguments(deployment: Deployment, tmp_path: Path, name: str) -> None:
    security = deployment.security("server", peers=["dns:client.example", f"uid:{os.getuid()}"], service="orders")
    address = str(tmp_path / "socket") if "Unix" in name else ("127.0.0.1", 0)
    for handler, why in (
        (Asks, r"Asks: its handle must take what handle\(self\) takes"),
        (Answers, r"Answers: its respond must take what respond\(self, message\) takes"),
        (lambda: None, "a handler that is a function must take one argument, the message"),
        (lambda one, two, three: (one, two, three), "must take one argument"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            made(name, address, handler, security)
