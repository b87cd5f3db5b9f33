from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from sealwire.integrations.prometheus import SecurityCollector
from sealwire.pki.authority import create_ca
from support.service import eventually
from support.sides import Side


@pytest.fixture
def side(tmp_path: Path) -> Side:
    side = Side(tmp_path / "side", "localhost")
    ca = create_ca()
    side.leaf(ca, days=9)
    side.trust(ca)
    side.revoke(ca)
    side.keys("k1")
    return side


def scraped(registry: CollectorRegistry) -> dict[str, float]:
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_what_is_in_service(side: Side) -> None:
    registry = CollectorRegistry()
    security = side.security(crl=True)
    registry.register(SecurityCollector(security))
    found = scraped(registry)
    end = datetime.fromtimestamp(found['sealwire_expires_timestamp_seconds{what="certificate"}'], UTC)
    assert timedelta(days=8) < end - datetime.now(UTC) < timedelta(days=9)
    assert found['sealwire_generation{files="credentials"}'] == 1
    assert found['sealwire_refused{files="keyring"}'] == 0
    assert 'sealwire_expires_timestamp_seconds{what="revocation_list"}' in found
    assert 'sealwire_expires_timestamp_seconds{what="signing_key"}' not in found, "it has no end"

    side.write(keyring=b"garbage")
    second = timedelta(seconds=1)
    security.reload()
    assert scraped(registry)['sealwire_refused{files="keyring"}'] == 1
    assert scraped(registry)['sealwire_reloads_total{files="keyring",result="refused"}'] == 1
    side.keys("k1", k1=(-second, 60 * second))
    security.reload()
    found = scraped(registry)
    assert found['sealwire_generation{files="keyring"}'] == 2
    assert found['sealwire_refused{files="keyring"}'] == 0
    assert found['sealwire_expires_timestamp_seconds{what="signing_key"}'] > datetime.now(UTC).timestamp()
    assert found['sealwire_loaded_timestamp_seconds{files="keyring"}'] <= datetime.now(UTC).timestamp()


def test_what_an_old_look_saw_is_not_shown(side: Side) -> None:
    security = side.security(crl=True, limits={"reload_interval": 0.001})
    registry = CollectorRegistry()
    registry.register(SecurityCollector(security))
    side.keys("k1", "k2")
    assert eventually(lambda: scraped(registry)['sealwire_generation{files="keyring"}'] == 2)
    side.write(cert=b"garbage")
    eventually(lambda: security.status().credentials.refusal)
