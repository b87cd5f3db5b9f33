"""The rules for what each side may send: the checks of docs/protocol.md, sections 2 to 5 and 9, without any I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from reference import protocol as p
from reference.features import MAX_UPLOADS, PLAIN, Account, Features, Terms, parse_features, split
from reference.protocol import Frame, Hello, demand


def check_length(length: int, cap: int) -> None:
    """To be called as soon as the four bytes are there."""
    demand(length >= p.OVERHEAD, "2", f"length {length} is under {p.OVERHEAD}")
    demand(length <= cap, "2", f"length {length} is over the cap in force, {cap}")


def check_first(got: Frame, *kinds: int) -> None:
    """The header of a side's first frame."""
    demand(got.kind in kinds, "3", f"{got.name} during the handshake")
    demand(got.flags == 0, "2", f"flags {got.flags} on {got.name}")
    demand(got.wait == 0, "2", f"wait {got.wait} on {got.name}")
    demand(got.sequence == 0, "2", f"{got.name} has sequence {got.sequence}")
    demand(got.reply_to == 0, "2", f"{got.name} has reply_to {got.reply_to}")


class Rejected(Exception):
    """HELLO is to be answered with REJECT ``code``."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"REJECT {code}: {why}")
        self.code = code


def check_hello(
    got: Frame,
    *,
    keys: Mapping[bytes, bytes],
    server_der: bytes | None,
    client_der: bytes | None,
    server_names: Collection[bytes],
    codecs: Collection[bytes],
    knows_features: bool = True,
) -> Hello:
    """In the order of section 3; raises Violation or Rejected. ``knows_features``: whether section 9 is known."""
    check_first(got, p.HELLO)
    demand(got.payload, "2", "HELLO has no payload")
    if got.payload[0] != p.VERSION:
        raise Rejected(1, f"version {got.payload[0]}")
    hello = p.parse_hello(got.payload)
    if knows_features:
        parse_features(hello.extensions, from_client=True)
    if hello.key_id not in keys:
        raise Rejected(3, f"key id {hello.key_id!r} is unknown")
    try:
        got.check_tag(p.k_hello(keys[hello.key_id], server_der, client_der))
    except p.Violation as wrong:
        raise Rejected(3, str(wrong)) from None
    if hello.server_name not in server_names:
        raise Rejected(3, f"server_name {hello.server_name!r} is not this server's")
    if hello.codec not in codecs:
        raise Rejected(2, f"codec {hello.codec!r} is unknown")
    return hello


@dataclass(frozen=True)
class Session:
    """The result of a handshake. ``peer_max_frame`` and ``features`` are the peer's announcements."""

    peer_max_frame: int
    features: Features
    identity: str
    k_c2s: bytes = field(repr=False)
    k_s2c: bytes = field(repr=False)


def agree(psk: bytes, bound: bytes, hello_frame: bytes, welcome_untagged: bytes) -> tuple[bytes, bytes]:
    """``(K_c2s, K_s2c)`` from the two frames, whose nonces stand at fixed places."""
    client_nonce, server_nonce = hello_frame[25:57], welcome_untagged[25:57]
    return p.traffic_keys(psk, client_nonce + server_nonce, bound, p.log_hash(hello_frame, welcome_untagged))


def identity(hello_frame: bytes, welcome_untagged: bytes) -> str:
    """Of a connection, in logs (section 9)."""
    return p.log_hash(hello_frame, welcome_untagged)[:4].hex()


def check_welcome(got: Frame, *, psk: bytes, bound: bytes, hello_frame: bytes) -> Session:
    """Raises Violation for anything but a right WELCOME, Rejected for a right REJECT."""
    check_first(got, p.WELCOME, p.REJECT)
    if got.kind == p.REJECT:
        got.check_tag(None)
        p.check_payload(got)
        raise Rejected(got.code, "as the server answered")
    welcome = p.parse_welcome(got.payload)
    k_c2s, k_s2c = agree(psk, bound, hello_frame, got.raw[: -p.TAG])
    got.check_tag(k_s2c)
    hello = p.parse_hello(p.parse_frame(hello_frame).payload)
    demand(welcome.codec == hello.codec, "3", f"WELCOME has codec {welcome.codec!r} for {hello.codec!r}")
    offered = {kind for kind, _ in hello.extensions}
    demand(all(kind in offered for kind, _ in welcome.extensions), "2", "WELCOME has an extension not offered")
    demand(welcome.nonce != hello.nonce, "3", "the server's nonce is the client's")
    features = parse_features(welcome.extensions, from_client=False)
    return Session(welcome.max_frame, features, identity(hello_frame, got.raw[: -p.TAG]), k_c2s, k_s2c)


