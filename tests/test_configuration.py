"""The configuration file of a Security: what it makes, who is asked first, and how processes agree on it."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sealwire.configuration import ConfigurationFile
from sealwire.errors import ConfigurationError
from sealwire.trust import reloading
from support.events import audited, logged

pytestmark = pytest.mark.usefixtures("clean")

LONG_AGO = 1_600_000_000
Maker = Callable[[dict[str, Any], Path, "Made | None"], "Made"]


@dataclass
class Made:
    """What the file of these tests makes: its tables, and the arguments of the maker."""

    document: dict[str, Any]
    directory: Path
    previous: Made | None

    @property
    def name(self) -> str:
        return str(self.document["name"])

    @property
    def waiting(self) -> dict[str, tuple[object, object]]:
        first = self if self.previous is None else self.previous
        return {key: (self.document[key], old) for key, old in first.document.items() if key.startswith("fixed")}


class Server:
    """One that uses the configuration, and cannot do with some."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def check(self, made: Made) -> None:
        self.shown.append(made.name)
        if made.name == "bad":
            raise ConfigurationError("not for this server")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "sealwire.toml", 'name = "one"\n')


def write(path: Path, text: str, *, at_rest: bool = True) -> Path:
    path.write_text(text)
    if at_rest:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def follow(path: Path | str, make: Maker | None = None) -> ConfigurationFile[Made]:
    return ConfigurationFile(path, make or Made)


def refusal(file: ConfigurationFile[Made]) -> str:
    assert not file.reload()
    assert file.refusal is not None
    return file.refusal.reason


