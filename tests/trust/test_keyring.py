from __future__ import annotations

import base64
import copy
import os
import pickle
import random
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import ConfigurationError
from sealwire.trust import reloading
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.key_snapshot import CLOCK_SKEW
from sealwire.trust.keyring import Keyring
from sealwire.trust.reloading import STEADY_LOOKS
from sealwire.wire.keys import Key
from support.events import audited

SECRET = random.Random(1).randbytes(32)
BASE64 = base64.b64encode(SECRET).decode()
ENTRY = f'[[key]]\nid = "k1"\nsecret = "{BASE64}"\n'
NOW = datetime(2026, 11, 20, tzinfo=UTC)
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


def key(name: str, start: int | None = None, end: int | None = None) -> Key:
    """A key valid from and to so many days from now."""
    return Key(
        name,
        SECRET,
        not_before=None if start is None else NOW + start * DAY,
        not_after=None if end is None else NOW + end * DAY,
    )


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def refusal(source: Path | str, *secrets: str) -> str:
    """The error's message, which no more than its whole chain holds a secret."""
    with pytest.raises(ConfigurationError) as caught:
        Keyring.from_file(source) if isinstance(source, Path) else Keyring.from_toml(source, source="file")
    error: BaseException | None = caught.value
    shown = "".join(traceback.format_exception(caught.value))
    while error is not None:
        shown += str(error) + repr(error) + repr(vars(error)) + repr(error.args)
        error = error.__cause__ or error.__context__
    for secret in (BASE64, SECRET.hex(), repr(SECRET), *secrets):
        assert secret not in shown
    return str(caught.value)


class TestSigning:
    def test_the_newest_valid_key(self) -> None:
        keyring = Keyring([key("old", -9), key("new", -1), key("older", -99), key("coming", 1), key("gone", -1, 0)])
        assert keyring.signing_key(NOW + timedelta(seconds=1)).id == "new"

    def test_moves_on_when_the_next_becomes_valid(self) -> None:
        keyring = Keyring([key("one", -9, 9), key("two", 1, 20)])
        assert [keyring.signing_key(NOW + days * DAY).id for days in (0, 1, 9, 10)] == ["one", "two", "two", "two"]

    def test_a_key_without_a_beginning_is_the_oldest(self) -> None:
        assert Keyring([key("new", -9), key("always")]).signing_key(NOW).id == "new"

    def test_of_equals_the_last(self) -> None:
        assert Keyring([key("one", -1), key("two", -1), key("three", -2)]).signing_key(NOW).id == "two"
        assert Keyring([key("one"), key("two")]).signing_key(NOW).id == "two"

    def test_both_ends_are_inclusive(self) -> None:
        keyring = Keyring([key("k", 0, 1)])
        for moment in (NOW, NOW + DAY):
            assert keyring.signing_key(moment).id == "k"
        for moment in (NOW - INSTANT, NOW + DAY + INSTANT):
            with pytest.raises(ConfigurationError, match="is valid now"):
                keyring.signing_key(moment)

    def test_only_one_that_this_identity_may_use(self) -> None:
        keyring = Keyring([key("theirs", -1), key("ours", -9)])
        assert keyring.signing_key(NOW, usable=lambda key: key.id == "ours").id == "ours"
        with pytest.raises(ConfigurationError, match="'theirs', 'ours'"):
            keyring.signing_key(NOW, usable=lambda key: False)

    def test_the_error_names_the_client_and_the_owners_of_the_keys(self) -> None:
        keys = Keyring([Key("theirs", SECRET, identity="dns:b.example"), key("gone", -9, -1)]).current
        for options, client in (({}, ""), ({"owner": "dns:a.example"}, " for dns:a.example")):
            with pytest.raises(ConfigurationError) as refused:
                keys.signing_key(NOW, usable=lambda _: False, **options)
            assert str(refused.value) == (
                f"no key of the keyring ('theirs' for dns:b.example, 'gone') is valid now{client}; add a key, "
                "or check this machine's clock"
            )

    def test_clocks_in_other_zones(self) -> None:
        keyring = Keyring.from_toml(ENTRY + "not_after = 2026-11-20T02:00:00+02:00\n")
        assert keyring.signing_key(NOW)
        with pytest.raises(ConfigurationError):
            keyring.signing_key(NOW + timedelta(seconds=1))


