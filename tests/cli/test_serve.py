"""`sealwire serve` as a process of its own."""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sealwire import ConnectionClosed, RemoteError, Security, SynchronousTCPClient
from sealwire.cli.app import app
from sealwire.pki.files import PRIVATE, NewFile, write_files
from support.certificates import CLIENT, make, make_ca, make_crl
from support.commands import Served
from support.service import Deployment, children, eventually

SIGNALS = [signal.SIGTERM, signal.SIGINT]
KINDS = [
    "--server threading",
    "--server forking",
    "--server single",
    "--workers 2",
    "--workers 2 --loop asyncio",
]
Refused = Callable[..., str]


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


def client(served: Served, host: str = "127.0.0.1") -> SynchronousTCPClient:
    return SynchronousTCPClient(
        host, served.port, 10, 20, security=Security.from_toml(served.directory / "client.toml")
    )


@pytest.fixture
def refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Refused]:
    """Return the standard error of a `serve` that fails; it runs in this process, which forgets it afterwards."""
    logger = logging.getLogger("sealwire.server")
    level = logger.level
    monkeypatch.chdir(directory)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry != ""])

    def refused(handler: str, *arguments: str, status: int = 1) -> str:
        importlib.invalidate_caches()
        result = CliRunner().invoke(app, ["serve", handler, "--config", "server.toml", *arguments])
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == status, result.stderr
        assert result.stdout == ""
        if status == 1:
            assert result.stderr.startswith("Error: ")
            assert result.stderr.count("\n") == 1
        return result.stderr

    yield refused
    for name in ("orders", "broken"):
        sys.modules.pop(name, None)
    logger.setLevel(level)


@pytest.mark.parametrize("kind", KINDS)
def test_serves_a_function_and_says_where(directory: Path, kind: str) -> None:
    with Served(directory, *kind.split()) as served:
        assert served.line == f"serving orders:respond on 127.0.0.1:{served.port}"
        with client(served) as caller:
            assert caller.send_request([1, "two"]) == {"got": [1, "two"]}
        served.signal(signal.SIGTERM)
        assert served.status() == 0
        assert served.printed() == "", "one line and no more"


def test_serves_a_handler_class(directory: Path) -> None:
    with Served(directory, handler="orders:Orders") as served, client(served) as caller:
        assert caller.send_request(1) == ["client.example", 1]


def test_serves_a_module_of_a_package(directory: Path) -> None:
    (directory / "shop").mkdir()
    (directory / "orders.py").rename(directory / "shop" / "orders.py")
    with Served(directory, handler="shop.orders:respond") as served, client(served) as caller:
        assert caller.send_request(0) == {"got": 0}


def test_serves_on_ipv6(directory: Path) -> None:
    with Served(directory, "--host", "::1") as served:
        assert served.line == f"serving orders:respond on [::1]:{served.port}"
        socket.create_connection(("::1", served.port), 5).close()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_in_progress_is_finished(
    directory: Path, background: ThreadPoolExecutor, kind: str, number: signal.Signals
) -> None:
    with Served(directory, *kind.split()) as served:
        with client(served) as caller:
            reply = background.submit(caller.send_request, "hold")
            assert served.printed() == "in hand"
            served.signal(number)
            assert number.name in served.logged("finishing the requests in progress")
            served.release()
            assert reply.result(20) == {"got": "hold"}
        assert served.status() == 0
        assert served.rest().endswith("INFO sealwire.server: stopped\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_signal_ends_it_at_once(directory: Path, background: ThreadPoolExecutor, kind: str) -> None:
    with Served(directory, *kind.split()) as served, client(served) as caller:
        reply = background.submit(caller.send_request, "hold")
        assert served.printed() == "in hand"
        served.signal(signal.SIGTERM)
        served.logged("a second signal ends it at once")
        served.signal(signal.SIGINT)
        assert served.status() == -signal.SIGINT
        # The FIFO was not opened: the process with the request in progress is gone as well.
        assert isinstance(reply.exception(20), ConnectionClosed)


def test_a_connection_at_rest_keeps_nobody(directory: Path) -> None:
    with Served(directory, "--server", "single") as served, client(served) as caller:
        assert caller.send_request(1) == {"got": 1}
        served.signal(signal.SIGTERM)
        assert served.status() == 0


def test_the_log_has_times_and_no_words_of_messages(directory: Path) -> None:
    with Served(directory) as served:
        with client(served) as caller, pytest.raises(RemoteError):
            caller.send_request("fail")
        served.signal(signal.SIGTERM)
        line = served.logged("handler failed")
        assert re.match(r"[-\dT:]{19}[+-]\d{4} ERROR sealwire\.server: 127\.0\.0\.1:\d+ \(dns:client", line)
        assert "ValueError at orders.py:11 in respond" in line
        assert "words of the message" not in line + served.rest()


def test_verbose_logs_tracebacks(directory: Path) -> None:
    with Served(directory, "--verbose") as served:
        with client(served) as caller, pytest.raises(RemoteError):
            caller.send_request("fail")
        served.logged("ValueError: words of the message")


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (
            "absent:respond",
            "absent:respond: there is no module 'absent'; install it, start in the directory that it is in, "
            "or name that in PYTHONPATH, or with --app-dir of a command",
        ),
        ("orders.absent:respond", "there is no module 'orders.absent'; install"),
        ("orders.py:respond", "leave out .py"),
        ("orders:reply", "orders:reply: orders has no reply; it has respond, Orders, Other"),
        ("orders:Other", "orders:Other: Other must be derived from sealwire.RequestHandler"),
        ("orders:os", "orders:os: a handler must be a class derived from sealwire.RequestHandler or a function"),
        ("orders:RequestHandler", "orders:RequestHandler: RequestHandler needs a method respond"),
    ],
)
def test_says_what_is_wrong_with_the_handler(refused: Refused, directory: Path, handler: str, says: str) -> None:
    assert says.format(directory=directory) in refused(handler)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "x = 1\ny = x / 0\n",
            "broken:respond: broken cannot be imported: ZeroDivisionError at {file}:2: division by zero",
        ),
        ("x = 1\ny = (\n", "SyntaxError at {file}:2: '(' was never closed"),
        ("import missing_part\n", "ModuleNotFoundError at {file}:1: No module named 'missing_part'"),
        ("import os\n\nos.environ['NOT_SET']\n", "KeyError at {file}:3: 'NOT_SET'"),
        ("import sys\nsys.exit(0)\n", "broken ended the program when it was imported; put"),
        ("raise ValueError('two\\nlines')\n", r"ValueError at {file}:1: two\nlines"),
        ("_private = 1\n", "broken:respond: broken has no respond; it has no function and no class"),
    ],
)
def test_says_what_is_wrong_in_the_module(refused: Refused, directory: Path, source: str, says: str) -> None:
    path = directory / "broken.py"
    path.write_text(source)
    assert says.format(file=path) in refused("broken:respond")


