"""A user's program with all that the documents show, for type checkers in their strictest mode; it is never run."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, start_http_server

from sealwire import (
    Allowlist,
    AsyncTCPClient,
    AsyncTCPServer,
    AsyncUnixClient,
    AsyncUnixServer,
    Codec,
    ConfigurationError,
    Context,
    Credentials,
    DeadlineExceeded,
    DecodeError,
    ForkingTCPServer,
    ForkingUnixStreamServer,
    Key,
    Keyring,
    Limits,
    PayloadTooLarge,
    PeerIdentity,
    PeerPolicy,
    PreforkTCPServer,
    Refuse,
    RemoteError,
    RequestHandler,
    SealwireError,
    Security,
    Service,
    SynchronousTCPClient,
    SynchronousUnixClient,
    TCPServer,
    ThreadingTCPServer,
    ThreadingUnixStreamServer,
    UnixStreamServer,
    decode,
    encode,
    envelope,
    recv_async,
    recv_msg,
    send_msg,
    serve,
)
from sealwire.dtls import AsyncUDPClient, SynchronousUDPClient, ThreadingUDPServer, UDPServer
from sealwire.envelope import Envelope
from sealwire.integrations.celery import install
from sealwire.integrations.prometheus import SecurityCollector
from sealwire.middleware import CallContext, CallNext, Rule, audit, authorise, observe
from sealwire.testing import Throwaway

# Handlers


@dataclass
class Order:
    number: int


def respond(message: dict[str, Any]) -> object:
    return {"count": len(message)}


async def respond_on_the_loop(message: Any) -> Any:
    await asyncio.sleep(0)
    return message


class Orders(RequestHandler):
    def setup(self) -> None:
        super().setup()
        self.served = 0

    def respond(self, message: Any) -> Any:
        self.served += 1
        print("from", self.peer.dns[0], ":", message)
        peer: PeerIdentity | None = self.peer
        names: tuple[str, ...] = () if peer is None else peer.dns
        if self.peer is None:
            return None
        return names, self.key_id, self.deadline, self.client_address, self.server


class Precise(RequestHandler):
    def respond(self, message: Order) -> int:
        return message.number


class OnTheLoop(RequestHandler):
    async def respond(self, message: Any) -> Any:
        return await respond_on_the_loop(message)


class ByHand(RequestHandler):
    def handle(self) -> None:
        while (message := recv_msg(self.request)) is not None:
            send_msg(self.request, encode({"got": decode(message)}))


class ByHandOnTheLoop(RequestHandler):
    async def handle(self) -> None:
        while (message := await recv_async(self.request)) is not None:
            send_msg(self.request, encode({"got": decode(message)}))


class WithTheServersCodec(RequestHandler):
    def handle(self) -> None:
        while (message := recv_msg(self.request)) is not None:
            send_msg(self.request, self.codec.encode(self.codec.decode(message)))


class Shop(Service):
    def place(self, message: Order) -> int:
        return message.number

    def cancel(self, message: int) -> None:
        print(self.peer, message)


class ShopOnTheLoop(Service):
    async def place(self, message: Order) -> int:
        await asyncio.sleep(0)
        return message.number


def around_a_handler(context: Context, message: Any, call_next: CallNext) -> Any:
    if isinstance(message, Order) and (context.peer is None or "client.example" not in context.peer.dns):
        raise Refuse(70, "not today")
    return observe(context, message, call_next, lambda error: print(context.request_id, error))


async def around_a_coroutine(context: Context, message: Any, call_next: CallNext) -> Any:
    return [await call_next(context, message)]


def around_a_call(context: CallContext, message: Any, call_next: CallNext) -> Any:
    context.metadata["tenant"] = "north"
    return call_next(context, message)


async def around(security: Security) -> None:
    rules = authorise(Rule([Order, "builtins:dict"], ["dns:client.example"]))
    with ThreadingTCPServer(
        ("127.0.0.1", 0), Orders, security, middleware=[audit, authorise(security.authorisation), rules]
    ):
        SynchronousTCPClient("localhost", 7443, security=security, middleware=[around_a_call])
    AsyncTCPServer(("", 0), respond_on_the_loop, security, middleware=[around_a_handler, around_a_coroutine])
    AsyncTCPClient("localhost", 7443, security=security, middleware=[around_a_call])


class OutOfStock(Refuse):
    code = 64


class Gone(RemoteError):
    code = 65


class Wary(RequestHandler):
    def respond(self, message: Order) -> int:
        if message.number > 5:
            raise OutOfStock("none left")
        raise Refuse(65, "why")


class WaryByHand(RequestHandler):
    def handle(self) -> None:
        while recv_msg(self.request) is not None:
            self.request.refuse(OutOfStock("none left"))


# Configuration


def configured() -> Security:
    allow = Allowlist(Order) | Allowlist.from_handler(Precise, Shop, respond)
    allow.allow_handlers(ShopOnTheLoop)
    limits = Limits(max_frame=1 << 20, handshake_timeout=5.0)
    security = Security(
        credentials=Credentials.from_files(cert="a.pem", key=Path("a.key"), ca="ca.pem", crl="ca.crl"),
        keys=Keyring([Key("k1", b"x" * 32)]),
        peers=["dns:client.example"],
        service="orders",
        codec=Codec(allow, limits=limits),
        limits=limits,
        faults=[OutOfStock, Gone],
    )
    if security.reload():
        print(security.status())
    policy: PeerPolicy | None = security.peers
    print(policy, Security.from_toml(Path("server.toml")), Keyring.from_file("keyring.toml").status())
    return Security.from_files(
        cert="a.pem", key="a.key", ca="ca.pem", keyring="keyring.toml", peers=["dns:a.example"], faults=(OutOfStock,)
    )


def collected(security: Security) -> None:
    REGISTRY.register(SecurityCollector(security))
    start_http_server(9464, addr="127.0.0.1")


def decoded() -> Any:
    return Codec(Allowlist.from_toml("sealwire.toml")).decode(Path("order.pickle").read_bytes())


# Servers


def serve_threads(security: Security) -> None:
    for kind in (TCPServer, ThreadingTCPServer, ForkingTCPServer):
        with kind(("127.0.0.1", 7443), Orders, security) as server:
            host, port = server.server_address
            SynchronousTCPClient(host, port, security=security).close()
            server.serve_forever(poll_interval=0.1)
            server.shutdown()
            server.server_close()
    for unix_kind in (UnixStreamServer, ThreadingUnixStreamServer, ForkingUnixStreamServer):
        with unix_kind(Path("socket"), respond, security, mode=0o660) as unix_server:
            unix_server.handle_request()
    for udp_kind in (UDPServer, ThreadingUDPServer):
        with udp_kind(("127.0.0.1", 7443), respond, security) as udp_server:
            udp_server.serve_forever()
    with PreforkTCPServer(("", 7443), Precise, security, workers=4, loop="asyncio", max_requests=10_000) as prefork:
        prefork.on_ready = lambda: print(prefork.active_children)
        prefork.serve_forever()
    with socket.create_server(("", 0)) as listener, TCPServer(None, ByHand, security, listener=listener) as taken:
        taken.serve_forever()
    serve(respond, "", 7443, security, server_class=ForkingTCPServer)


async def serve_on_a_loop(security: Security) -> None:
    for handler in (OnTheLoop, ByHandOnTheLoop, WithTheServersCodec, Orders, ShopOnTheLoop):
        async with AsyncTCPServer(("", 7443), handler, security, workers=8) as server:
            await server.serve_forever()
    async with AsyncUnixServer("socket", respond_on_the_loop, security, mode=0o660) as unix_server:
        unix_server.start_shutdown()
        await unix_server.shutdown()


# Clients


def ask(security: Security) -> None:
    with SynchronousTCPClient("localhost", 7443, timeout=5, wait=5, security=security) as client:
        try:
            reply = client.send_request({"count": 1}, wait=1.5, idempotent=True)
            print(reply["count"], client.ping(), client.peer)
        except OutOfStock as refusal:
            print(refusal.code, refusal.text, refusal.received)
        except RemoteError as error:
            code: int = error.code
            print(code, error.text)
        except DeadlineExceeded:
            print("late")
        except PayloadTooLarge as error:
            print("not sent:", error)
        except (DecodeError, ConfigurationError, SealwireError) as error:
            print(error)

        def requests() -> Iterator[dict[str, int]]:
            for number in range(10):
                yield {"number": number}

        for each in client.send_requests(requests(), window=8):
            print(each["number"])
    with SynchronousUnixClient(Path("socket"), security=security) as local:
        print(local.send_request([1]))
    with SynchronousUDPClient("localhost", 7443, security=security) as udp:
        print(udp.send_request([1], idempotent=True))


async def ask_on_a_loop(security: Security) -> None:
    async with (
        AsyncTCPClient("localhost", 7443, security=security) as client,
        AsyncUnixClient("socket", security=security) as local,
        AsyncUDPClient("localhost", 7443, security=security) as udp,
    ):
        replies = await asyncio.gather(*(client.send_request({"number": number}) for number in range(10)))
        print(replies[0]["number"], await local.send_request(1), await udp.send_request(1, wait=1), client.peer)
        async with client.stream({"count": 3}, wait=5, metadata={"request-id": "1"}) as parts:
            async for part in parts:
                print(part)
            print(parts.result, parts.metadata)
        print(await local.send_parts([1, 2], metadata={"name": "two"}))


# At rest


def rested(security: Security) -> tuple[Any, Any]:
    envelopes = Envelope(security.keys, purpose="orders", codec=security.codec, max_size=1 << 20)
    sealed: bytes = envelopes.seal({"item": "tea"}, lifetime=3600, context={"queue": "orders"})
    return envelopes.open(sealed, context={"queue": "orders"}), envelope.open(b"", security.keys, purpose="orders")


def queued(app: Any, security: Security) -> None:  # Celery has no types
    install(app, security.keys, codec=Codec(Allowlist()), lifetime=3600, name="sealed")


def with_throwaway_files() -> None:
    with Throwaway() as place:
        ask(place.security("client", "client.example"))
        serve_threads(place.security("server", "localhost", peers=["dns:client.example"]))
