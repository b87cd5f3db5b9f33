"""The parts of messages, and why a handler must end, as every transport has them."""

from __future__ import annotations

from sealwire.errors import DeadlineExceeded
from sealwire.session.parts import Ending, PartOverdue, RequestCancelled, Upload


class Stream(Ending):
    def end(self, error: BaseException | None) -> None:
        self._done(error)


def test_a_cancelled_handler_knows_whether_its_server_drains() -> None:
    assert RequestCancelled(draining=True).draining is True
    assert RequestCancelled().draining is False
    assert RequestCancelled().args == ()


def test_a_part_that_is_overdue_is_one_of_a_request_that_was_sent() -> None:
    error = PartOverdue()
    assert isinstance(error, DeadlineExceeded)
    assert error.sent is True
    assert str(error) == "nothing came from the client within part_timeout"


def test_each_function_is_called_once_at_the_end() -> None:
    stream, calls = Stream(), []
    stream.add_done_callback(lambda error: calls.append(("first", error)))
    stream.add_done_callback(lambda error: calls.append(("second", error)))
    problem = OSError()
    stream.end(problem)
    stream.end(None)
    assert calls == [("first", problem), ("second", problem)]


def test_a_function_that_adds_another_does_not_have_it_called_now() -> None:
    stream, calls = Stream(), []
    stream.add_done_callback(lambda _: stream.add_done_callback(calls.append))
    stream.end(None)
    assert calls == []


def test_an_upload_begins_without_parts() -> None:
    one, other = Upload(), Upload()
    one.parts.append(b"part")
    assert (one.is_complete, list(other.parts)) == (False, [])