class TestVerifying:
    """The key that a client has named, if it may use it now."""

    @pytest.mark.parametrize(
        ("start", "end", "late", "found"),
        [
            (None, None, timedelta(0), True),
            (0, None, timedelta(0), True),
            (0, None, -CLOCK_SKEW, True),
            (0, None, -CLOCK_SKEW - INSTANT, False),
            (None, 0, timedelta(0), True),
            (None, 0, -DAY, True),
            (None, 0, INSTANT, False),
            (0, 1, DAY, True),
            (0, 1, DAY + INSTANT, False),
            (0, 1, -DAY, False),
        ],
    )
    def test_when(self, start: int | None, end: int | None, late: timedelta, found: bool) -> None:
        snapshot = Keyring([key("other"), key("k", start, end)]).current
        assert snapshot.verifying_key("k", NOW + late, None) is (snapshot.get("k") if found else None)

    def test_unknown(self) -> None:
        assert Keyring([key("k")]).current.verifying_key("K", NOW, None) is None

    def test_who(self) -> None:
        snapshot = Keyring([Key("bound", SECRET, identity="dns:a.example"), key("free")]).current
        bound, free = snapshot
        ours, theirs = PeerIdentity(dns=("a.example",)), PeerIdentity(dns=("b.example",))
        assert snapshot.verifying_key("bound", NOW, ours) is bound
        assert snapshot.verifying_key("bound", NOW, theirs) is None
        assert snapshot.verifying_key("bound", NOW, None) is None
        for identity in (ours, theirs, None):
            assert snapshot.verifying_key("free", NOW, identity) is free


class TestSet:
    def test_get_finds_every_key_valid_or_not(self) -> None:
        keyring = Keyring([key("old", -9, -8), key("now")])
        assert [found.id for found in (keyring.get("old"), keyring.get("now")) if found] == ["old", "now"]
        assert keyring.get("NOW") is None
        assert [each.id for each in keyring] == ["old", "now"]
        assert len(keyring) == 2

    def test_needs_a_key(self) -> None:
        with pytest.raises(ConfigurationError, match="at least one"):
            Keyring([])

    def test_ids_differ(self) -> None:
        with pytest.raises(ConfigurationError, match="'a'"):
            Keyring([key("b"), key("a"), key("a", 1)])

    def test_is_not_changed_by_its_source(self) -> None:
        keys = [key("a")]
        keyring = Keyring(keys)
        keys.append(key("b"))
        assert keyring.get("b") is None
        with pytest.raises(AttributeError):
            keyring.extra = 1

    def test_shows_no_secret(self) -> None:
        keyring = Keyring.from_toml(ENTRY)
        assert repr(keyring) == str(keyring) == "<Keyring 'k1', secrets redacted>"
        for shown in (f"{keyring!r}{list(keyring)!r}", "%s" % keyring.get("k1")):  # noqa: UP031 - one more way to show it
            assert BASE64 not in shown
            assert repr(SECRET)[2:-1] not in shown

    def test_is_not_copied_out(self) -> None:
        for action in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="secrets"):
                action(Keyring([key("a")]))


