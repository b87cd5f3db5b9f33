"""A pool of daemon threads."""

from __future__ import annotations

import threading

import pytest

from sealwire import ConfigurationError
from sealwire.threads import ThreadPool
from support.service import eventually, nothing_left


@pytest.mark.parametrize("workers", [0, 1025, True, 2.0, "2", None])
def test_bad_numbers(workers: object) -> None:
    with pytest.raises(ConfigurationError, match="workers must be a whole number of threads from 1 to 1024"):
        ThreadPool(workers, "test")


def test_no_more_threads_than_work_and_never_more_than_allowed() -> None:
    pool, go, seen = ThreadPool(2, "test"), threading.Event(), []

    def job() -> None:
        seen.append(threading.current_thread())
        go.wait(10)

    with nothing_left():
        pool.submit(job)
        eventually(lambda: len(seen) == 1)
        assert seen[0] in pool
        assert threading.current_thread() not in pool
        for _ in range(3):
            pool.submit(job)
        eventually(lambda: len(seen) == 2)
        go.set()
        pool.stop()
        pool.join(10)
    assert len(seen) == 4
    assert len(set(seen)) == 2
    assert sorted(thread.name for thread in set(seen)) == ["test 1", "test 2"]


def test_an_idle_thread_takes_the_next_job() -> None:
    pool, seen = ThreadPool(5, "test"), []
    for number in range(3):
        done = threading.Event()
        pool.submit(lambda done=done: (seen.append(threading.current_thread()), done.set()))
        assert done.wait(10)
        eventually(lambda: pool._unfinished == 0)
        assert len(seen) == number + 1
    pool.stop()
    pool.join(10)
    assert len(set(seen)) == 1


def test_a_job_that_never_returns(caplog: pytest.LogCaptureFixture) -> None:
    pool, go = ThreadPool(1, "test"), threading.Event()
    pool.submit(lambda: go.wait(10))
    pool.stop()
    pool.join(0.0)
    assert "1 handlers have not returned" in caplog.text
    go.set()


def test_no_more_threads(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The job waits for a thread that is started later."""
    pool, done = ThreadPool(2, "test"), threading.Event()

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        pool.submit(done.set)
    assert "cannot start another thread" in caplog.text
    pool.submit(lambda: None)
    assert done.wait(10)
    pool.stop()
    pool.join(10)


def test_functions_of_different_keys_take_turns() -> None:
    pool, go, seen = ThreadPool(1, "test"), threading.Event(), []
    pool.submit(lambda: go.wait(10))
    for number in range(5):
        pool.submit(lambda number=number: seen.append(f"flood {number}"), "flood")
    pool.submit(lambda: seen.append("good"), "good")
    go.set()
    pool.stop()
    pool.join(10)
    assert seen.index("good") == 1
