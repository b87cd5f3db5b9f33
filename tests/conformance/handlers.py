"""The handlers of the suite. Nothing here lives in a process's memory: some servers have several processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, thread_time
from typing import Any

from sealwire import Refuse, RequestHandler, Service, recv_async, recv_msg, send_msg
from sealwire.session.call_time import CallTime


@dataclass
class Order:
    item: str
    count: int


@dataclass
class Cancel:
    number: int


@dataclass
class Secret:
    """On no server's list."""

    text: str


class OutOfStock(Refuse):
    """Raised by a handler to refuse a request, and by a client that knows it."""

    code = 64


def note(path: str, text: str) -> None:
    """A line in a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, text.encode() + b"\n")
    os.close(descriptor)


def compute(seconds: float) -> None:
    """Use the processor."""
    end = thread_time() + seconds
    while thread_time() < end:
        pass


def answer(message: Any) -> Any:
    """The message itself, or what it says to do."""
    match message:
        case ["fail"]:
            raise ValueError("words of the message")
        case ["refuse", text]:
            raise OutOfStock(text)
        case ["refuse", code, text]:
            raise Refuse(code, text)
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
            note(path, text.format(process=os.getpid()))
        case ["compute", seconds]:
            compute(seconds)
        case ["hold", path, fifo]:
            note(path, "held")
            Path(fifo).read_bytes()
    return message


class Respond(RequestHandler):
    def respond(self, message: Any) -> Any:
        if message == ["address"]:
            return list(self.client_address)
        if message == ["who"]:
            assert self.peer is not None
            left = None if self.deadline is None else self.deadline - monotonic()
            return [self.peer.dns, self.key_id, self.peer.uid, left]
        return answer(message)


class Handle(RequestHandler):
    """The article's way."""

    def handle(self) -> None:
        while (message := recv_msg(self.request)) is not None:
            try:
                send_msg(self.request, self.codec.encode(answer(self.codec.decode(message))))
            except Refuse as refusal:
                self.request.refuse(refusal)


class HandleOnTheLoop(RequestHandler):
    async def handle(self) -> None:
        while (message := await recv_async(self.request)) is not None:
            try:
                send_msg(self.request, self.codec.encode(answer(self.codec.decode(message))))
            except Refuse as refusal:
                self.request.refuse(refusal)


async def answer_on_the_loop(message: Any) -> Any:
    await asyncio.sleep(0)
    return answer(message)


def _total(message: Order | list[Order] | Cancel) -> Any:
    if isinstance(message, list):
        return [each.count for each in message]
    if isinstance(message, Cancel):
        return None if message.number else ["x"]
    return message.count if message.item != "wrong" else "a str"


class Declared(RequestHandler):
    """Says what it takes and returns, and does not always do so."""

    def respond(self, message: Order | list[Order] | Cancel) -> int | list[int] | None:
        return _total(message)


class Operations(Service):
    """The same, with a method for each type."""

    def place(self, message: Order) -> int:
        return _total(message)

    def place_all(self, message: list[Order]) -> list[int]:
        return _total(message)

    def cancel(self, message: Cancel) -> None:
        return _total(message)


class OperationsOnTheLoop(Service):
    async def place(self, message: Order) -> int:
        await asyncio.sleep(0)
        return _total(message)

    async def place_all(self, message: list[Order]) -> list[int]:
        return _total(message)

    async def cancel(self, message: Cancel) -> None:
        return _total(message)


def declared(message: Order | list[Order] | Cancel) -> int | list[int] | None:
    return _total(message)


async def declared_on_the_loop(message: Order | list[Order] | Cancel) -> int | list[int] | None:
    return _total(message)


