"""``sealwire certs``: certificates, from the first to the last; a module for each group of commands."""

from sealwire.cli.certs import bundle, issue, renew, request, revoke
from sealwire.cli.certs import list as list_
from sealwire.cli.certs.common import certs

__all__ = ["bundle", "certs", "issue", "list_", "renew", "request", "revoke"]
