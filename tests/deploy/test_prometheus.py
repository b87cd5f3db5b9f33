"""The dashboard, the rules and the documentation of metrics, against what a server and a client really export."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import sealwire
from sealwire.admin import AdminEndpoint
from sealwire.integrations.prometheus import ClientCollector, PoolCollector
from sealwire.middleware import measure
from support.admin import ask
from support.service import Deployment, running

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "deploy/grafana/sealwire.json"
ALERTS = ROOT / "deploy/prometheus"
METRIC = re.compile(r"\b(?:sealwire_[a-z_]+|up)\b")


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: it is in Debian's package prometheus")
    return found


@pytest.fixture
def exported(deployment: Deployment, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Return what a server and a client with a pool export, after a request."""
    # A server with one worker at rest has all families, and so has one in this process but for `workers`.
    server = sealwire.ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, deployment.server_security())
    with running(server) as port, AdminEndpoint(server, f"unix:{tmp_path / 'admin'}"):
        security = deployment.security("client")
        with sealwire.ClientPool([("localhost", port)], security=security, middleware=[measure]) as pool:
            assert pool.send_request(1) == 1
            registry = CollectorRegistry()
            registry.register(ClientCollector())
            registry.register(PoolCollector(orders=pool))
            yield ask(tmp_path / "admin", "/metrics"), generate_latest(registry).decode()


def series(exposition: str) -> dict[str, set[tuple[str, str]]]:
    """The labels of each metric, with their values."""
    found: dict[str, set[tuple[str, str]]] = {}
    for line in exposition.splitlines():
        if line and not line.startswith("#"):
            labels = re.findall(r'(\w+)="([^"]*)"', line)
            found.setdefault(line.split("{")[0].split(" ")[0], set()).update(labels)
    return found


def expressions() -> list[str]:
    """All that the dashboard and the rules ask for."""
    found = [
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel.get("targets", [])
    ]
    rules = (ALERTS / "alerts.yml").read_text()
    found += re.findall(r"expr: (?:>-\n)?((?:.*\n)(?:          .*\n)*)", rules)
    return found


def test_the_dashboard_and_the_rules_ask_for_what_there_is(exported: tuple[str, str]) -> None:
    there = series("\n".join(exported))
    there |= {"up": set(), "sealwire_server_workers": set()}
    asked = expressions()
    assert len(asked) > 30
    for expression in asked:
        found = set(METRIC.findall(re.sub(r'"[^"]*"', '""', expression)))
        assert found, expression
        assert found <= set(there), expression
        for name, labels in re.findall(r"(sealwire_\w+)\{([^}]*)\}", expression):
            for label, value in re.findall(r'(\w+)=~?"([^"$]*)"', labels):
                if label != "job":
                    values = {each for key, each in there[name] if key == label}
                    assert set(re.sub(r"\s", "", value).split("|")) <= values, expression


def test_the_documented_metrics_are_the_real_ones(exported: tuple[str, str]) -> None:
    text = (ROOT / "docs/reference/metrics.md").read_text()
    rows = [re.split(r" *\| *", line)[1:-1] for line in text.splitlines() if line.startswith("| `sealwire")]
    documented = {row[0].strip("`"): row for row in rows}
    there = series("\n".join(exported))
    real: dict[str, set[tuple[str, str]]] = {}
    for name, labels in there.items():
        base = re.sub(r"_(bucket|sum|count|created)$", "", name)
        if not name.endswith("_created"):
            real.setdefault(base, set()).update(each for each in labels if each[0] != "le")
    assert set(documented) - {"sealwire_server_workers"} == set(real)
    for name, labels in real.items():
        assert set(re.findall(r"`(\w+)`", documented[name][2])) == {label for label, _ in labels}, name
    for name in ("requests", "connections_ended", "worker_restarts"):
        metric = f"sealwire_server_{name}_total"
        assert all(f"`{value}`" in documented[metric][3] for _, value in real[metric]), name


def test_no_label_names_a_peer(exported: tuple[str, str]) -> None:
    assert not re.search("client\\.example|127\\.0\\.0\\.1|localhost", "\n".join(exported))


def test_what_is_counted_of_a_client(exported: tuple[str, str]) -> None:
    server, client = exported
    assert 'sealwire_server_requests_total{outcome="answered"} 1.0' in server
    assert 'sealwire_server_handshakes_total{result="complete"} 1.0' in server
    assert 'sealwire_pool_servers{pool="orders",state="in_service"}' in client
    answered = re.search(r'sealwire_client_requests_total\{outcome="answered"\} (\S+)', client)
    assert answered is not None
    assert float(answered[1]) >= 1
    assert "sealwire_client_requests_in_flight 0.0" in client


@pytest.mark.parametrize("end", [0, 1], ids=["server", "client"])
def test_promtool_accepts_the_metrics(promtool: str, exported: tuple[str, str], end: int) -> None:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=exported[end], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_accepts_the_rules(promtool: str, arguments: list[str]) -> None:
    done = subprocess.run([promtool, *arguments], cwd=ALERTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_each_rule_has_a_test_that_makes_it_fire() -> None:
    rules = set(re.findall(r"alert: (\w+)", (ALERTS / "alerts.yml").read_text()))
    tests = (ALERTS / "alerts_test.yml").read_text()
    fires: set[Any] = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", tests))
    assert rules == fires