def in_a_child(action: Callable[[], object]) -> None:
    """Run it in a forked process, where it must not be false."""
    if (pid := os.fork()) == 0:
        with suppress(BaseException):
            os._exit(0 if action() else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class TestMaking:
    def test_the_tables_the_directory_and_the_value_in_service(self, path: Path) -> None:
        file = follow(path)
        first = file.current
        assert (first.document, first.directory, first.previous) == ({"name": "one"}, path.parent, None)
        write(path, 'name = "two"\n')
        assert file.reload()
        assert (file.current.name, file.current.directory) == ("two", path.parent)
        assert file.current.previous is first

    def test_a_path_without_a_directory_after_a_change_of_directory(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(path.parent)
        file = follow(path.name)
        assert file.current.directory == Path()
        monkeypatch.chdir("/")
        write(path, 'name = "two"\n')
        assert file.reload()
        assert file.current.directory == path.parent

    def test_an_error_names_the_file(self, path: Path) -> None:
        file = follow(path)
        write(path, "name =")
        assert refusal(file).startswith(f"{path}: not valid TOML")
        with pytest.raises(ConfigurationError, match=f"^{path}: not valid TOML"):
            follow(path)

    def test_a_file_may_have_16_mib(self, path: Path) -> None:
        file = follow(path)
        os.truncate(path, 16 << 20)
        assert refusal(file).startswith(f"{path}: not valid TOML")
        os.truncate(path, (16 << 20) + 1)
        assert refusal(file) == f"{path}: larger than {16 << 20} bytes"

    def test_what_is_reported_has_its_name(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        file = follow(path)
        write(path, 'name = "two"\n')
        assert file.reload()
        (record,) = audited(caplog, "reload.taken")
        assert (record["files"], record["generation"]) == ("configuration", 2)


class TestChecks:
    def test_each_later_value_is_shown_to_all_who_use_it(self, path: Path) -> None:
        file = follow(path)
        servers = [Server(), Server()]
        for each in servers:
            file.require(each.check)
        write(path, 'name = "two"\n')
        assert file.reload()
        assert [each.shown for each in servers] == [["two"], ["two"]]

    def test_what_one_cannot_use_comes_into_service_for_none(self, path: Path) -> None:
        file = follow(path)
        servers = [Server(), Server()]
        for each in servers:
            file.require(each.check)
        first = file.current
        write(path, 'name = "bad"\n')
        assert refusal(file) == f"{path}: not for this server"
        assert file.current is first
        assert [each.shown for each in servers] == [["bad"], []]

    def test_one_that_is_gone_is_not_asked(self, path: Path) -> None:
        file = follow(path)
        gone, there = Server(), Server()
        shown = gone.shown
        file.require(gone.check)
        file.require(there.check)
        del gone
        gc.collect()
        write(path, 'name = "two"\n')
        assert file.reload()
        assert (shown, there.shown) == ([], ["two"])
        another = Server()
        file.require(another.check)
        write(path, 'name = "bad"\n')
        assert not file.reload()
        assert there.shown == ["two", "bad"]


class TestWaiting:
    def test_the_settings_that_need_a_restart_are_reported(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write(path, 'name = "one"\nfixed = 1\nfixed_too = "a"\n')
        file = follow(path)
        write(path, 'name = "two"\nfixed = 2\nfixed_too = "b"\n')
        assert file.reload()
        assert file.status().waiting == ("fixed", "fixed_too")
        records = logged(caplog, "sealwire.rotation")
        waits = [each for each in records if each.__dict__["audit"]["event"] == "reload.waits"]
        assert [(each.__dict__["audit"]["files"], each.__dict__["audit"]["setting"]) for each in waits] == [
            ("configuration", "fixed"), ("configuration", "fixed_too"),
        ]  # fmt: skip
        assert waits[1].getMessage().startswith("configuration: fixed_too is 'b' in the file and stays 'a': ")

    def test_the_status_is_that_of_the_file(self, path: Path) -> None:
        file = follow(path)
        status = file.status()
        assert (status.generation, status.files, status.refusal) == (1, {"configuration": str(path)}, None)
        write(path, 'name = "two"\n')
        assert file.reload()
        assert (file.status().generation, file.status().waiting) == (2, ())
        assert file.status().digest != status.digest


class TestProcesses:
    def test_one_tells_the_others(self, path: Path) -> None:
        file = follow(path)
        assert not file.announced
        write(path, 'name = "two"\n')
        in_a_child(lambda: file.reload() and file.current.name == "two" and not file.announced)
        assert file.announced
        assert file.current.name == "one"
        file.follow()
        assert file.current.name == "two"
        assert not file.announced
        assert file.refresh_due()

    def test_following_reads_the_file_though_none_has_told(self, path: Path) -> None:
        file = follow(path)
        write(path, 'name = "two"\n')
        file.follow()
        assert file.current.name == "two"

    def test_what_it_has_taken_itself_is_no_news(self, path: Path) -> None:
        file = follow(path)
        for name in ("two", "one"):
            write(path, f'name = "{name}"\n')
            assert file.reload()
            assert not file.announced

    def test_a_refused_file_is_no_news(self, path: Path) -> None:
        file = follow(path)
        write(path, "name =")
        in_a_child(lambda: not file.reload())
        assert not file.announced

    @pytest.mark.parametrize(("more", "taken"), [("", "two"), ("# more\n", "one")])
    def test_what_another_has_taken_need_not_be_at_rest(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, more: str, taken: str
    ) -> None:
        """But what was written since then is another file, to be looked at again when it is at rest."""
        monkeypatch.setattr(reloading, "SETTLE_SECONDS", 3600.0)
        file = follow(path)
        text = 'name = "two"\n'
        write(path, text, at_rest=False)
        file.refresh(0.0)
        assert file.current.name == "one"
        in_a_child(file.reload)
        write(path, text + more, at_rest=False)
        file.follow()
        assert file.current.name == taken
        assert file.announced is (taken == "one")
        write(path, text + more)
        file.follow()
        assert file.current.name == "two"

    def test_a_file_at_rest_needs_nobody_to_tell(self, path: Path) -> None:
        file = follow(path)
        write(path, 'name = "two"\n')
        file.refresh(0.0)
        assert file.current.name == "two"

    def test_following_waits_for_another_thread_that_reads(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file, go_on, other = being_read(path)
        main = threading.get_ident()

        def monotonic() -> float:
            if threading.get_ident() == main:  # it is about to wait
                go_on.set()
            return time.monotonic()

        monkeypatch.setattr("sealwire.configuration.LOOK_PATIENCE", 30.0)
        with monkeypatch.context() as patch:
            patch.setattr(reloading, "time", SimpleNamespace(monotonic=monotonic, time=time.time))
            file.follow()
        assert file.current.name == "two"
        other.join()

    def test_if_that_takes_long_the_next_one_follows(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the other thread reads may be older than what was announced."""
        monkeypatch.setattr("sealwire.configuration.LOOK_PATIENCE", 0.0)
        file, go_on, other = being_read(path)
        write(path, 'name = "three"\n')
        in_a_child(lambda: go_on.set() or file.reload())
        assert file.announced
        file.follow()
        assert file.announced
        go_on.set()
        other.join()
        assert file.current.name == "two"
        assert file.announced
        file.follow()
        assert file.current.name == "three"
        file.follow()
        assert not file.announced


def being_read(path: Path) -> tuple[ConfigurationFile[Made], threading.Event, threading.Thread]:
    """A file that another thread reads, until the event is set."""
    reading, go_on = threading.Event(), threading.Event()

    def make(document: dict[str, Any], directory: Path, previous: Made | None) -> Made:
        reading.set()
        assert go_on.wait(30)
        return Made(document, directory, previous)

    go_on.set()
    file = follow(path, make)
    go_on.clear()
    reading.clear()
    write(path, 'name = "two"\n')
    other = threading.Thread(target=file.reload)
    other.start()
    assert reading.wait(30)
    return file, go_on, other
