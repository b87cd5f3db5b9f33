"""``sealwire keys``: the pre-shared keys in a keyring file."""

from sealwire.cli.keys import list as list_
from sealwire.cli.keys import move, new, rotate
from sealwire.cli.keys.common import keys

__all__ = ["keys", "list_", "move", "new", "rotate"]