@dataclass
class Incoming:
    """The frames of one direction after the handshake; subclasses know what their sender may send."""

    key: bytes = field(repr=False)
    cap: int
    expected: int = 1
    unanswered: dict[int, tuple[int, bytes]] = field(default_factory=dict, repr=False)
    """Requests under way, in whichever direction: sequence to kind and payload."""
    close: Frame | None = None
    terms: Terms = PLAIN
    into: dict[int, Account] = field(default_factory=dict, repr=False)
    """The peer's credit for parts of a request."""
    out: dict[int, Account] = field(default_factory=dict, repr=False)
    """Our own credit for parts of a request."""
    cancelled: set[int] = field(default_factory=set, repr=False)
    """Unanswered requests that their client gave up."""

    def check(self, got: Frame, sent: int) -> None:
        """Raise Violation where ``got`` is not allowed now. ``sent``: the highest sequence of the other direction."""
        check_length(len(got.raw) - 4, self.cap)
        got.check_tag(self.key)
        demand(got.sequence == self.expected, "2", f"{got.name} has sequence {got.sequence}, not {self.expected}")
        self.expected += 1
        demand(self.close is None, "5", f"{got.name} after CLOSE")
        of_client = isinstance(self, FromClient)
        allowed = self.terms.flags(of_client=of_client) if got.kind == p.MESSAGE else 0
        demand(got.flags & ~allowed == 0, "2", f"flags {got.flags} on {got.name}")
        demand(got.wait == 0 or (of_client and got.kind == p.MESSAGE), "2", f"wait {got.wait} on {got.name}")
        if got.kind not in self.terms.kinds(of_client=of_client):
            self.check_kind(got)
        p.check_payload(got)
        if got.kind == p.CLOSE:
            demand(got.last <= sent, "5", f"CLOSE with last {got.last}, but {sent} was the highest sent")
            self.check_last(got)
            self.close = got
        else:
            self.check_exchange(got, sent)

    def answered(self, request: int) -> None:
        """The request has got its answer."""
        self.unanswered.pop(request, None)
        self.out.pop(request, None)
        self.cancelled.discard(request)

    def note_sent(self, ours: Frame) -> None:
        """Note a frame that we send, right or wrong: it counts for what the peer may send."""
        if ours.kind == p.PART and ours.reply_to in self.out:
            self.out[ours.reply_to].charge(ours)
        if ours.kind == p.CREDIT and ours.reply_to in self.into:
            self.into[ours.reply_to].credit += int.from_bytes(ours.payload, "big")

    def check_kind(self, got: Frame) -> None:
        raise NotImplementedError

    def check_exchange(self, got: Frame, sent: int) -> None:
        raise NotImplementedError

    def check_last(self, got: Frame) -> None:
        """Beyond the bound that holds for both sides."""


