"""``sealwire keys``: the pre-shared keys in a keyring file."""

from sealwire.cli.keys import making, rotating
from sealwire.cli.keys.group import keys

__all__ = ["keys", "making", "rotating"]
