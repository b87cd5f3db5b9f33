"""The bytes that all connections hold are bounded, at the expense of those that hold most."""

from __future__ import annotations

import os

import pytest

from sealwire.session.buffers import STEP, Buffers, Holding
from sealwire.session.shared import Cells

LIMIT = 100 * STEP


class Server:
    """A server's buffers; ``ended`` has the numbers of the connections that were ended, in order."""

    def __init__(self, connections: int) -> None:
        self.buffers = Buffers(LIMIT)
        self.ended: list[int] = []
        self.holdings = [self.open(number) for number in range(connections)]

    def open(self, number: int) -> Holding:
        holding = self.buffers.open()
        holding.end = lambda: self.ended.append(number)
        return holding


def test_what_is_small_does_not_count() -> None:
    server = Server(1)
    server.holdings[0].update(STEP - 1)
    assert server.buffers.used == 0
    server.holdings[0].update(STEP)
    assert server.buffers.used == STEP
    server.holdings[0].update(2 * STEP - 1)
    assert server.buffers.used == STEP
    server.holdings[0].update(10)
    assert server.buffers.used == 0


def test_it_is_counted_in_steps_down_as_well() -> None:
    server = Server(1)
    for held, counted in ((3, 3), (2.5, 3), (2, 2), (2.5, 2), (3.5, 3.5), (1.5, 1.5), (0.5, 0)):
        server.holdings[0].update(int(held * STEP))
        assert server.buffers.used == server.holdings[0].counted == int(counted * STEP)


def test_the_largest_waits_first() -> None:
    server = Server(3)
    large, middle, small = server.holdings
    large.update(40 * STEP)
    middle.update(10 * STEP)
    assert not large.waits
    middle.update(11 * STEP)
    assert large.waits
    assert not middle.waits
    small.update(100)
    assert not small.waits
    middle.update(41 * STEP)
    assert middle.waits
    assert not large.waits
    assert server.ended == []


def test_it_does_not_wait_for_one_that_holds_nothing_any_more() -> None:
    server = Server(2)
    server.holdings[0].update(60 * STEP)
    server.holdings[1].update(20 * STEP)
    assert server.holdings[0].waits
    server.holdings[1].update(0)
    assert not server.holdings[0].waits


def test_one_that_nobody_can_end_is_passed_over() -> None:
    server = Server(1)
    held = server.buffers.open()
    held.update(LIMIT + STEP)
    server.holdings[0].update(STEP)
    assert held.ended
    assert server.ended == []


def test_of_equals_one_waits() -> None:
    server = Server(3)
    for holding in server.holdings:
        holding.update(30 * STEP)
    assert [holding.waits for holding in server.holdings] == [True, False, False]


def test_one_that_is_alone_does_not_wait() -> None:
    """No other connection could give way."""
    server = Server(1)
    server.holdings[0].update(LIMIT)
    assert not server.holdings[0].waits
    server.holdings[0].update(LIMIT + STEP)
    assert server.ended == [0]


def test_the_largest_is_ended_and_no_more_than_necessary() -> None:
    server = Server(4)
    for number, holding in enumerate(server.holdings):
        holding.update((20 + number) * STEP)
    assert server.ended == []
    server.holdings[0].update(35 * STEP)
    assert server.ended == [0]
    # What it held is not free yet, but counts no more.
    server.holdings[1].update(22 * STEP)
    assert server.ended == [0]
    server.holdings[0].release()
    assert server.buffers.used == 67 * STEP
    server.holdings[1].update(60 * STEP)
    assert server.ended == [0, 1]


@pytest.mark.parametrize(("size", "ended"), [(LIMIT, []), (LIMIT + 1, [0])])
def test_a_byte_is_too_much(size: int, ended: list[int]) -> None:
    server = Server(1)
    server.holdings[0].update(size)
    assert server.ended == ended


def test_one_of_many_is_enough() -> None:
    server = Server(11)
    for holding in server.holdings:
        holding.update(10 * STEP)
    assert server.ended == [0]


def test_those_that_are_ended_do_not_wait() -> None:
    """They are read no more, and nobody waits for what they hold."""
    server = Server(2)
    server.holdings[0].update(60 * STEP)
    server.holdings[1].update(50 * STEP)
    server.holdings[1].update(120 * STEP)
    assert server.ended == [0, 1]
    assert [holding.waits for holding in server.holdings] == [False, False]


