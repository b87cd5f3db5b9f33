"""One connection of the server's side; actions.py says how a script makes it misbehave."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reference import protocol as p
from reference.actions import Action, answer, close, fault, grant, nothing, pong, welcome
from reference.features import NONE, Terms, parse_features, split
from reference.protocol import Frame, Hello, Violation, demand
from reference.rules import FromClient, Rejected, agree, check_hello
from reference.transport import Ended, Endpoint

if TYPE_CHECKING:
    from reference.server import RefServer


@dataclass(frozen=True)
class Received:
    """A frame that came, HELLO included; ``connection`` counts from 0, ``values`` is metadata, ``payload`` the rest."""

    connection: int
    kind: int
    sequence: int
    payload: bytes
    wait: int
    flags: int = 0
    reply_to: int = 0
    values: dict[str, str] | None = None


@dataclass(frozen=True)
class Fault:
    """A handler returns this to have FAULT sent."""

    code: int
    text: str = ""


Handler = Callable[[bytes], "bytes | Fault"]


def is_address(host: str) -> bool:
    """True if SNI must leave it out."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Connection(Endpoint):
    """One accepted connection, in its own thread. ``index`` counts from 0 in order of acceptance."""

    def __init__(self, server: RefServer, sock: socket.socket, index: int) -> None:
        super().__init__(sock, server.timeout)
        self.server, self.index = server, index
        self.script = server.script[index] if index < len(server.script) else {}
        self.hello: Hello | None = None
        self.sni: str | None = None
        self.handed = 0  # the highest MESSAGE handed over
        self.messages = 0
        self.requests: dict[int, Frame] = {}
        self.uploads: dict[int, list[bytes]] = {}
        self.gone = False  # an action ended TCP

    def _act(self, point: str | int, frame: Frame | None, default: Action) -> None:
        self.script.get(point, default)(self, frame)

    def run(self) -> None:
        """To the end of the connection; what was wrong is kept in ``server.violations``."""
        try:
            self._act("accept", None, nothing)
            if not self.gone:
                self.start_tls()
                self._act("tls", None, nothing)
            if not self.gone:
                self._handshake()
            while not (self.ended or self.gone):
                self._one()
        except Ended:
            pass
        except Violation as violation:
            self._violated(violation)
        except (ssl.SSLError, TimeoutError, OSError) as error:
            self.link.end.alert = self.link.end.alert or f"{type(error).__name__}: {error}"
        end = self.link.end
        if not self.gone:
            try:
                with contextlib.suppress(OSError):
                    end = self.expect_end()
            except Violation as violation:
                self.server.note(self.server.violations, violation)
        self.link.sock.close()
        self.server.note_end(self.index, end)

    def _violated(self, violation: Violation) -> None:
        self.server.note(self.server.violations, violation)
        self.discard = True
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.incoming is None:
                self.link.close_notify()
            elif not self.ended:
                self.send_close(4)

    def start_tls(self) -> None:
        context = self.server.context()
        context.sni_callback = self._took_sni
        self.link.start_tls(context, True, None, check=self.server.adjust is None)

    def _took_sni(self, tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.sni = name

    def _handshake(self) -> None:
        got = self.read_unverified()
        self.took(got)
        server = self.server
        try:
            self.hello = check_hello(
                got,
                keys=server.keys,
                server_der=server.der,
                client_der=self.link.peer_der(),
                server_names=server.names,
                codecs=server.codecs,
                knows_features=server.features is not None,
            )
        except Rejected as rejected:
            server.note(server.rejected, str(rejected))
            self.reject(rejected.code)
            return
        host = self.hello.server_name.decode().partition("/")[0]
        expected = None if is_address(host) else host
        demand(not host or self.sni == expected, "3", f"SNI is {self.sni!r} for the host {host!r}")
        demand(self.hello.nonce not in server.nonces, "3", "a client's nonce came twice")
        server.note(server.nonces, self.hello.nonce)
        self._act("hello", got, welcome())
        if self.incoming is not None and not (self.ended or self.gone):
            self._act("welcomed", got, nothing)

    def _one(self) -> None:
        got = self.read_frame()
        self.took(got)
        if got.kind == p.PING:
            self._act("ping", got, pong())
        elif got.kind == p.CLOSE:
            self.link.end.frames.append(got)
            self._act("close", got, close(0))
        elif got.kind == p.MESSAGE:
            self.messages += 1
            self.requests[got.sequence] = got
            if got.flags & p.UPLOAD:
                self.uploads[got.sequence] = []
            point = self.messages if self.messages in self.script else "message"
            self._act(point, got, nothing if got.flags & p.UPLOAD else answer())
        else:
            self._about_request(got)

    def _about_request(self, got: Frame) -> None:
        request = self.requests.get(got.reply_to)  # None once it is answered
        if got.kind == p.CREDIT:
            self._act("credit", got, nothing)
        elif got.kind == p.PART:
            self.uploads[got.reply_to].append(got.payload)
            if request is not None:
                self._act("part", got, grant())
        else:
            parts = self.uploads.pop(got.reply_to, [])
            if request is not None and got.kind == p.CANCEL:
                self._act("cancel", request, fault(22))
            elif request is not None:
                whole = replace(request, payload=b"".join(parts), flags=request.flags & p.PARTS)
                self._act("end", whole, answer())

    def took(self, frame: Frame) -> None:
        values, payload = split(frame) if frame.kind == p.MESSAGE else (None, frame.payload)
        numbers = self.index, frame.kind, frame.sequence
        got = Received(*numbers, payload, frame.wait, frame.flags, frame.reply_to, values)
        self.server.note(self.server.received, got)

    # What actions are made of

    def welcome(self, got: Frame, *, tag_key: bytes | None = None, **fields: Any) -> None:
        """WELCOME with any field replaced; the keys follow from what is sent."""
        assert self.hello is not None
        offered = taken = NONE
        if self.server.features is not None:
            offered = parse_features(self.hello.extensions, from_client=True)
            taken = self.server.features.taken_up(offered)
        mine: dict[str, Any] = {"nonce": os.urandom(32), "max_frame": self.server.max_frame, "codec": self.hello.codec}
        mine["extensions"] = taken.extensions()
        untagged = p.untagged(p.WELCOME, p.welcome_payload(**(mine | fields)))
        bound = p.binding(self.server.der, self.link.peer_der())
        k_c2s, self.key_out = agree(self.server.keys[self.hello.key_id], bound, got.raw, untagged)
        self.send_raw(untagged + p.tag(untagged, tag_key or self.key_out))
        self.next_sequence, self.peer_max_frame = 1, self.hello.max_frame
        self.incoming = FromClient(k_c2s, self.server.max_frame, terms=Terms.between(taken, offered))

    def hand_over(self, frame: Frame) -> tuple[int, bytes]:
        """Run the handler: the kind and the payload of what answers."""
        self.handed = max(self.handed, frame.request)
        result = self.server.handler(split(frame)[1])
        if not isinstance(result, Fault) and len(result) > self.peer_max_frame - p.OVERHEAD:
            result = Fault(18, "reply too large")
        if isinstance(result, Fault):
            return p.FAULT, p.fault_payload(result.code, result.text)
        return p.MESSAGE, result

    def answered(self, sequence: int) -> None:
        """The request is not unanswered any more."""
        self.requests.pop(sequence, None)
        if self.incoming is not None:
            self.incoming.answered(sequence)

    def send_part(self, request: int, payload: bytes) -> bool:
        """Once there is credit, doing with what comes until then as ever. False where the request is answered then."""
        assert self.incoming is not None
        account = self.incoming.out[request]
        while account.credit <= 0 and request in self.requests and not (self.ended or self.gone):
            self._one()
        if request not in self.requests:
            return False
        self.send(p.PART, payload, reply_to=request)
        return True

    def reject(self, code: int) -> None:
        self.send_raw(p.frame(p.REJECT, p.u(code, 2), 0, 0, None))
        self.ended = True
        self.link.close_notify()

    def drop(self, how: str) -> None:
        if how == "notify":
            self.link.close_notify()
        self.link.abort(reset=how == "reset")
        self.gone = True

    def highest(self) -> int:
        return self.handed
