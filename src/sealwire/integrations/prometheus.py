"""What is in service, as metrics for Prometheus; needs the extra ``sealwire[prometheus]``.

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
    """Reads a Security's status when it is scraped. Times are seconds since the epoch.

    ``sealwire_generation``: number of what is in service, by kind of files (credentials, keyring).
    ``sealwire_loaded_timestamp_seconds``: since when. ``sealwire_refused``: 1 while the files hold what is not taken.
    ``sealwire_refusals_total``: how often that began. ``sealwire_expires_timestamp_seconds``: the first end, by what
    ends (certificate, trust_anchor, revocation_list, signing_key); without one that does not end.
    """

    def __init__(self, security: Security) -> None:
        self._security = security

    def collect(self) -> Iterable[Metric]:
        """The metrics now."""
        credentials, keys = self._security.status()
        generation = GaugeMetricFamily("sealwire_generation", "Number of the generation in service.", labels=["files"])
        loaded = GaugeMetricFamily("sealwire_loaded_timestamp_seconds", "When it was loaded.", labels=["files"])
        refused = GaugeMetricFamily("sealwire_refused", "Whether the files hold what is not taken.", labels=["files"])
        refusals = CounterMetricFamily("sealwire_refusals", "How often files were not taken.", labels=["files"])
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
        expires = GaugeMetricFamily("sealwire_expires_timestamp_seconds", "The first end.", labels=["what"])
        for what, moments in ends.items():
            if moments and min(moments) < datetime.max.replace(tzinfo=UTC):
                expires.add_metric([what], min(moments).timestamp())
        return generation, loaded, refused, refusals, expires

    def _signing_key_end(self) -> datetime:
        """0 of the epoch where there is no key, so that it counts as over; the end of time where it has no end."""
        try:
            key = self._security.keys.signing_key(datetime.now(UTC))
        except ConfigurationError:
            return datetime.fromtimestamp(0, UTC)
        return key.not_after or datetime.max.replace(tzinfo=UTC)
