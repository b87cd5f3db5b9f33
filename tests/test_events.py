"""Lines and records of events, whatever is in them, and how often."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import protocol
from sealwire import ThreadingTCPServer, metrics
from sealwire.errors import HandshakeFailed, SealwireError
from sealwire.events import EVENTS, LONGEST, emit
from sealwire.log_format import JSONFormatter
from sealwire.server_events import ALL_LINES, LINES, SECONDS, ServerEvents, Source
from support.events import audited, logged
from support.service import Deployment, eventually, running

DOCS = Path(__file__).parent.parent / "docs/reference"
NASTY = "a\nb\r\x1b[31mred\u2028\u202e\0\ud800" + "x" * 20_000


def table(page: str, title: str) -> list[list[str]]:
    """The rows of the first table under a title."""
    text = (DOCS / page).read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return [re.split(r" *\| *", line)[1:-1] for line in text.splitlines() if line.startswith("| `")]


def test_the_documented_events_are_the_real_ones() -> None:
    documented = {row[0].strip("`"): row for row in table("events.md", "Events") if "." in row[0]}
    assert set(documented) == set(EVENTS)
    for name, event in EVENTS.items():
        _, level, audit, *_ = documented[name]
        assert logging.getLevelName(event.level) in level, name
        assert audit == ("" if not event.audit else "yes" if event.logger else "only"), name


def test_the_documented_reasons_are_the_real_ones() -> None:
    text = (DOCS / "events.md").read_text().split("### Reasons")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", text))
    counted = {*metrics.HANDSHAKES, *metrics.MESSAGES} - {"complete", "silent", "other"}
    assert counted <= documented


def test_every_error_of_a_handshake_has_a_reason_that_counts() -> None:
    def below(cls: type[SealwireError]) -> list[type[SealwireError]]:
        return [cls, *(each for sub in cls.__subclasses__() for each in below(sub))]

    reasons = {cls.reason for cls in below(SealwireError)}
    assert {"bad_tag", "unknown_key", "timeout", "ended", "tls", "version", "protocol", "not_authorised"} <= reasons


@pytest.mark.parametrize("name", ["handshake.refused", "message.refused", "request.failed", "reload.refused"])
def test_names_of_peers_and_types_stay_in_one_bounded_line(caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level(logging.DEBUG, "sealwire")
    emit(name, f"refused: {NASTY}", why=NASTY, type=NASTY)
    assert caplog.records
    for record in caplog.records:
        for text in (record.getMessage(), *(str(value) for value in record.__dict__["audit"].values())):
            assert text.isprintable()
            assert len(text) <= 10 * LONGEST
        line = JSONFormatter().format(record)
        assert "\n" not in line
        assert line.isascii()
        assert json.loads(line)["event"] == name


@given(st.text(), st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.binary())))
def test_a_line_of_json_is_one_line(text: str, fields: dict[str, Any]) -> None:
    record = logging.LogRecord("any", logging.INFO, __file__, 1, text, (), None)
    record.audit = fields
    line = JSONFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert found["logger"] == "any", "a field does not take its place"
    assert found["message"] == text


def test_arguments_that_do_not_fit() -> None:
    record = logging.LogRecord("any", logging.INFO, __file__, 1, "one %s", ("too", "many"), None)
    assert json.loads(JSONFormatter().format(record))["message"] == "one %s"


def test_an_exception_is_in_its_line() -> None:
    error = ValueError("two\nlines")
    record = logging.LogRecord("any", logging.INFO, __file__, 1, "text", (), (ValueError, error, None))
    line = JSONFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: two\nlines")


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("no good")


@pytest.mark.parametrize("name", ["sealwire.server", "sealwire.audit"])
def test_a_handler_that_raises(caplog: pytest.LogCaptureFixture, name: str) -> None:
    """It neither raises here, nor keeps the other logger from its record."""
    raising = Raising()
    logging.getLogger(name).addHandler(raising)
    try:
        emit("message.refused", "refused")
    finally:
        logging.getLogger(name).removeHandler(raising)
    other = {"sealwire.server": "sealwire.audit", "sealwire.audit": "sealwire.server"}[name]
    assert len(logged(caplog, other)) == 1


def test_a_program_without_handlers_prints_a_line_once() -> None:
    code = "from sealwire.events import emit; emit('message.refused', 'refused')"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == "refused\n"


@pytest.mark.parametrize("name", ["evil\nmodule\r\x1b[31m\u202e" * 1000, "\n", "a:b", "é" * 9000], ids=range(4))
def test_the_name_of_a_type_from_a_client(deployment: Deployment, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """It is in one bounded line of the log, whatever it is, and in the reply of that client alone."""
    caplog.set_level(logging.DEBUG, "sealwire")
    text = name.encode()
    payload = b"\x80\x04X" + len(text).to_bytes(4, "little") + text + b"\x8c\x01x\x93)R."
    server = ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, deployment.server_security())
    with running(server) as port, deployment.ref_client(port, codec="pickle-5") as client:
        kind, _, _ = client.request(payload)
        assert kind == protocol.FAULT
        (refused,) = eventually(lambda: audited(caplog, "message.refused"))
    assert len(refused["type"]) <= 101, "with an ellipsis"
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 1500
        assert JSONFormatter().format(record).isascii()


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("sealwire.server_events.monotonic", lambda: self.now)


def refuse(events: ServerEvents, host: str = "192.0.2.1", reason: str = "tls") -> None:
    error = HandshakeFailed("no")
    error.reason = reason
    events.refused(Source((host, 4711)), error)


def test_a_flood_of_one_address(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock, events = Clock(monkeypatch), ServerEvents()
    for _ in range(1000):
        refuse(events)
    assert len(logged(caplog)) == LINES
    refuse(events, reason="certificate")
    refuse(events, "192.0.2.2")
    refuse(events, "2001:db8::1")
    assert len(logged(caplog)) == LINES + 3, "other reasons and addresses have lines of their own"
    clock.now += SECONDS / LINES
    refuse(events)
    assert logged(caplog)[-1].getMessage().endswith(f"no ({1000 - LINES} more like this from 192.0.2.1 were left out)")
    assert audited(caplog, "handshake.refused")[-1]["left_out"] == 1000 - LINES
    numbers = events.numbers()
    assert numbers[metrics.FAMILIES["handshakes"].column("tls")] == 1003
    assert numbers[metrics.FAMILIES["log_lines_left_out"].column("")] == 1000 - LINES


def test_what_was_left_out_is_told_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, events = Clock(monkeypatch), ServerEvents()
    for _ in range(LINES + 7):
        refuse(events)
    events.look()
    assert audited(caplog, "events.left_out") == []
    clock.now += SECONDS + 1
    for _ in range(2):
        events.look()
    (told,) = audited(caplog, "events.left_out")
    assert (told["of"], told["address"], told["left_out"]) == ("handshake.refused", "192.0.2.1", 7)


def test_a_flood_of_many_addresses(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock, events = Clock(monkeypatch), ServerEvents()

    def flood() -> None:
        caplog.clear()
        for number in range(3 * ALL_LINES):
            refuse(events, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        assert len(logged(caplog)) == ALL_LINES

    flood()
    assert events.numbers()[metrics.FAMILIES["log_lines_left_out"].column("")] == 2 * ALL_LINES
    clock.now += SECONDS
    flood()
    first, second, *_ = audited(caplog, "handshake.refused")
    assert first["left_out_of_others"] == 2 * ALL_LINES
    assert "left_out_of_others" not in second
    clock.now += SECONDS + 1
    for _ in range(2):
        events.look()
    (told,) = audited(caplog, "events.left_out")
    assert (told["of"], told["address"], told["left_out"]) == ("*", "other addresses", 2 * ALL_LINES)


def test_what_a_line_would_have_told_is_not_lost_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, events = Clock(monkeypatch), ServerEvents()
    for _ in range(LINES + 7):
        refuse(events)
    clock.now += 2 * SECONDS / LINES
    while events._shared.all_lines.allow("other addresses", clock.now):
        pass
    refuse(events)
    clock.now += SECONDS + 1
    refuse(events, "192.0.2.2")
    (told,) = [each for each in audited(caplog, "handshake.refused") if "left_out_of_others" in each]
    assert told["left_out_of_others"] == 1 + 7 + 1


def test_columns_do_not_overlap() -> None:
    taken: set[int] = set()
    for family in metrics.FAMILIES.values():
        columns = set(range(family.first, family.first + family.size))
        assert not taken & columns
        taken |= columns
    assert taken == set(range(metrics.COLUMNS))
    assert metrics.outcome_of(19) == metrics.FAMILIES["requests"].column("failed")
    assert metrics.outcome_of(23) == metrics.FAMILIES["requests"].column("in_parts")
    assert metrics.outcome_of(64) == metrics.outcome_of(255) == metrics.FAMILIES["requests"].column("refused")
