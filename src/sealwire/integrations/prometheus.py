"""Exports the certificates and keys in service to Prometheus; needs the extra ``sealwire[prometheus]``.

::

    from prometheus_client import REGISTRY
    from sealwire.integrations.prometheus import SecurityCollector

    REGISTRY.register(SecurityCollector(security))
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sealwire.errors import ConfigurationError
from sealwire.security import Security

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError:
    raise ConfigurationError(
        "sealwire.integrations.prometheus needs prometheus-client: pip install 'sealwire[prometheus]'"
    ) from None


class SecurityCollector(Collector):
    """Reads the status of a Security object at each scrape. Times are in seconds since the epoch.

    The label ``files`` is ``credentials`` or ``keyring``; ``what`` is ``certificate``, ``trust_anchor``,
    ``revocation_list`` or ``signing_key``.

    * ``sealwire_generation{files}``: Number of the generation in service.
    * ``sealwire_loaded_timestamp_seconds{files}``: When it was loaded.
    * ``sealwire_refused{files}``: 1 while the present content of the files is rejected.
    * ``sealwire_refusals_total{files}``: How many times new content was rejected.
    * ``sealwire_expires_timestamp_seconds{what}``: Earliest expiry; absent for a key that never expires.

    Args:
        security: The object to read.
    """

    def __init__(self, security: Security) -> None:
        self._security = security

    def collect(self) -> Iterable[Metric]:
        """Return the present metrics, after a look at the files if the last one is old."""
        credentials, keys = self._security.status()
        generation = GaugeMetricFamily("sealwire_generation", "Number of the generation in service.", labels=["files"])
        loaded = GaugeMetricFamily("sealwire_loaded_timestamp_seconds", "When it was loaded.", labels=["files"])
        refused = GaugeMetricFamily("sealwire_refused", "1 while the files are rejected.", labels=["files"])
        refusals = CounterMetricFamily("sealwire_refusals", "How many times files were rejected.", labels=["files"])
        for name, status in (("credentials", credentials), ("keyring", keys)):
            generation.add_metric([name], status.generation)
            if status.loaded_at is not None:
                loaded.add_metric([name], status.loaded_at.timestamp())
            refused.add_metric([name], status.refusal is not None)
            refusals.add_metric([name], status.refusals)
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
        return generation, loaded, refused, refusals, expires

    def _signing_key_end(self) -> datetime:
        """Return the signing key's expiry: the epoch if there is no key, the end of time if it never expires."""
        try:
            key = self._security.keys.signing_key(datetime.now(UTC))
        except ConfigurationError:
            return datetime.fromtimestamp(0, UTC)
        return key.not_after or datetime.max.replace(tzinfo=UTC)
