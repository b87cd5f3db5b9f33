"""Files that are replaced under a running service, in every way in which files are replaced."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from sealwire import ConfigurationError
from sealwire.trust import reloading
from sealwire.trust.reading import FileContent, read_file
from sealwire.trust.reloading import LOOK_INTERVAL, SETTLE_SECONDS, FileContents, Reloadable, Status, digest_of
from support.events import audited, logged
from support.service import eventually

OLD = 1_600_000_000
"""A time of modification long ago."""


def write(path: Path, text: str, *, modified: float | None = OLD) -> None:
    path.write_text(text)
    if modified is not None:
        os.utime(path, (modified, modified))


class Parts:
    """Two files that belong together: each holds a number, and both must be the same."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.proved: list[str] = []
        self.both("1")

    @property
    def files(self) -> dict[str, Path]:
        return {"one": self.directory / "one", "two": self.directory / "two"}

    def both(self, text: str) -> None:
        for path in self.files.values():
            write(path, text)

    def watch(self, *, during: Callable[[], None] = lambda: None) -> Following:
        """``during``: called between the readings of the two files."""
        return Following(self, self.files, during)


class Following(Reloadable[str]):
    _log_name = "parts"

    def __init__(self, parts: Parts, files: dict[str, Path], during: Callable[[], None] = lambda: None) -> None:
        self.parts = parts
        self.during = during
        super().__init__(files)

    def status(self) -> Status:
        return Status(**self._status_fields(self._loaded[1]))

    def _read(self, path: str | os.PathLike[str], part: str) -> FileContent:
        if part == "two":
            self.during()
        return read_file(path, max_bytes=100)

    def _validate(self, contents: FileContents, previous: str | None) -> str:
        one, two = contents["one"].decode(), contents["two"].decode()
        if one != two:
            raise ConfigurationError("they do not fit")
        self.parts.proved.append(f"{previous}->{one}")
        return one


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


