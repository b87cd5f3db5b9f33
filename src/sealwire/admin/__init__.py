"""The admin endpoint: probes, status and metrics of a server, by plain HTTP on this machine alone."""

from __future__ import annotations

from sealwire.admin.endpoint import AdminEndpoint

__all__ = ["AdminEndpoint"]