def test_many_that_hold_a_little_less_each() -> None:
    """As 300 connections that each begin a large frame: the sum stays below the limit."""
    server = Server(300)
    for size in range(1, 30):
        for number, holding in enumerate(server.holdings):
            if not holding.ended and not holding.waits:
                holding.update(size * STEP)
            for ended in server.ended:
                server.holdings[ended].release()
            assert server.buffers.used <= LIMIT, number
    assert server.ended


def test_those_that_wait_are_told() -> None:
    server = Server(2)
    told: list[str] = []
    server.holdings[0].update(60 * STEP)
    server.holdings[1].update(10 * STEP)
    server.holdings[0].when_changed(lambda: told.append("smaller"))
    server.holdings[1].update(11 * STEP)
    assert told == []
    server.holdings[1].release()
    assert told == ["smaller"]
    server.holdings[0].update(1)
    assert told == ["smaller"]


@pytest.mark.parametrize("times", [1, 2])
def test_release(times: int) -> None:
    server = Server(1)
    server.holdings[0].update(5 * STEP)
    for _ in range(times):
        server.holdings[0].release()
    assert server.buffers.used == 0


class TestPublish:
    """Other processes hear of each connection, and may end it."""

    def test_they_hear_what_counts(self) -> None:
        holding, heard = Server(1).holdings[0], []
        holding.publish = lambda held: heard.append(held) or False
        for held in (10, 3 * STEP, 3 * STEP + 10, 20):
            holding.update(held)
        assert heard == [3 * STEP, 0]

    def test_a_connection_that_must_end_is_ended_once(self) -> None:
        server = Server(2)
        told: list[str] = []
        server.holdings[1].when_changed(lambda: told.append("ended"))
        server.holdings[0].publish = lambda held: True
        for held in (STEP, 2 * STEP, 3 * STEP):
            server.holdings[0].update(held)
        assert server.ended == [0]
        assert server.holdings[0].ended
        assert told == ["ended"]

    def test_one_that_has_ended_is_not_ended(self) -> None:
        holding = Server(1).holdings[0]
        holding.update(5 * STEP)
        holding.publish = lambda held: True
        holding.release()
        assert not holding.ended

    def test_one_that_was_the_largest_is_not_ended_twice(self) -> None:
        server = Server(1)
        server.holdings[0].publish = lambda held: True
        server.holdings[0].update(LIMIT + STEP)
        assert server.ended == [0]


def test_to_look_does_nothing_for_a_process_alone() -> None:
    server = Server(1)
    server.holdings[0].update(10 * STEP)
    server.buffers.look()
    assert server.ended == []


class TestCells:
    def test_are_numbers_that_begin_at_0(self) -> None:
        cells = Cells(3)
        assert len(cells) == 3
        assert [cells[index] for index in range(3)] == [0, 0, 0]
        cells[2] = 1 << 63
        assert (cells[2], cells.total, cells.largest) == (1 << 63, 1 << 63, 1 << 63)

    def test_a_forked_child_writes_them(self) -> None:
        cells = Cells(2)
        child = os.fork()
        if child == 0:
            cells[1] = 7
            os._exit(0)
        os.waitpid(child, 0)
        assert (cells[0], cells[1]) == (0, 7)


class TestProcesses:
    """Several that share the limit."""

    def servers(self, count: int) -> list[Server]:
        cells, servers = Cells(count), [Server(4) for _ in range(count)]
        for index, server in enumerate(servers):
            server.buffers.share(cells, index, count)
        return servers

    def test_one_may_hold_more_than_its_part_while_there_is_room(self) -> None:
        first, second = self.servers(2)
        first.holdings[0].update(80 * STEP)
        second.holdings[0].update(20 * STEP)
        assert first.buffers.used == second.buffers.used == LIMIT
        assert first.ended == second.ended == []

    def test_the_one_that_holds_more_than_its_part_gives_way(self) -> None:
        first, second = self.servers(2)
        first.holdings[0].update(60 * STEP)
        first.holdings[1].update(20 * STEP)
        second.holdings[0].update(40 * STEP)
        assert second.ended == []
        first.buffers.look()
        assert first.ended == [0]
        first.holdings[0].release()
        first.buffers.look()
        assert first.ended == [0]

    def test_half_of_the_limit_is_that_of_all(self) -> None:
        first, second = self.servers(2)
        first.holdings[0].update(30 * STEP)
        first.holdings[1].update(10 * STEP)
        assert not first.holdings[0].waits
        second.holdings[0].update(11 * STEP)
        assert first.holdings[0].waits

    def test_what_a_process_held_that_has_ended(self) -> None:
        cells = Cells(3)
        for index in range(3):
            cells[index] = 10 + index
        cells.clear_others({1})
        assert (cells.total, cells.largest) == (11, 11)