class TestWatched:
    def test_first_generation(self, parts: Parts) -> None:
        watched = parts.watch()
        assert watched.refresh(0.0) == "1"
        assert watched.status().generation == 1
        assert watched.status().refusal is None
        assert parts.proved == ["None->1"]

    def test_the_first_content_must_fit(self, parts: Parts) -> None:
        write(parts.files["one"], "2")
        with pytest.raises(ConfigurationError, match="do not fit"):
            parts.watch()

    def test_another_generation(self, parts: Parts) -> None:
        watched = parts.watch()
        first = watched.status()
        parts.both("2")
        assert watched.refresh(0.0) == "2"
        assert (watched.status().generation, first.generation, first.refusals) == (2, 1, 0)
        assert watched.status().digest != first.digest
        assert parts.proved[1:] == ["1->2"]

    def test_the_same_content_is_not_a_new_generation(self, parts: Parts) -> None:
        watched = parts.watch()
        for path in parts.files.values():
            path.unlink()
        parts.both("1")
        assert watched.refresh(0.0) == "1"
        assert watched.status().generation == 1

    def test_at_most_once_in_an_interval(self, parts: Parts) -> None:
        watched = parts.watch()
        assert watched.refresh_due()
        watched.refresh(3600.0)
        assert not watched.refresh_due()
        parts.both("2")
        assert watched.refresh(3600.0) == "1"
        assert watched.reload()
        assert watched.refresh(3600.0) == "2"

    @pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
    def test_one_after_the_other(self, parts: Parts, caplog: pytest.LogCaptureFixture, order: tuple[str, str]) -> None:
        caplog.set_level(logging.INFO, "sealwire.rotation")
        watched = parts.watch()
        write(parts.files[order[0]], "2")
        for _ in range(3):
            assert watched.refresh(0.0) == "1"
        refusal = watched.status().refusal
        assert refusal is not None
        assert refusal.reason == "they do not fit"
        assert watched.status().refusals == 1
        assert [record.getMessage() for record in logged(caplog, "sealwire.rotation")] == [
            "parts: reload rejected, keeping generation 1: they do not fit"
        ]
        write(parts.files[order[1]], "2")
        assert watched.refresh(0.0) == "2"
        assert watched.status().refusal is None
        digest = watched.status().digest[:12]
        assert caplog.records[-1].getMessage() == f"parts: generation 2 in service (digest {digest}): 2"

    def test_a_pause_follows_a_check_that_takes_long(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refused files are validated at each check: a server that checks before it reads must come to read."""
        clock = SimpleNamespace(now=0.0, time=time.time)
        clock.monotonic = lambda: clock.now
        watched = parts.watch(during=lambda: setattr(clock, "now", clock.now + 3.0))
        monkeypatch.setattr(reloading, "time", clock)
        write(parts.files["one"], "2")
        watched.refresh(1.0)
        assert watched.status().refusals == 1
        clock.now += 20.0
        assert not watched.refresh_due()
        clock.now += 10.0
        assert watched.refresh_due()

    def test_back_to_what_is_in_service(self, parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "sealwire.rotation")
        watched = parts.watch()
        write(parts.files["one"], "2")
        assert not watched.reload()
        write(parts.files["one"], "1")
        assert watched.reload()
        assert watched.status().refusal is None
        assert watched.status().generation == 1
        assert caplog.records[-1].getMessage() == "parts: the files again hold generation 1, in service"

    def test_a_system_that_has_no_descriptor_left(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        following = parts.watch()
        parts.both("2")
        with monkeypatch.context() as patch:
            patch.setattr(following.__class__, "_validate", Mock(side_effect=OSError(24, "Too many open files")))
            assert following.refresh(0) == "1"
        assert following.status().refusal is not None
        assert following.refresh(0) == "2"

    def test_deleted(self, parts: Parts) -> None:
        watched = parts.watch()
        parts.files["two"].unlink()
        assert not watched.reload()
        assert watched.refresh(0.0) == "1"
        refusal = watched.status().refusal
        assert refusal is not None
        assert refusal.reason == f"{parts.files['two']}: cannot be read (No such file or directory)"
        parts.both("2")
        assert watched.reload()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_unreadable(self, parts: Parts) -> None:
        watched = parts.watch()
        parts.files["two"].chmod(0)
        assert not watched.reload()
        refusal = watched.status().refusal
        assert refusal is not None
        assert "Permission denied" in refusal.reason

    @pytest.mark.parametrize("instead", ["directory", "fifo", "large"])
    def test_something_else_in_its_place(self, parts: Parts, instead: str) -> None:
        watched = parts.watch()
        path = parts.files["two"]
        path.unlink()
        if instead == "directory":
            path.mkdir()
        elif instead == "fifo":
            os.mkfifo(path)
        else:
            write(path, "2" * 101)
        assert not watched.reload()
        assert watched.refresh(0.0) == "1"

    def test_what_was_written_a_moment_ago_is_looked_at_again(self, parts: Parts) -> None:
        """A file that is cut where it makes sense cannot be told from a whole one, but by its writer going on."""
        watched = parts.watch()
        for path in parts.files.values():
            write(path, "2", modified=None)
        assert watched.refresh(0.0) == "1"
        assert watched.status().refusal is None
        for path in parts.files.values():
            write(path, "22", modified=None)
        assert eventually(lambda: watched.refresh(0.0) != "1" and watched.refresh(0.0)) == "22"
        assert parts.proved == ["None->1", "1->22"]

    def test_it_is_looked_at_again_soon(self, parts: Parts) -> None:
        watched = parts.watch()
        for path in parts.files.values():
            write(path, "2", modified=None)
        assert watched.refresh(3600.0) == "1"
        assert eventually(lambda: watched.refresh(3600.0) == "2", timeout=20 * SETTLE_SECONDS)

    def test_a_reload_that_is_asked_for_does_not_wait(self, parts: Parts) -> None:
        watched = parts.watch()
        for path in parts.files.values():
            write(path, "2", modified=None)
        assert watched.reload()
        assert watched.refresh(3600.0) == "2"

    def test_times_in_the_future_say_nothing(self, parts: Parts) -> None:
        watched = parts.watch()
        for path in parts.files.values():
            write(path, "2", modified=4_000_000_000)
        assert watched.refresh(0.0) == "2"

    def test_a_change_of_directory_is_none(self, parts: Parts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(parts.directory)
        watched = Following(parts, {"one": Path("one"), "two": Path("two")})
        monkeypatch.chdir("/")
        parts.both("2")
        assert watched.reload()
        assert watched.current == "2"


class Clock:
    """Instead of the module time, for :mod:`sealwire.trust.reloading`: it stands still, but for ``sleep``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, wall: float = OLD) -> None:
        self.now = 100.0
        self.wall = wall
        self.slept: list[float] = []
        monkeypatch.setattr(reloading, "time", self)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert len(self.slept) < 10
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