class _InParts(RequestHandler):
    """Gives what it is asked for in parts, and takes parts."""

    count: Callable[[int, int], Any]
    endless: Callable[[str], Any]
    fail: Callable[[int], Any]
    orders: Callable[[int], Any]
    slow: Callable[[int, float], Any]

    def reply_to(self, message: Any) -> Any:
        match message:
            case ["count", number, size]:
                return self.count(number, size)
            case ["endless", path]:
                return self.endless(path)
            case ["fail", number]:
                return self.fail(number)
            case ["orders", number]:
                return self.orders(number)
            case ["slow", number, seconds]:
                return self.slow(number, seconds)
            case ["metadata"]:
                self.context.reply_metadata.update(self.metadata, seen="yes")
                return [self.metadata, self.context.request_id]
            case ["bad metadata"]:
                self.context.reply_metadata["a key"] = ""
            case ["state"]:
                return state_of(self)
            case ["nested"]:
                return time_of_a_call()
        return answer(message)


class InParts(_InParts):
    def respond(self, message: Any) -> Any:
        match message:
            case ["wait", path]:
                note(path, "began")
                note(path, f"cancelled {self.cancelled.wait(20)}")
        return self.take(message) if isinstance(message, Iterator) else self.reply_to(message)

    def count(self, number: int, size: int) -> Iterator[Any]:
        for each in range(number):
            yield each, bytes(size)
        return "counted"

    def endless(self, path: str) -> Iterator[Any]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            note(path, f"closed {number}")

    def fail(self, number: int) -> Iterator[Any]:
        yield from range(number)
        raise OutOfStock("no more")

    def orders(self, number: int) -> Iterator[Any]:
        for each in range(number):
            yield Order("apples", each)

    def slow(self, number: int, seconds: float) -> Iterator[Any]:
        for each in range(number):
            sleep(seconds)  # a handler that is slow between its parts
            yield each

    def take(self, message: Iterator[Any]) -> Any:
        total = 0
        for part in message:
            if part == "enough":
                return ["early", total]
            total += len(part)
        return total


class InPartsOnTheLoop(_InParts):
    """The same in coroutine functions, and async generators, which have no result."""

    async def respond(self, message: Any) -> Any:
        match message:
            case ["wait", path]:
                note(path, "began")
                try:
                    await asyncio.sleep(20)  # until it is cancelled
                finally:
                    note(path, f"cancelled {self.cancelled.is_set()}")
        return await self.take(message) if isinstance(message, AsyncIterator) else self.reply_to(message)

    async def count(self, number: int, size: int) -> AsyncIterator[Any]:
        for each in range(number):
            yield each, bytes(size)

    async def endless(self, path: str) -> AsyncIterator[Any]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            note(path, f"closed {number}")

    async def fail(self, number: int) -> AsyncIterator[Any]:
        for each in range(number):
            yield each
        raise OutOfStock("no more")

    async def orders(self, number: int) -> AsyncIterator[Any]:
        for each in range(number):
            yield Order("apples", each)

    async def slow(self, number: int, seconds: float) -> AsyncIterator[Any]:
        for each in range(number):
            await asyncio.sleep(seconds)  # as above
            yield each

    async def take(self, message: AsyncIterator[Any]) -> Any:
        total = 0
        async for part in message:
            if part == "enough":
                return ["early", total]
            total += len(part)
        return total


def time_of_a_call() -> float:
    """For how long a client would wait that a handler calls."""
    now = monotonic()
    return CallTime(timeout=500, wait=1000, now=now).deadline - now


def state_of(handler: RequestHandler) -> Any:
    """Return how often it was asked for on this connection."""
    state = handler.context.connection
    state.number = getattr(state, "number", 0) + 1
    return state.number


HANDLERS: dict[str, Any] = {
    "in parts": InParts,
    "in parts on the loop": InPartsOnTheLoop,
    "declared": Declared,
    "declared function": declared,
    "declared coroutine": declared_on_the_loop,
    "service": Operations,
    "service on the loop": OperationsOnTheLoop,
    "function": answer,
    "respond": Respond,
    "handle": Handle,
    "coroutine": answer_on_the_loop,
    "handle on the loop": HandleOnTheLoop,
}