@pytest.mark.parametrize(
    "handler", ["orders", "orders:", ":respond", "or/ders:respond", "orders:a.b", ".orders:respond"]
)
def test_a_handler_has_a_form(refused: Refused, handler: str) -> None:
    assert "like orders:respond" in refused(handler, status=64)


def test_says_what_is_wrong_with_the_address(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("orders:respond", "--port", str(port))
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use by this process" in line
    line = refused("orders:respond", "--host", "192.0.2.1")
    assert "the host must be an address of this machine" in line
    assert "'a..b' is not a host to listen on" in refused("orders:respond", "--host", "a..b", status=64)


def test_says_what_is_wrong_with_the_configuration(refused: Refused, directory: Path) -> None:
    config = directory / "server.toml"
    good = config.read_text()
    config.write_text(good + "colour = 1\n")
    assert "server.toml: unknown key 'colour'" in refused("orders:respond")
    config.write_text((directory / "client.toml").read_text())
    assert "server.toml: a server must be told which clients may connect" in refused("orders:respond")
    config.unlink()
    assert "server.toml: cannot be read" in refused("orders:respond")


def test_logging_of_the_users_module_is_left_alone(directory: Path) -> None:
    with (directory / "orders.py").open("a") as file:
        file.write("\nimport logging\nlogging.basicConfig(format='mine %(message)s', level=logging.INFO)\n")
    with Served(directory) as served:
        served.signal(signal.SIGTERM)
        assert served.status() == 0
        assert served.rest().endswith("mine stopped\n")


def test_runs_from_anywhere_as_the_installed_script(python: list[str], directory: Path) -> None:
    """The script's directory, not the current one, is what Python puts on the path for it."""
    script = [python[0], "-W", "error", "-P", "-m", "sealwire"]
    done = subprocess.run(
        [*script, "serve", "orders:nothing", "--config", "server.toml"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "orders:nothing: orders has no nothing" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_sighup_looks_at_the_files(directory: Path, deployment: Deployment, kind: str) -> None:
    """At once, though the interval is an hour; and what is bad leaves it running."""
    config = directory / "server.toml"
    config.write_text(config.read_text() + "[limits]\nreload_interval = 3600\n")
    with Served(directory, *kind.split()) as served:

        def shown() -> str:
            with client(served) as one:
                one.connect()
                assert one.peer is not None
                return one.peer.fingerprint

        before = shown()
        deployment.place.leaf("server", "localhost", "127.0.0.1")
        assert shown() == before
        served.signal(signal.SIGHUP)
        served.logged("generation 2 in service (digest")
        served.logged("SIGHUP: the content of the files is in service")
        after = shown()
        assert after != before
        (deployment.place.directory / "server.pem").write_bytes(b"garbage")
        served.signal(signal.SIGHUP)
        served.logged("keeping generation 2")
        served.logged("SIGHUP: rejected, see above")
        assert shown() == after
        served.signal(signal.SIGTERM)
        assert served.status() == 0
    deployment.place.leaf("server", "localhost", "127.0.0.1")


@pytest.mark.parametrize("loop", ["threads", "asyncio"])
def test_sighup_while_a_worker_drains(directory: Path, background: ThreadPoolExecutor, loop: str) -> None:
    """That worker no longer listens, and is not waited for."""
    with Served(directory, "--workers", "1", "--loop", loop) as served, client(served) as caller:
        reply = background.submit(caller.send_request, "hold")
        assert served.printed() == "in hand"
        worker = children(served.process.pid)[0]
        os.kill(worker, signal.SIGTERM)
        served.logged(f"worker {worker} asked to be replaced")
        with client(served) as other:
            eventually(lambda: other.send_request("pid") != {"got": worker})
        served.signal(signal.SIGHUP)
        served.logged("SIGHUP: the content of the files is in service")
        assert not reply.done()
        served.release()
        assert reply.result(20) == {"got": "hold"}
        served.signal(signal.SIGTERM)
        assert served.status() == 0


@pytest.mark.parametrize("loop", ["threads", "asyncio"])
def test_all_processes_are_told_to_end(directory: Path, background: ThreadPoolExecutor, loop: str) -> None:
    """As systemd does it with KillMode=control-group."""
    with Served(directory, "--workers", "2", "--loop", loop) as served, client(served) as caller:
        reply = background.submit(caller.send_request, "hold")
        assert served.printed() == "in hand"
        for pid in [*children(served.process.pid), served.process.pid]:
            os.kill(pid, signal.SIGTERM)
        served.logged("finishing the requests in progress")
        served.release()
        assert reply.result(20) == {"got": "hold"}
        assert served.status() == 0


def test_options_that_do_not_go_together(refused: Refused) -> None:
    for arguments, text in (
        (["--workers", "2", "--server", "forking"], "--server is for one process"),
        (["--loop", "asyncio", "--server", "single"], "--server is for one process"),
        (["--max-requests", "5"], "--max-requests and --max-memory are for workers"),
        (["--workers", "0"], "0 is not in the range"),
    ):
        assert text in refused("orders:respond", *arguments, status=64)


def test_a_coroutine_needs_asyncio(directory: Path, refused: Refused) -> None:
    (directory / "orders.py").write_text("async def respond(message):\n    return {'got': message}\n")
    assert "runs no coroutines" in refused("orders:respond")
    with Served(directory, "--loop", "asyncio") as served, client(served) as caller:
        assert caller.send_request(1) == {"got": 1}


def test_workers_are_recycled(directory: Path) -> None:
    with Served(directory, "--workers", "1", "--max-requests", "3", "--max-memory", "4000") as served:
        with client(served) as caller:
            for number in range(10):
                assert caller.send_request(number) == {"got": number}
        assert served.logged("asked to be replaced")


class TestCertificatesThatClientsMustRefuse:
    """`serve` does not start with them, and `doctor` says so, too."""

    @pytest.fixture
    def told(self, directory: Path, refused: Refused) -> Callable[..., str]:
        def told(cert: bytes, key: bytes, ca: bytes, **files: bytes) -> str:
            lines = (directory / "server.toml").read_text().splitlines()
            kept = [line for line in lines if line.startswith(("keyring", "peers"))]
            for name, content in {"cert": cert, "key": key, "ca": ca, **files}.items():
                write_files([NewFile(directory / f"{name}.pem", content, PRIVATE)], replace=True)
                kept.insert(0, f'{name} = "{name}.pem"')
            (directory / "server.toml").write_text("\n".join(kept))
            said = refused("orders:respond")
            found = CliRunner().invoke(app, ["doctor", "--config", "server.toml", "--json"])
            assert found.exit_code == 2
            assert "critical" in found.stdout
            return said

        return told

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (
                {"uses": [CLIENT]},
                "is not for TLS servers, so clients would refuse it; name a server's as cert and key",
            ),
            (
                {"names": [], "common_name": "localhost"},
                "has no DNS name, IP address or URI, so clients refuse it unless they list its fingerprint; issue one",
            ),
            ({"end": timedelta(0)}, "so every peer would refuse it; renew it"),
        ],
        ids=["purpose", "name", "expiry"],
    )
    def test_leaf(self, told: Callable[..., str], options: dict[str, Any], says: str) -> None:
        ca = make_ca()
        made = make(*options.pop("names", ["localhost"]), issuer=ca, **options)
        assert says in told(made.pem, made.key_pem, ca.pem)

    def test_intermediate(self, told: Callable[..., str]) -> None:
        ca = make_ca()
        between = make_ca("between", issuer=ca, end=timedelta(0))
        made = make("localhost", issuer=between)
        said = told(made.pem + between.pem, made.key_pem, ca.pem)
        assert "the intermediate certificate CN=between expired at" in said

    def test_revoked(self, told: Callable[..., str]) -> None:
        ca = make_ca()
        made = make("localhost", issuer=ca)
        said = told(made.pem, made.key_pem, ca.pem, crl=make_crl(ca, made))
        assert "is on a revocation list in crl.pem, so clients would refuse it" in said
