"""Exports certificates and keys, servers, clients and pools to Prometheus; needs the extra ``sealwire[prometheus]``.

::

    from prometheus_client import REGISTRY
    from sealwire.integrations.prometheus import SecurityCollector

    REGISTRY.register(SecurityCollector(security))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from sealwire import extras
from sealwire.errors import ConfigurationError
from sealwire.metrics import CLIENT, CLIENT_FAMILIES, FAMILIES, Family
from sealwire.pool.base import BasePool
from sealwire.security import Security
from sealwire.trust.reloading import Status

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    from prometheus_client.registry import Collector
except ImportError:
    raise extras.missing("prometheus", "sealwire.integrations.prometheus") from None


_SERVER: Final = "sealwire_server_"


class SecurityCollector(Collector):
    """Reads the status of a Security object at each scrape. Times are in seconds since the epoch.

    The label ``files`` is ``credentials``, ``keyring`` or ``configuration``; ``what`` is ``certificate``,
    ``trust_anchor``, ``revocation_list`` or ``signing_key``.

    * ``sealwire_generation{files}``: Number of the generation in service.
    * ``sealwire_loaded_timestamp_seconds{files}``: When it was loaded.
    * ``sealwire_refused{files}``: 1 while the present content of the files is rejected.
    * ``sealwire_reloads_total{files, result}``: How many times new content was ``taken``, or ``refused``.
    * ``sealwire_expires_timestamp_seconds{what}``: Earliest expiry; absent for a key that never expires.

    Args:
        security: The object to read.
    """

    def __init__(self, security: Security) -> None:
        self._security = security

    def collect(self) -> Iterable[Metric]:
        """Return the present metrics, after a look at the files if the last one is old."""
        credentials, keys, configuration = self._security.status()
        generation = GaugeMetricFamily("sealwire_generation", "Number of the generation in service.", labels=["files"])
        loaded = GaugeMetricFamily("sealwire_loaded_timestamp_seconds", "When it was loaded.", labels=["files"])
        refused = GaugeMetricFamily("sealwire_refused", "1 while the files are rejected.", labels=["files"])
        reloads = CounterMetricFamily("sealwire_reloads", "Reloads by their result.", labels=["files", "result"])
        named: dict[str, Status | None] = {
            "credentials": credentials, "keyring": keys, "configuration": configuration,
        }  # fmt: skip
        for name, status in named.items():
            if status is None:
                continue
            generation.add_metric([name], status.generation)
            if status.loaded_at is not None:
                loaded.add_metric([name], status.loaded_at.timestamp())
            refused.add_metric([name], status.refusal is not None)
            reloads.add_metric([name, "taken"], status.generation - 1)
            reloads.add_metric([name, "refused"], status.refusals)
        ends: dict[str, list[datetime]] = {
            "certificate": [] if credentials.identity is None else [credentials.identity.not_after],
            "trust_anchor": [each.not_valid_after_utc for each in credentials.authorities],
            "revocation_list": [each.next_update_utc for each in credentials.lists if each.next_update_utc is not None],
            "signing_key": [self._signing_key_end()],
        }
        expires = GaugeMetricFamily("sealwire_expires_timestamp_seconds", "Earliest expiry.", labels=["what"])
        for kind, moments in ends.items():
            if moments and min(moments) < datetime.max.replace(tzinfo=UTC):
                expires.add_metric([kind], min(moments).timestamp())
        return generation, loaded, refused, reloads, expires

    def _signing_key_end(self) -> datetime:
        """Return the signing key's expiry: the epoch if there is no key, the end of time if it never expires."""
        try:
            key = self._security.keys.signing_key(datetime.now(UTC))
        except ConfigurationError:
            return datetime.fromtimestamp(0, UTC)
        return key.not_after or datetime.max.replace(tzinfo=UTC)