class FromClient(Incoming):
    """As a server sees it; it calls ``answered`` for each request as it answers."""

    def check_kind(self, got: Frame) -> None:
        demand(got.kind in (p.MESSAGE, p.PING, p.CLOSE), "2", f"{got.name} from a client")
        demand(got.reply_to == 0, "2", f"{got.name} of a client has reply_to {got.reply_to}")

    def check_exchange(self, got: Frame, sent: int) -> None:
        if got.kind not in (p.MESSAGE, p.PING):
            self._check_about(got)
            return
        if got.kind == p.PING:
            pinged = any(kind == p.PING for kind, _ in self.unanswered.values())
            demand(not pinged, "2", "a second PING while one is unanswered")
        self.unanswered[got.sequence] = (got.kind, got.payload)
        if got.kind == p.MESSAGE:
            self._check_request(got)

    def _check_request(self, got: Frame) -> None:
        _, application = split(got)
        if got.flags & p.UPLOAD:
            demand(not application, "9", "UPLOAD with bytes of its own")
            demand(len(self.into) < MAX_UPLOADS, "9", f"more than {MAX_UPLOADS} requests in parts have not ended")
            self.into[got.sequence] = Account(self.terms.own_window)
        if got.flags & p.PARTS:
            self.out[got.sequence] = Account(self.terms.peer_window)
        if self.into or self.out:
            requests = [kind for kind, _ in self.unanswered.values() if kind == p.MESSAGE]
            at_once = self.terms.at_once
            demand(len(requests) <= at_once, "9", f"{len(requests)} requests beside parts; at_once is {at_once}")

    def _check_about(self, got: Frame) -> None:
        request = got.reply_to
        if got.kind in (p.PART, p.END):
            demand(request in self.into, "9", f"{got.name} for {request}, which is no request in parts, or has ended")
        demand(0 < request < got.sequence, "9", f"{got.name} for {request}")
        demand(request not in self.cancelled, "9", f"{got.name} for {request}, which was cancelled")
        if got.kind == p.PART:
            self.into[request].spend(got)
        elif got.kind == p.CREDIT:
            if request in self.out:
                self.out[request].add(got)
        else:
            self.into.pop(request, None)
            if got.kind == p.CANCEL and self.unanswered.get(request, (0, b""))[0] == p.MESSAGE:
                self.cancelled.add(request)


@dataclass
class FromServer(Incoming):
    """As a client sees it; ``note_sent`` puts each request into ``unanswered``."""

    requests: set[int] = field(default_factory=set)
    """The sequence of each MESSAGE sent."""
    highest_answered: int = 0
    """The highest MESSAGE that was answered."""

    def check_kind(self, got: Frame) -> None:
        demand(got.kind in (p.MESSAGE, p.FAULT, p.PONG, p.CLOSE), "2", f"{got.name} from a server")
        demand(got.reply_to == 0 or got.kind != p.CLOSE, "2", f"CLOSE has reply_to {got.reply_to}")

    def check_exchange(self, got: Frame, sent: int) -> None:
        request = got.reply_to
        if got.kind == p.PART:
            demand(request in self.into, "9", f"PART for {request}, which is no unanswered request for parts")
            self.into[request].spend(got)
        elif got.kind == p.CREDIT:
            demand(0 < request <= sent, "9", f"CREDIT for {request}")
            if request in self.out:
                self.out[request].add(got)
        else:
            self._check_answer(got)

    def _check_answer(self, got: Frame) -> None:
        demand(got.reply_to in self.unanswered, "4", f"{got.name} answers {got.reply_to}, which awaits no answer")
        kind, payload = self.unanswered[got.reply_to]
        fits = (kind == p.PING) == (got.kind == p.PONG)
        demand(fits, "4", f"{got.name} answers a {p.KINDS[kind]}")
        demand(got.kind != p.PONG or got.payload == payload, "2", "PONG has not the ping's bytes")
        if got.kind == p.FAULT:
            demand(got.code != 22 or got.reply_to in self.cancelled, "9", "FAULT 22 for what was not cancelled")
            demand(got.code != 23 or got.reply_to not in self.into, "9", "FAULT 23 for a request with the flag PARTS")
        elif got.kind == p.MESSAGE:
            split(got)
        self.answered(got.reply_to)
        self.into.pop(got.reply_to, None)
        if got.kind in (p.MESSAGE, p.FAULT):
            self.highest_answered = max(self.highest_answered, got.reply_to)

    def note_sent(self, ours: Frame) -> None:
        super().note_sent(ours)
        number, request = ours.sequence, ours.reply_to
        if ours.kind in (p.MESSAGE, p.PING):
            self.unanswered[number] = (ours.kind, ours.payload)
        if ours.kind == p.MESSAGE:
            self.requests.add(number)
            if ours.flags & p.PARTS:
                self.into[number] = Account(self.terms.own_window)
            if ours.flags & p.UPLOAD:
                self.out[number] = Account(self.terms.peer_window)
        elif ours.kind in (p.CANCEL, p.END):
            self.out.pop(request, None)
            if ours.kind == p.CANCEL and request in self.unanswered:
                self.cancelled.add(request)

    def check_last(self, got: Frame) -> None:
        demand(got.last == 0 or got.last in self.requests, "5", f"last {got.last} was no MESSAGE")
        answered = self.highest_answered
        demand(got.last >= answered, "5", f"last {got.last}, but {answered} was answered")