class Lock:
    """The lock of a Reloadable, watched: ``meanwhile`` happens while it is waited for, once."""

    def __init__(self, lock: Any, meanwhile: Callable[[], None] | None = None, *, taken: bool = False) -> None:
        self.lock = lock
        self.meanwhile = meanwhile
        self.taken = taken
        self.waited: list[float] = []

    def acquire(self, *, timeout: float) -> bool:
        self.waited.append(timeout)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return not self.taken and bool(self.lock.acquire(timeout=timeout))

    def release(self) -> None:
        self.lock.release()


class TestTimes:
    def test_a_look_is_due_when_the_interval_has_passed(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, watched = Clock(monkeypatch), parts.watch()
        watched.refresh(2.0)
        clock.advance(1.75)
        assert not watched.refresh_due()
        clock.advance(0.25)
        assert watched.refresh_due()

    @pytest.mark.parametrize(
        ("age", "taken"), [(0.0, False), (0.125, False), (SETTLE_SECONDS, True), (-0.125, True), (1.0, True)]
    )
    def test_a_file_is_at_rest_when_that_time_has_passed(
        self, parts: Parts, monkeypatch: pytest.MonkeyPatch, age: float, taken: bool
    ) -> None:
        Clock(monkeypatch, wall=OLD + age)
        watched = parts.watch()
        parts.both("2")
        assert watched.refresh(0.0) == ("2" if taken else "1")
        assert watched.looking == (not taken)

    @pytest.mark.parametrize(("interval", "pause"), [(3600.0, SETTLE_SECONDS), (0.125, 0.125)])
    def test_after_what_is_not_at_rest_the_next_look_is_due_soon(
        self, parts: Parts, monkeypatch: pytest.MonkeyPatch, interval: float, pause: float
    ) -> None:
        clock, watched = Clock(monkeypatch), parts.watch()
        parts.both("2")
        watched.refresh(interval)
        clock.advance(pause - 0.0625)
        assert not watched.refresh_due()
        clock.advance(0.0625)
        assert watched.refresh_due()

    def test_just_after_the_machine_has_started(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the clock that measures intervals has hardly begun."""
        clock = Clock(monkeypatch, wall=OLD + 3600)
        clock.now = 0.5
        watched = parts.watch()
        assert watched.refresh_due()
        assert not watched.looking
        assert watched.may_look()
        parts.both("2")
        watched.look(3600.0, 1.0)
        assert watched.current == "2"

    def test_a_peer_causes_one_look_in_an_interval(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, watched = Clock(monkeypatch), parts.watch()
        assert watched.may_look()
        assert watched.may_look()  # there is a look to wait for
        watched.look(3600.0, 1.0)
        assert not watched.looking
        clock.advance(LOOK_INTERVAL / 2)
        assert not watched.may_look()
        clock.advance(LOOK_INTERVAL / 2)
        assert watched.may_look()

    def test_nothing_is_to_be_looked_at_without_files(self) -> None:
        fixed = Following.__new__(Following)
        fixed._set_fixed("1")
        assert not fixed.may_look()
        fixed.look(3600.0, 1.0)
        assert not fixed.refresh_due()
        assert fixed.current == "1"

    def test_a_look_does_not_wait_for_its_interval(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, watched = Clock(monkeypatch, wall=OLD + 3600), parts.watch()
        watched.refresh(3600.0)
        parts.both("2")
        watched.look(1800.0, 1.0)
        assert watched.current == "2"
        assert clock.slept == []
        clock.advance(1799.0)
        assert not watched.refresh_due()
        clock.advance(1.0)
        assert watched.refresh_due()

    def test_a_look_waits_for_files_that_are_being_written(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, watched = Clock(monkeypatch), parts.watch()
        parts.both("2")
        watched.look(3600.0, 1.0)
        assert watched.current == "2"
        assert clock.slept == [SETTLE_SECONDS]

    def test_but_no_longer_than_it_may_take(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        watched = parts.watch(during=lambda: [os.utime(each, (clock.wall,) * 2) for each in parts.files.values()])
        parts.both("2")
        watched.look(3600.0, 0.625)
        assert watched.current == "1"
        assert clock.slept == [SETTLE_SECONDS, SETTLE_SECONDS, 0.125]

    def test_who_waits_for_another_thread(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        """A look that somebody waits for does, as long as it may take, and a reload that is asked for, always."""
        Clock(monkeypatch)
        watched = parts.watch()
        lock = watched._lock = Lock(watched._lock)
        watched.refresh(0.0)
        watched.look(0.0, 0.5)
        watched.look(0.0, -0.5)
        watched.reload()
        assert lock.waited == [0.0, 0.5, 0.0, -1]

    def test_a_look_ends_when_another_thread_does_not(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, watched = Clock(monkeypatch), parts.watch()
        watched.refresh(3600.0)
        watched._lock = Lock(watched._lock, taken=True)
        watched.look(3600.0, 0.5)
        assert clock.slept == []

    @pytest.mark.parametrize("forced", [False, True])
    def test_a_check_of_another_thread_meanwhile_is_enough_but_for_a_reload_that_is_asked_for(
        self, parts: Parts, monkeypatch: pytest.MonkeyPatch, forced: bool
    ) -> None:
        clock = Clock(monkeypatch, wall=OLD + 3600)
        reads: list[float] = []
        watched = parts.watch(during=lambda: reads.append(clock.now))

        def meanwhile() -> None:
            clock.advance(1.0)
            watched.look(3600.0, 0.0)
            clock.advance(1.0)

        reads.clear()
        watched._lock = Lock(watched._lock, meanwhile)
        watched.reload() if forced else watched.look(3600.0, 5.0)
        assert reads == [101.0, 102.0][: 1 + forced]
        assert clock.slept == []

    def test_a_check_that_was_made_before_is_not(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        Clock(monkeypatch, wall=OLD + 3600)
        watched = parts.watch()
        watched.look(3600.0, 0.5)
        parts.both("2")
        watched.look(3600.0, 0.5)
        assert watched.current == "2"

    def test_it_is_known_that_files_are_being_checked(self, parts: Parts) -> None:
        looking: list[bool] = []
        watched = parts.watch(during=lambda: looking.append(watched.looking) if parts.proved else None)
        watched.refresh(0.0)
        assert looking == [True]
        assert not watched.looking

    def test_what_cannot_be_read_is_waited_for_no_longer(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, watched = Clock(monkeypatch), parts.watch()
        parts.files["two"].unlink()
        watched.look(3600.0, 1.0)
        assert watched.refusal is not None
        assert watched.refusal.digest == ""
        assert not watched.looking
        assert clock.slept == []

    def test_after_a_reload_that_is_asked_for_a_look_is_due(
        self, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Clock(monkeypatch)
        watched = parts.watch()
        watched.refresh(3600.0)
        assert not watched.refresh_due()
        assert watched.reload()
        assert watched.refresh_due()

    def test_since_when_files_are_in_service_or_refused(self, parts: Parts) -> None:
        moments: list[datetime | None] = [datetime.now(UTC)]
        watched = parts.watch()
        moments.append(watched.status().loaded_at)
        moments.append(datetime.now(UTC))
        parts.both("2")
        assert watched.reload()
        moments.append(watched.status().loaded_at)
        write(parts.files["one"], "3")
        assert not watched.reload()
        assert watched.refusal is not None
        moments += [watched.refusal.since, datetime.now(UTC)]
        assert moments == sorted(moments)


class TestFiles:
    def test_the_files_that_are_followed(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        watched = parts.watch()
        assert watched.follows(parts.files)
        monkeypatch.chdir(parts.directory)
        assert watched.follows({"one": "one", "two": "two"})
        assert not watched.follows({"one": "one"})
        assert not watched.follows({"one": "two", "two": "one"})

    def test_paths_may_be_bytes(self, parts: Parts) -> None:
        watched = Following(parts, {part: os.fsencode(path) for part, path in parts.files.items()})
        parts.both("2")
        assert watched.reload()
        assert watched.follows(parts.files)
        parts.files["two"].unlink()
        assert not watched.reload()
        assert watched.refusal is not None
        assert watched.refusal.reason.startswith(f"{parts.files['two']}: cannot be read")

    def test_what_is_refused_is_in_the_audit_log(self, parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
        watched = parts.watch()
        write(parts.files["one"], "2")
        assert not watched.reload()
        (record,) = audited(caplog, "reload.refused")
        assert (record["files"], record["generation"], record["why"]) == ("parts", 1, "they do not fit")
        assert record["digest"] == watched.status().digest
        assert watched.refusal is not None
        assert watched.refusal.digest == digest_of(
            {part: FileContent(b, 0) for part, b in (("one", b"2"), ("two", b"1"))}
        )

    def test_each_other_content_that_is_refused_counts(self, parts: Parts) -> None:
        watched = parts.watch()
        for text, count in (("2", 1), ("2", 1), ("3", 2), ("2", 3)):
            write(parts.files["one"], text)
            assert not watched.reload()
            assert watched.status().refusals == count


class TestDirectories:
    """As Kubernetes does it: ``..data`` is a link to a directory, and the files are links through it."""

    @pytest.fixture
    def swapped(self, tmp_path: Path) -> Parts:
        parts = Parts(tmp_path)
        for path in parts.files.values():
            path.unlink()
            path.symlink_to(Path("..data", path.name))
        self.swap(parts, "1")
        return parts

    def swap(self, parts: Parts, text: str) -> None:
        new = parts.directory / f"..{text}"
        new.mkdir()
        for path in parts.files.values():
            write(new / path.name, text)
        link = parts.directory / "..data"
        old = link.resolve() if link.is_symlink() else None
        (parts.directory / "..data_tmp").symlink_to(new.name)
        os.rename(parts.directory / "..data_tmp", link)
        if old is not None:
            shutil.rmtree(old)

    def test_again_and_again(self, swapped: Parts) -> None:
        watched = swapped.watch()
        for number in range(2, 7):
            self.swap(swapped, str(number))
            assert watched.refresh(0.0) == str(number)
            assert watched.status().generation == number

    def test_while_it_is_read(self, swapped: Parts) -> None:
        names = iter("2")
        watched = swapped.watch()

        def during() -> None:
            for name in names:
                self.swap(swapped, name)

        again = swapped.watch(during=during)
        assert again.refresh(0.0) == "2"
        assert swapped.proved == ["None->1", "None->2"]  # never of 1 and 2 together
        assert watched.refresh(0.0) == "2"

    def test_all_the_time(self, swapped: Parts) -> None:
        watched = swapped.watch()
        names = iter(map(str, range(2, 100)))
        busy = swapped.watch(during=lambda: self.swap(swapped, next(names)) if len(swapped.proved) > 1 else None)
        assert not busy.reload()
        refusal = busy.status().refusal
        assert refusal is not None
        assert "replaced again and again while they were read" in refusal.reason
        assert watched.reload()


class TestThreadsAndProcesses:
    def test_the_current_value_is_read_from_no_file(self, parts: Parts) -> None:
        watched = parts.watch(during=lambda: pytest.fail("a file was read") if parts.proved else None)
        parts.both("2")
        assert watched.current == "1"
        assert watched.refresh_due()
        assert watched.status().generation == 1

    def test_one_looks_and_the_others_go_on(self, parts: Parts) -> None:
        looking, go_on = threading.Event(), threading.Event()

        def during() -> None:
            looking.set()
            assert go_on.wait(10)

        go_on.set()
        watched = parts.watch(during=during)
        go_on.clear()
        looking.clear()
        parts.both("2")
        other = threading.Thread(target=watched.refresh, args=[0.0])
        other.start()
        assert looking.wait(10)
        assert watched.refresh(0.0) == "1"
        assert not watched.let_go()
        go_on.set()
        other.join()
        assert watched.refresh(3600.0) == "2"

    def test_an_exception_of_a_signal_handler_locks_nobody_out(self, parts: Parts) -> None:
        """Raised just after the lock was acquired, it leaves it to other threads."""
        watched = parts.watch()
        lock = watched._lock

        class Interrupting:
            def acquire(self, *, timeout: float) -> None:
                assert lock.acquire(timeout=timeout)
                raise KeyboardInterrupt

            def release(self) -> None:
                lock.release()

        watched._lock = Interrupting()  # as a signal handler would
        with pytest.raises(KeyboardInterrupt):
            watched.reload()
        watched._lock = lock
        with ThreadPoolExecutor(1) as executor:
            assert executor.submit(lock.acquire, timeout=0).result(10)

    def test_a_forked_child_has_its_own_lock(self, parts: Parts) -> None:
        watched = parts.watch()
        parts.both("2")
        with watched._lock:  # as of a thread that the child does not have
            pid = os.fork()
            if pid == 0:
                os._exit(0 if watched.refresh(0.0) == "2" else 1)
            assert os.waitpid(pid, 0)[1] == 0