class ReportCollector(Collector):
    """Reads the report of a server at each scrape, with those of its worker processes added up.

    docs/reference/metrics.md lists its metrics, ``sealwire_server_…`` and ``sealwire_build_info``.

    Args:
        report: Returns the report, as the admin endpoint has it.
    """

    def __init__(self, report: Callable[[], dict[str, Any]]) -> None:
        self._report = report

    def collect(self) -> Iterable[Metric]:
        """Return the present metrics."""
        report = self._report()
        serving = report["state"] == "serving"
        yield GaugeMetricFamily(f"{_SERVER}serving", "1 while the server accepts clients.", value=serving)
        if "workers" in report:
            yield GaugeMetricFamily(f"{_SERVER}workers", "Worker processes.", value=len(report["workers"]))
        connections = GaugeMetricFamily(f"{_SERVER}connections", "Connections by state.", labels=["state"])
        for state in ("established", "handshaking"):
            connections.add_metric([state], report["connections"][state])
        yield connections
        for name, family in FAMILIES.items():
            yield _metric(_SERVER + name, family, report["counters"][name])
        build = GaugeMetricFamily("sealwire_build_info", "The version.", labels=["version"])
        build.add_metric([version("sealwire")], 1)
        yield build


def _metric(name: str, family: Family, shown: Any) -> Metric:
    """Return one family of counters."""
    if family.kind == "histogram":
        return HistogramMetricFamily(name, family.text, list(shown["buckets"].items()), shown["sum"])
    kind = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
    if not family.label:
        return kind(name, family.text, value=shown)
    metric = kind(name, family.text, labels=[family.label])
    for value, number in shown.items():
        metric.add_metric([value], number)
    return metric


class ClientCollector(Collector):
    """Reads what the clients and pools of this process have counted, at each scrape.

    ::

        REGISTRY.register(ClientCollector())
        client = SynchronousTCPClient(host, port, security=security, middleware=[measure])

    Connections and bytes are counted for all clients, requests for those with ``sealwire.middleware.measure`` among
    their middleware. docs/reference/metrics.md lists the metrics, ``sealwire_client_…``.
    """

    def collect(self) -> Iterable[Metric]:
        """Return the present metrics."""
        for name, family in CLIENT_FAMILIES.items():
            yield _metric(f"sealwire_client_{name}", family, family.shown(CLIENT))


class PoolCollector(Collector):
    """Reads the state of the servers of pools at each scrape.

    * ``sealwire_pool_servers{pool, state}``: Servers that are ``in_service``, or ``out`` until their back-off is over.
    * ``sealwire_pool_connections{pool}``: Open connections.
    * ``sealwire_pool_requests_in_flight{pool}``: Requests in progress.

    Args:
        pools: The pools, by the names that tell them apart: ``PoolCollector(orders=pool)``.
    """

    def __init__(self, **pools: BasePool[Any]) -> None:
        self._pools = pools

    def collect(self) -> Iterable[Metric]:
        """Return the present metrics."""
        servers = GaugeMetricFamily("sealwire_pool_servers", "Servers by state.", labels=["pool", "state"])
        connections = GaugeMetricFamily("sealwire_pool_connections", "Open connections.", labels=["pool"])
        requests = GaugeMetricFamily("sealwire_pool_requests_in_flight", "Requests in progress.", labels=["pool"])
        for name, pool in self._pools.items():
            found = pool.status()
            in_service = sum(each.in_service for each in found)
            servers.add_metric([name, "in_service"], in_service)
            servers.add_metric([name, "out"], len(found) - in_service)
            connections.add_metric([name], sum(each.connections for each in found))
            requests.add_metric([name], sum(each.requests for each in found))
        return servers, connections, requests


class Exposition:
    """The metrics of one server as text, in a registry of their own.

    Args:
        security: The server's Security.
        report: Returns the server's report.

    Attributes:
        kind: The text's Content-Type.
    """

    kind: Final = CONTENT_TYPE_LATEST

    def __init__(self, security: Security, report: Callable[[], dict[str, Any]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(SecurityCollector(security))
        self._registry.register(ReportCollector(report))

    def __call__(self) -> bytes:
        """Return the present metrics."""
        return generate_latest(self._registry)