class TestFile:
    def test_read(self, tmp_path: Path) -> None:
        text = (
            ENTRY
            + "not_before = 2026-11-01T00:00:00Z\nnot_after = 2027-02-01T00:00:00.5-01:00\n"
            + (f'identity = "dns:client.example"\n[[key]]\nid = "k2"\nsecret = "{BASE64}"\n')
        )
        one, two = Keyring.from_file(write(tmp_path / "keyring.toml", text))
        assert (one.id, one.secret, one.identity) == ("k1", SECRET, "dns:client.example")
        assert one.not_before == datetime(2026, 11, 1, tzinfo=UTC)
        assert one.not_after == datetime(2027, 2, 1, 1, 0, 0, 500_000, tzinfo=UTC)
        assert (two.id, two.not_before, two.not_after, two.identity) == ("k2", None, None, None)

    def test_line_ends_of_windows(self, tmp_path: Path) -> None:
        assert Keyring.from_file(write(tmp_path / "keyring.toml", ENTRY.replace("\n", "\r\n"))).get("k1")

    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_modes_that_keep_others_out(self, tmp_path: Path, mode: int) -> None:
        assert Keyring.from_file(write(tmp_path / "keyring.toml", ENTRY, mode))

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o700, 0o666, 0o777, 0o4644])
    def test_other_modes(self, tmp_path: Path, mode: int) -> None:
        path = write(tmp_path / "keyring.toml", ENTRY, mode)
        message = refusal(path)
        assert message.startswith(f"{path}: mode {mode:04o} ")
        assert f"chmod 600 {path}" in message

    def test_the_mode_is_that_of_the_file_and_not_of_the_link(self, tmp_path: Path) -> None:
        path = write(tmp_path / "keyring.toml", ENTRY)
        link = tmp_path / "link"
        link.symlink_to(path)
        assert Keyring.from_file(link).get("k1")
        path.chmod(0o644)
        assert "mode 0644" in refusal(link)

    def test_the_mode_is_that_of_what_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replaced right after it was opened, by a file whose mode is good."""
        path = write(tmp_path / "keyring.toml", ENTRY, 0o644)
        good = write(tmp_path / "good.toml", ENTRY.replace("k1", "evil"))
        real = os.open

        def racing(name: str, flags: int, *rest: int) -> int:
            descriptor = real(name, flags, *rest)
            if str(name) == str(path):
                os.replace(good, path)
            return descriptor

        monkeypatch.setattr(os, "open", racing)
        assert "mode 0644" in refusal(path)
        assert not good.exists()

    def test_missing(self, tmp_path: Path) -> None:
        message = refusal(tmp_path / "missing")
        assert message.startswith(f"{tmp_path}/missing: cannot be read (No such file or directory)")
        assert "sealwire keys new" in message

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_unreadable(self, tmp_path: Path) -> None:
        assert "Permission denied" in refusal(write(tmp_path / "keyring.toml", ENTRY, 0))

    def test_directory(self, tmp_path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        assert "Is a directory" in refusal(tmp_path)
        assert len(os.listdir("/proc/self/fd")) == before

    def test_dangling_link_and_loop(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        assert "symbolic links" in refusal(tmp_path / "loop")
        assert "No such file" in refusal(tmp_path / "dangling")

    @pytest.mark.parametrize("writer", [False, True])
    def test_fifo_does_not_stop_us(self, tmp_path: Path, writer: bool) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo, 0o600)
        other_end = os.open(fifo, os.O_RDWR) if writer else None
        try:
            assert "regular file" in refusal(fifo)
        finally:
            if other_end is not None:
                os.close(other_end)

    def test_device(self) -> None:
        assert "regular file" in refusal(Path("/dev/zero"))

    @pytest.mark.parametrize("name", ["a\0b", "\ud800"])
    def test_no_path_at_all(self, name: str) -> None:
        assert repr(name) in refusal(Path(name))

    def test_huge(self, tmp_path: Path) -> None:
        path = write(tmp_path / "keyring.toml", ENTRY)
        os.truncate(path, 64 << 20)
        assert "not valid TOML" in refusal(path)
        os.truncate(path, (64 << 20) + 1)
        assert "larger than 67108864 bytes" in refusal(path)
        os.truncate(path, 1 << 40)
        assert "larger than 67108864 bytes" in refusal(path)

    def test_one_that_cannot_be_seen_is_not_taken_for_missing(self, tmp_path: Path) -> None:
        path = write(tmp_path / "file", "text")
        assert "make a keyring with" in refusal(tmp_path / "keyring.toml")
        assert "make a keyring with" not in refusal(path / "keyring.toml")

    def test_another_file_in_its_place(self, tmp_path: Path) -> None:
        """What is wrong with it is not its mode."""
        path = write(tmp_path / "server.toml", 'cert = "a.pem"\n')
        path.chmod(0o644)
        assert refusal(path).startswith(f"{path}: not a keyring, which has [[key]] tables")

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (ENTRY.encode() + b"\xff", "not valid TOML: not UTF-8"),
            (ENTRY.encode("utf-16"), "not valid TOML: not UTF-8"),
            (b"\xef\xbb\xbf" + ENTRY.encode(), "not valid TOML"),
            (ENTRY.encode() + b"\0", "not valid TOML"),
            (b"", "not a keyring, which has [[key]] tables"),
        ],
    )
    def test_other_content(self, tmp_path: Path, content: bytes, problem: str) -> None:
        path = write(tmp_path / "keyring.toml", content)
        assert refusal(path).startswith(f"{path}: {problem}")


class TestText:
    @pytest.mark.parametrize(
        "text",
        [
            f'[[key]]\nid = "k1"\nsecret = {BASE64}\n',
            f'[[key]]\nid = "k1"\nsecret = "{BASE64}\n',
            f"[[key]]\n{BASE64}\n",
            f'[[key]]\nsecret = "{BASE64}"\nsecret = "{BASE64}"\n',
            f'[[key]]\n"{BASE64}" = 1\n"{BASE64}" = 2\n',
            f'key = "{BASE64}"\n[[key]]\nid = 1\n',
            "x = " + "[" * 100_000,
            "x = " + "1" * 5_000,
            "x = 2026-02-30",
            ENTRY + "not_after = 2026-13-01T00:00:00Z\n",
        ],
    )
    def test_no_toml(self, text: str) -> None:
        assert (
            refusal(text) == "file: not valid TOML; compare it with what `sealwire keys new --file example.toml` writes"
        )

    @pytest.mark.parametrize(
        "text",
        [
            "", f'key = "{BASE64}"', "key = []\nx = 1", "[key]\n", ENTRY + "[other]\n", f'"{BASE64}" = 1\n' + ENTRY,
            f'id = "k1"\nsecret = "{BASE64}"\n',
        ],
    )  # fmt: skip
    def test_other_tables(self, text: str) -> None:
        assert refusal(text) == "file: not a keyring, which has [[key]] tables and nothing else"

    def test_half_of_a_character(self) -> None:
        assert refusal(ENTRY + "# \ud800").startswith("file: not valid TOML: not UTF-8")

    def test_a_text_without_a_name_is_a_keyring(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^keyring: not a keyring"):
            Keyring.from_toml("")

    def test_no_keys(self) -> None:
        assert "at least one [[key]] table" in refusal("key = []")

    def test_what_is_not_a_table_is_named_by_its_number(self) -> None:
        assert refusal(f'key = ["{BASE64}"]') == "file: [[key]] number 1: expected a table"
        assert refusal('key = [[{id = "k"}]]') == "file: [[key]] number 1: expected a table"
        assert "number 2" in refusal(ENTRY + "[[key]]\n")

    def test_same_id_twice(self) -> None:
        assert refusal(ENTRY + ENTRY) == "file: two keys of a keyring have the id 'k1'; ids must differ"

    def test_no_list_of_keys(self) -> None:
        key = Key("k1", bytes(32))
        for keys in ([key, 5], 5, None, key, "k1"):
            with pytest.raises(ConfigurationError, match="takes a list of keys"):
                Keyring(keys)
        with pytest.raises(ConfigurationError, match="two keys of a keyring have the id 'k1'"):
            Keyring([key, key])

    def test_keys_are_not_pickled(self) -> None:
        for thing in (Key("k1", bytes(32)), Keyring([Key("k1", bytes(32))])):
            with pytest.raises(TypeError, match="secret"):
                pickle.dumps(thing)

    @pytest.mark.parametrize("missing", ["id", "secret"])
    def test_missing(self, missing: str) -> None:
        text = "\n".join(line for line in ENTRY.splitlines() if not line.startswith(missing))
        assert refusal(text) == f"file: [[key]] number 1: the field '{missing}' is missing"

    def test_unknown(self) -> None:
        message = refusal(ENTRY + 'notafter = "x"')
        assert message == (
            "file: [[key]] number 1: unknown field 'notafter'; expected id, identity, not_after, not_before, "
            "revoked, secret"
        )

    def test_a_secret_in_the_place_of_a_field_name(self) -> None:
        assert "unknown field with a long name" in refusal(ENTRY + f'"{BASE64[::-1]}" = 1', BASE64[::-1])

    def test_a_secret_in_the_place_of_the_id(self) -> None:
        for name in ("k1", "2026", "abcd"):
            assert "secret must be base64" in refusal(f'[[key]]\nid = "{BASE64}"\nsecret = "{name}"\n')

    @pytest.mark.parametrize(
        "secret",
        [
            '""', "5", "-1", "1.5", "true", "[]", "{}", "2026-01-01", '"k"', '"' + "ü" * 44 + '"', '"' + "=" * 44 + '"',
            '"' + base64.b64encode(bytes(31)).decode() + '"', '"' + BASE64[:-1] + '"', '"' + BASE64 + r'\n"',
            '" ' + BASE64 + '"', '"' + "-_" * 22 + '"', '"' + SECRET.hex()[:43] + '"', f'["{BASE64}"]',
        ],
    )  # fmt: skip
    def test_secrets(self, secret: str) -> None:
        text = f'[[key]]\nid = "k1"\nsecret = {secret}\n'
        message = refusal(text)
        assert message.startswith("file: [[key]] number 1: secret must be base64 of at least 32 random bytes")

    @pytest.mark.parametrize("name", ['""', '" "', '"a b"', '"ü"', r'"a\n"', "5", "[]", "true", '"' + "x" * 65 + '"'])
    def test_ids(self, name: str) -> None:
        assert "number 1: a key's id must be" in refusal(f'[[key]]\nid = {name}\nsecret = "{BASE64}"\n')

    @pytest.mark.parametrize("field", ["not_before", "not_after"])
    @pytest.mark.parametrize(
        "value", ["2026-11-01T00:00:00", "2026-11-01", "00:00:00", '"2026-11-01T00:00:00Z"', "1", "[]"]
    )
    def test_moments(self, field: str, value: str) -> None:
        message = refusal(ENTRY + f"{field} = {value}\n")
        assert message == f"file: [[key]] number 1: key 'k1': {field} must be a date and time with an offset from UTC"

    @pytest.mark.parametrize("end", ["2026-11-01T00:00:00Z", "2026-11-01T00:59:59+01:00", "2025-01-01T00:00:00Z"])
    def test_ends_before_it_begins(self, end: str) -> None:
        text = ENTRY + f"not_before = 2026-11-01T00:00:00Z\nnot_after = {end}\n"
        assert "not_after must be later" in refusal(text)

    @pytest.mark.parametrize("value", ['""', "1", "[]", '["dns:a"]', "true"])
    def test_identities(self, value: str) -> None:
        assert "identity must be an entry of a peer list" in refusal(ENTRY + f"identity = {value}\n")

    @given(st.text(max_size=60))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        for source in (text, ENTRY + text):
            try:
                Keyring.from_toml(source)
            except ConfigurationError as error:
                assert BASE64 not in str(error)  # noqa: PT017 - any outcome but another error is right


class TestReload:
    def write(self, path: Path, *ids: str) -> None:
        write(path, "".join(ENTRY.replace("k1", name) for name in ids))

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
    def test_what_is_not_a_keyring_is_not_taken(self, tmp_path: Path, bad: str | None) -> None:
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

    def looks(self, ring: Keyring, count: int) -> list[str]:
        for _ in range(count):
            ring.refresh(0.0)
        return [key.id for key in ring]

    def follow(self, path: Path, *entries: str) -> Keyring:
        """Of a file with those, which was complete long ago."""
        self.put(path, *entries)
        return Keyring.from_file(path)

    def put(self, path: Path, *entries: str) -> None:
        write(path, "".join(entries))
        os.utime(path, (1_600_000_000, 1_600_000_000))

    def entry(self, name: str, more: str = "") -> str:
        return ENTRY.replace("k1", name) + more

    def test_a_key_in_use_that_vanishes_stays_for_some_looks(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The file may be cut between two tables."""
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"), self.entry("k2"))
        self.put(path, self.entry("k1"), self.entry("k3"))
        assert self.looks(ring, STEADY_LOOKS) == ["k1", "k2", "k3"]
        assert f"{path} lacks the valid key 'k2'" in caplog.text
        (record,) = audited(caplog, "reload.kept")
        assert (record["files"], record["keys"]) == ("keyring", "'k2'")
        self.put(path, self.entry("k1"))
        assert self.looks(ring, STEADY_LOOKS) == ["k1", "k2", "k3"]
        assert self.looks(ring, 1) == ["k1"]
        assert ring.status().generation == 4

    @pytest.mark.parametrize("bound", ['identity = "dns:a.example"\n', "not_after = 2126-01-01T00:00:00Z\n"])
    def test_what_bounds_a_key_stays_as_long(self, tmp_path: Path, bound: str) -> None:
        """The file may be cut in its last table."""
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1", bound))
        self.put(path, self.entry("k1"))
        for bounded in (*[True] * STEADY_LOOKS, False):
            self.looks(ring, 1)
            (key,) = ring
            assert bool(key.identity or key.not_after) is bounded

    @pytest.mark.parametrize(("left", "signs"), [("k1", "k2"), ("k2", "k2")])
    def test_the_same_key_signs_meanwhile(self, tmp_path: Path, left: str, signs: str) -> None:
        """Also if the one that is left no longer says since when it is valid."""
        path = tmp_path / "keyring.toml"
        entries = [self.entry(f"k{n}", f"not_before = 2026-0{n}-01T00:00:00Z\n") for n in (1, 2)]
        ring = self.follow(path, *entries)
        assert ring.signing_key(datetime.now(UTC)).id == "k2"
        self.put(path, self.entry(left))
        assert self.looks(ring, STEADY_LOOKS) == ["k1", "k2"]
        assert ring.signing_key(datetime.now(UTC)).id == signs
        assert self.looks(ring, 1) == [left]

    def test_it_goes_when_it_was_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"), self.entry("k2"))
        assert not ring.let_go()
        self.put(path, self.entry("k1"))
        assert self.looks(ring, 1) == ["k1", "k2"]
        assert ring.let_go()
        assert [key.id for key in ring] == ["k1"]
        assert ring.status().generation == 3
        assert not ring.let_go()

    def test_how_to_add_a_key_is_said_of_its_file(self, tmp_path: Path) -> None:
        """Also while a key is kept that the file lacks."""
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"), self.entry("k2"))
        remedy = f"add a key with `sealwire keys new --file {path}`"
        assert ring.current.adding() == remedy
        self.put(path, self.entry("k1"))
        assert self.looks(ring, 1) == ["k1", "k2"]
        assert ring.current.adding() == remedy
        assert Keyring([key("k1")]).current.adding() == "add a key"

    def test_it_comes_back(self, tmp_path: Path) -> None:
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"), self.entry("k2"))
        self.put(path, self.entry("k1"))
        self.looks(ring, STEADY_LOOKS)
        self.put(path, self.entry("k1"), self.entry("k2"), self.entry("k3"))
        assert self.looks(ring, 9) == ["k1", "k2", "k3"]

    @pytest.mark.parametrize("between", ["refused", "missing", "being written"])
    def test_the_looks_are_in_a_row(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str) -> None:
        monkeypatch.setattr(reloading, "SETTLE_SECONDS", 3600.0)
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"), self.entry("k2"))
        self.put(path, self.entry("k1"))
        self.looks(ring, STEADY_LOOKS)
        if between == "missing":
            path.unlink()
        else:
            self.put(path, self.entry("k1"), "[[key]]")
        if between == "being written":
            path.touch()
        self.looks(ring, 1)
        self.put(path, self.entry("k1"))
        assert self.looks(ring, STEADY_LOOKS - 1) == ["k1", "k2"]
        assert self.looks(ring, 1) == ["k1"]

    @pytest.mark.parametrize("looks", [0, 1])
    def test_a_reload_that_is_asked_for_waits_for_nothing(self, tmp_path: Path, looks: int) -> None:
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"), self.entry("k2"))
        self.put(path, self.entry("k1"))
        assert self.looks(ring, looks) == ["k1", "k2"]
        assert ring.reload()
        assert [key.id for key in ring] == ["k1"]

    @pytest.mark.parametrize(
        ("entry", "rest"),
        [
            ('[[key]]\nid = "k2"\nrevoked = true\n', ["k1"]),
            (ENTRY.replace("k1", "k2") + "revoked = true\n", ["k1"]),
            (ENTRY.replace("k1", "k2") + "not_after = 2026-01-01T00:00:00Z\n", ["k1", "k2"]),
        ],
    )
    def test_a_mark_is_obeyed_at_once(self, tmp_path: Path, entry: str, rest: list[str]) -> None:
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"), self.entry("k2"))
        self.put(path, self.entry("k1"), entry)
        assert self.looks(ring, 1) == rest
        self.put(path, self.entry("k1"))
        assert self.looks(ring, 1) == ["k1"]

    @pytest.mark.parametrize("more", ["not_after = 2026-01-01T00:00:00Z\n", "not_before = 2126-01-01T00:00:00Z\n"])
    def test_a_key_that_is_not_in_use_goes_at_once(self, tmp_path: Path, more: str) -> None:
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"), self.entry("k2", more))
        self.put(path, self.entry("k1"))
        assert self.looks(ring, 1) == ["k1"]

    def test_the_last_key_may_be_revoked(self, tmp_path: Path) -> None:
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"))
        self.put(path, self.entry("k1", "revoked = true\n"))
        assert self.looks(ring, 1) == []
        assert ring.current.revoked == ("k1",)
        assert "every key is revoked" in refusal(path)

    def test_the_last_key_may_vanish_while_others_are_revoked(self, tmp_path: Path) -> None:
        path = tmp_path / "keyring.toml"
        ring = self.follow(path, self.entry("k1"), self.entry("k2"))
        self.put(path, self.entry("k1", "revoked = true\n"))
        assert self.looks(ring, STEADY_LOOKS) == ["k2"]
        assert ring.current.revoked == ("k1",)
        assert self.looks(ring, 1) == []

    def test_revoked_is_yes_or_no(self) -> None:
        assert "revoked must be true or false" in refusal(ENTRY + 'revoked = "yes"\n')
        assert [key.id for key in Keyring.from_toml(ENTRY + "revoked = false\n")] == ["k1"]
        assert "two keys of a keyring have the id 'k1'" in refusal(ENTRY + ENTRY + "revoked = true\n")

    def test_of_keys_there_is_nothing_to_follow(self, tmp_path: Path) -> None:
        path = tmp_path / "keyring.toml"
        self.write(path, "k1")
        ring = Keyring(Keyring.from_file(path))
        assert ring.reload()
        assert ring.status().file is None
        assert not ring.refresh_due()
        assert ring.refresh(0.0) is ring.current


def test_messages_name_the_first_of_many_keys() -> None:
    keys = Keyring([key(f"k{number}", end=-1) for number in range(1000)])
    assert repr(keys).endswith("'k19' and 980 more, secrets redacted>")
    with pytest.raises(ConfigurationError, match="'k19' and 980 more\\) is valid now"):
        keys.signing_key(NOW)
