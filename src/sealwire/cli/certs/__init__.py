"""``sealwire certs``: certificates, from the first to the last, one file for each group of commands."""

from sealwire.cli.certs import issuing, renewal, requests, revocation, showing
from sealwire.cli.certs.group import certs

__all__ = ["certs", "issuing", "renewal", "requests", "revocation", "showing"]
