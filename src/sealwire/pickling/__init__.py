"""The restricted pickle codec: the only importer of :mod:`pickle`.

How a message is read, in this order (:mod:`.unpickler`):

1. vet (:mod:`.vet`): the whole message is interpreted over a closed set of opcodes (:mod:`.opcodes`) and a table of
   names (:mod:`.grants`), and nothing is built;
2. build: CPython's unpickler reads the same bytes; what a name yields comes from the table and is a checked constructor
   (:mod:`.standard`) or an inert stand-in;
3. resolve (:mod:`.resolve`): stand-ins, where there are any, become values.

How a message is written: :mod:`.encoder`.
"""

from sealwire.pickling.allowlist import Allowlist
from sealwire.pickling.encoder import Encoder
from sealwire.pickling.unpickler import Decoder

__all__ = ["Allowlist", "Decoder", "Encoder"]
