"""Files that are replaced under a running service, in every way in which files are replaced."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sealwire import ConfigurationError, Credentials, Keyring
from sealwire.rotation import SETTLED, Content, Contents, Watched, read_file
from sealwire.testing import Throwaway
from sealwire.tls.files import PRIVATE, NewFile, write_files
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

    def watch(self, *, during: Callable[[], None] = lambda: None) -> Watched[str]:
        """``during``: called between the readings of the two files."""

        def read(part: str, path: str | os.PathLike[str]) -> Content:
            if part == "two":
                during()
            return read_file(path, most=100)

        return Watched("parts", self.files, read=read, prove=self.prove)

    def prove(self, contents: Contents, previous: str | None) -> str:
        one, two = contents["one"].decode(), contents["two"].decode()
        if one != two:
            raise ConfigurationError("they do not fit")
        self.proved.append(f"{previous}->{one}")
        return one


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


class TestWatched:
    def test_first_generation(self, parts: Parts) -> None:
        watched = parts.watch()
        assert watched.refresh(0.0) == "1"
        assert watched.generation.number == 1
        assert watched.refusal is None
        assert parts.proved == ["None->1"]

    def test_what_cannot_be_proved_is_no_beginning(self, parts: Parts) -> None:
        write(parts.files["one"], "2")
        with pytest.raises(ConfigurationError, match="do not fit"):
            parts.watch()

    def test_another_generation(self, parts: Parts) -> None:
        watched = parts.watch()
        first = watched.generation
        parts.both("2")
        assert watched.refresh(0.0) == "2"
        assert (watched.generation.number, first.number, first.value) == (2, 1, "1")
        assert watched.generation.digest != first.digest
        assert parts.proved[1:] == ["1->2"]

    def test_the_same_content_is_no_new_generation(self, parts: Parts) -> None:
        watched = parts.watch()
        for path in parts.files.values():
            path.unlink()
        parts.both("1")
        assert watched.refresh(0.0) == "1"
        assert watched.generation.number == 1

    def test_at_most_once_in_an_interval(self, parts: Parts) -> None:
        watched = parts.watch()
        watched.refresh(3600.0)
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
        assert watched.refusal is not None
        assert watched.refusal.reason == "they do not fit"
        assert watched.refusals == 1
        assert [record.getMessage() for record in caplog.records] == [
            "parts: what the files hold now is not taken, generation 1 stays in service: they do not fit"
        ]
        write(parts.files[order[1]], "2")
        assert watched.refresh(0.0) == "2"
        assert watched.refusal is None
        digest = watched.generation.digest[:12]
        assert caplog.records[-1].getMessage() == f"parts: generation 2 in service (digest {digest}): 2"

    def test_back_to_what_is_in_service(self, parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "sealwire.rotation")
        watched = parts.watch()
        write(parts.files["one"], "2")
        assert not watched.reload()
        write(parts.files["one"], "1")
        assert watched.reload()
        assert watched.refusal is None
        assert watched.generation.number == 1
        assert caplog.records[-1].getMessage() == "parts: the files hold what is in service again"

    def test_deleted(self, parts: Parts) -> None:
        watched = parts.watch()
        parts.files["two"].unlink()
        assert not watched.reload()
        assert watched.refresh(0.0) == "1"
        assert watched.refusal is not None
        assert watched.refusal.reason == f"{parts.files['two']}: cannot be read (No such file or directory)"
        parts.both("2")
        assert watched.reload()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_unreadable(self, parts: Parts) -> None:
        watched = parts.watch()
        parts.files["two"].chmod(0)
        assert not watched.reload()
        assert watched.refusal is not None
        assert "Permission denied" in watched.refusal.reason

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
        assert watched.refusal is None
        for path in parts.files.values():
            write(path, "22", modified=None)
        assert eventually(lambda: watched.refresh(0.0) != "1" and watched.refresh(0.0)) == "22"
        assert parts.proved == ["None->1", "1->22"]

    def test_it_is_looked_at_again_soon(self, parts: Parts) -> None:
        watched = parts.watch()
        for path in parts.files.values():
            write(path, "2", modified=None)
        assert watched.refresh(3600.0) == "1"
        assert eventually(lambda: watched.refresh(3600.0) == "2", timeout=20 * SETTLED)

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
        watched = Watched(
            "parts",
            {"one": "one", "two": "two"},
            read=lambda _, path: read_file(path, most=100),
            prove=parts.prove,
        )
        monkeypatch.chdir("/")
        parts.both("2")
        assert watched.reload()
        assert watched.generation.value == "2"


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
            assert watched.generation.number == number

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
        assert busy.refusal is not None
        assert "replaced again and again while they were read" in busy.refusal.reason
        assert watched.reload()


class TestThreadsAndProcesses:
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
        go_on.set()
        other.join()
        assert watched.refresh(3600.0) == "2"

    def test_a_forked_child_has_its_own_lock(self, parts: Parts) -> None:
        watched = parts.watch()
        parts.both("2")
        with watched._lock:  # as of a thread that the child does not have
            pid = os.fork()
            if pid == 0:
                os._exit(0 if watched.refresh(0.0) == "2" else 1)
            assert os.waitpid(pid, 0)[1] == 0


class TestKeyrings:
    def write(self, path: Path, *ids: str, mode: int = PRIVATE) -> None:
        text = "".join(f'[[key]]\nid = "{name}"\nsecret = "{"A" * 43}="\n' for name in ids)
        write_files([NewFile(path, text.encode(), mode)], replace=path.exists())

    def test_follow_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "keyring.toml"
        self.write(path, "k1")
        ring = Keyring.from_file(path)
        before = ring.current
        self.write(path, "k1", "k2")
        assert ring.reload()
        assert [key.id for key in ring] == ["k1", "k2"]
        assert [key.id for key in before] == ["k1"]
        status = ring.status()
        assert (status.generation, status.file, len(status.keys), status.refusal) == (2, str(path), 2, None)

    @pytest.mark.parametrize("bad", ["", "[[key]]", "\0", "[[key]]\nid = 'k3'\nsecret = 'AAAA'\n", None])
    def test_what_is_no_keyring_is_not_taken(self, tmp_path: Path, bad: str | None) -> None:
        path = tmp_path / "keyring.toml"
        self.write(path, "k1")
        ring = Keyring.from_file(path)
        if bad is None:
            path.chmod(0o644)
            path.write_text(path.read_text().replace("k1", "k2"))
        else:
            path.write_text(bad)
        assert not ring.reload()
        assert [key.id for key in ring] == ["k1"]
        refusal = ring.status().refusal
        assert refusal is not None
        assert refusal.reason.startswith(f"{path}: ")
        self.write(path, "k4")
        assert ring.reload()

    def test_of_keys_there_is_nothing_to_follow(self, tmp_path: Path) -> None:
        path = tmp_path / "keyring.toml"
        self.write(path, "k1")
        ring = Keyring(Keyring.from_file(path))
        assert ring.reload()
        assert ring.status().file is None
        assert ring.refresh(0.0) is ring.current


class TestCredentials:
    @pytest.fixture
    def place(self, tmp_path: Path) -> Throwaway:
        place = Throwaway(tmp_path)
        place.leaf("server", "localhost", "127.0.0.1")
        return place

    def load(self, place: Throwaway, **files: Path) -> Credentials:
        return Credentials.from_files(
            **{"cert": place.directory / "server.pem", "key": place.directory / "server.key", "ca": place.ca} | files
        )

    def test_another_leaf(self, place: Throwaway) -> None:
        credentials = self.load(place)
        before = credentials.current
        place.leaf("server", "localhost", "127.0.0.1")
        assert credentials.reload()
        assert credentials.current is not before
        assert credentials.leaf != before.leaf
        status = credentials.status()
        assert (status.generation, status.refusal, status.chain_problem, status.revoked) == (2, None, None, False)
        assert status.identity == credentials.identity
        assert status.files["cert"] == str(place.directory / "server.pem")

    def test_torn_in_every_place(self, place: Throwaway) -> None:
        """Cut anywhere, a file is either refused or, with no more than an end of line missing, the same."""
        credentials = self.load(place)
        before = credentials.current
        for name in ("server.pem", "server.key", "ca.pem"):
            whole = (place.directory / name).read_bytes()
            for length in range(0, len(whole), 7):
                (place.directory / name).write_bytes(whole[:length])
                taken = credentials.reload()
                assert credentials.leaf == before.leaf
                assert credentials.current.anchors == before.anchors
                assert taken is False, (name, length)
            (place.directory / name).write_bytes(whole)
            assert credentials.reload()

    def test_a_repr_has_no_key(self, place: Throwaway, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        credentials = self.load(place)
        (place.directory / "server.key").write_bytes(b"garbage")
        assert not credentials.reload()
        place.leaf("server", "localhost", "127.0.0.1")
        assert credentials.reload()
        shown = caplog.text + repr(credentials) + repr(credentials.current) + repr(credentials.status())
        assert "PRIVATE" not in shown
        assert "b'" not in shown
