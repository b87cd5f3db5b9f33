"""`sealwire demo`: that it shows what it says, and that it would show the contrary."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from sealwire.cli.app import app
from sealwire.demo import command as module
from sealwire.demo.attacks import ATTACKS
from sealwire.demo.command import SERVICE, present
from sealwire.testing import Throwaway

WEAK = (
    SERVICE
    + """

# All defences down: what a service should never do.
import pickle
from pathlib import Path
from sealwire.codec import Codec
from sealwire.wire import frame_reader, sequence

Path("both.pem").write_bytes(Path("ca.pem").read_bytes() + Path("other/ca.pem").read_bytes())
_make = Codec.__init__
def make(self, *args, **options):
    _make(self, *args, **options)
    self.decode_at_once = pickle.loads
Codec.__init__ = make
_establish = frame_reader.Reader.establish
frame_reader.Reader.establish = lambda self, mac, cap, **rest: _establish(self, mac, 1 << 30, **rest)
frame_reader.compare_digest = lambda one, other: True
sequence.HeaderChecker.check = lambda self, frame: None
"""
)
WEAK_CONFIG = {"peers": ["dns:*.example", "anonymous"], "ca": "both.pem"}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of temporary directories, where nothing may stay."""
    directory = tmp_path / "a directory for temporary files"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def shown(**options: Any) -> tuple[list[str], str]:
    """Return the failures and the output."""
    output = io.StringIO()
    console = Console(file=output, highlight=False, soft_wrap=True)
    with Throwaway() as place:
        failed = present(console, place, **({"attacks": ATTACKS, "service": SERVICE} | options))
    return failed, output.getvalue()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_attack_is_refused_and_nothing_is_left(python: list[str], temporary: Path) -> None:
    started = monotonic()
    done = subprocess.run(
        [*python, "demo"], cwd=temporary.parent, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert monotonic() - started < 60
    assert "\x1b" not in done.stdout, "no terminal, no colours"
    for attack in ATTACKS.values():
        (line,) = (line for line in done.stdout.splitlines() if attack.title in line)
        assert re.match(rf"  refused  {re.escape(attack.title)} +{re.escape(attack.ends)}", line)
        assert "good client served: #" in line
    assert "sealwire call 127.0.0.1:" in done.stdout
    assert '{"accepted": {"item": "tea", "count": 2}, "handled": 1}' in done.stdout
    assert "raw pickle.loads, in a process of its own, runs it" in done.stdout
    assert "exited with status 0" in done.stdout
    assert "no warning of" not in done.stdout, "the server's log has a warning of each attack"
    assert "Every attack was refused" in done.stdout
    (pid,) = map(int, re.findall(r"The server, process (\d+)", done.stdout))
    assert not is_running(pid)
    assert list(temporary.iterdir()) == []


def test_without_defences_every_attack_is_seen_to_succeed(temporary: Path) -> None:
    failed, output = shown(service=WEAK, server=WEAK_CONFIG)
    assert len(failed) == len(ATTACKS)
    for name, attack in ATTACKS.items():
        (line,) = (line for line in output.splitlines() if attack.title in line and not line.startswith("  FAILED"))
        # The attacker with another key gets a WELCOME that it cannot verify; the one with a long frame is waited for.
        verdict = "UNEXPECTED" if name in ("wrong-key", "over-cap") else "GOT THROUGH"
        assert line.startswith(f"  {verdict}  {attack.title}")
    assert "its command was run" in output
    assert "refused" not in output
    assert list(temporary.iterdir()) == []


def test_one_weak_point_is_seen_among_what_holds() -> None:
    failed, output = shown(attacks=["flipped-bit", "stranger"], server={"peers": "any-signed-by-ca"})
    assert failed == [
        "an identity not on the list: it ended with a reply, not with REJECT 3, "
        "the handler saw 1 of its requests, of which 0 were good"
    ]
    assert "GOT THROUGH  an identity not on the list" in output
    assert "refused  a flipped bit behind TLS" in output
    assert output.splitlines()[-1] == f"  FAILED: {failed[0]}"


def test_the_command_fails_if_an_attack_got_through(monkeypatch: pytest.MonkeyPatch) -> None:
    # A good request, called an attack.
    monkeypatch.setattr(
        module, "ATTACKS", {"flipped-bit": ATTACKS["flipped-bit"], "replayed-frame": ATTACKS["replayed-frame"]}
    )
    monkeypatch.setitem(module.ATTACKS, "replayed-frame", replace(ATTACKS["replayed-frame"], good=0))
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 1
    assert "GOT THROUGH  a frame sent again" in result.stdout
    assert "  FAILED: a frame sent again: the handler saw 1 of its requests, of which 0 were good\n" in result.stdout


def test_a_hostile_pickle_that_is_harmless_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAKE_HOSTILE", module._MAKE_HOSTILE.replace("sys.argv[1]", "'true'"))
    failed, _ = shown(attacks=["hostile-pickle"])
    assert failed == ["the hostile pickle is harmless even to raw pickle, so it shows nothing"]


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ("1 / 0\n", "the server did not start: Error: orders:respond: orders cannot be imported: ZeroDivisionError"),
        (
            "def respond(order):\n    raise ValueError\n",
            "the good client was not served: Error: the server answered fault 19",
        ),
    ],
)
def test_a_demonstration_that_cannot_go_on_says_why(
    monkeypatch: pytest.MonkeyPatch, temporary: Path, service: str, says: str
) -> None:
    monkeypatch.setattr(module, "SERVICE", service)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 1
    assert f"Error: {says}" in result.stderr
    assert list(temporary.iterdir()) == []


def test_a_server_that_leaves_badly_is_a_failure() -> None:
    service = SERVICE + "\nimport atexit, os\natexit.register(os._exit, 3)\n"
    failed, output = shown(attacks=[], service=service)
    assert failed == ["the server exited with status 3"]
    assert "exited with status 3" in output


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_interrupted_it_cleans_up(python: list[str], temporary: Path, number: signal.Signals, status: int) -> None:
    # A client that was being started just then is nobody's any more, as subprocess says, and ends by itself.
    command = [python[0], "-W", "error", "-W", "ignore::ResourceWarning", *python[3:], "demo"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        pid = 0
        for line in demo.stdout:
            if match := re.match(r"The server, process (\d+)", line):
                pid = int(match[1])
            if "refused" in line:
                break
        assert is_running(pid)
        assert list(temporary.iterdir())
        demo.send_signal(number)
        assert demo.wait(20) == status
        assert "Traceback" not in demo.stderr.read()
    assert not is_running(pid)
    assert list(temporary.iterdir()) == []
