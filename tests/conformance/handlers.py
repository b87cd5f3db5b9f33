"""What the servers of the suite do. Nothing here lives in a process's memory: some servers have several processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from sealwire import RequestHandler, recv_msg, send_msg


@dataclass
class Order:
    item: str
    count: int


@dataclass
class Secret:
    """On no server's list."""

    text: str


def note(path: str, text: str) -> None:
    """A line in a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, text.encode() + b"\n")
    os.close(descriptor)


def answer(message: Any) -> Any:
    """The message itself, or what it says to do."""
    match message:
        case ["fail"]:
            raise ValueError("words of the message")
        case ["object"]:
            return object()
        case ["secret"]:
            return Secret("x")
        case ["order"]:
            return Order("apples", 3)
        case ["zeros", size]:
            return bytes(size)
        case ["deep", value]:
            for _ in range(20):
                value = [value]
            return value
        case ["pid"]:
            return os.getpid()
        case ["note", path, text]:
            note(path, text)
        case ["hold", path, fifo]:
            note(path, "held")
            Path(fifo).read_bytes()
    return message


class Respond(RequestHandler):
    def respond(self, message: Any) -> Any:
        if message == ["who"]:
            assert self.peer is not None
            left = None if self.deadline is None else self.deadline - monotonic()
            return [self.peer.dns, self.key_id, self.peer.uid, left]
        return answer(message)


class Handle(RequestHandler):
    """The article's way."""

    def handle(self) -> None:
        while (message := recv_msg(self.request)) is not None:
            send_msg(self.request, self.codec.encode(answer(self.codec.decode(message))))


HANDLERS: dict[str, Any] = {"function": answer, "respond": Respond, "handle": Handle}
