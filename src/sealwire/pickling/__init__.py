"""The restricted pickle codec. Only this package imports :mod:`pickle`.

It turns values into ordinary pickles and back, and accepts no pickle that could do more than make values of the types
on an allowlist, within limits. Connections, frames and keys do not belong here.

Reading a message:

* :mod:`.unpickler`: the decoder; begin here. Vets, builds with CPython's unpickler, resolves.
* :mod:`.vet`: the vetting pass, which follows the whole message before anything is built. Its parts are
  :mod:`.leaves` (numbers, str and bytes), :mod:`.nodes` (objects and keys), :mod:`.calls` (calls and instances),
  :mod:`.opcodes` (the accepted opcodes), :mod:`.dict_keys` and :mod:`.hash_collisions` (the keys of dicts and sets).
* :mod:`.globals`: the table of names that a message may use; :mod:`.standard` has the rules for the standard value
  types, and :mod:`.constructors` makes their values.
* :mod:`.placeholders`, :mod:`.resolve`: inert objects that are built instead of instances, and their replacement.
* :mod:`.elide`: leaves large bytes out of the vetting pass.
* :mod:`.message_file`: gives a long message to the unpickler in pieces, so that other threads get their turn.

Writing a message:

* :mod:`.encoder`: the encoder; begin here. Writes a pickle and lets the decoder check it.
* :mod:`.pickle_writer`: the file that is written to; keeps large bytes apart.
* :mod:`.diagnose`: finds the part of a value that cannot be encoded.

Both readings of a message have a twin in :mod:`sealwire.native`, which is used if ``NATIVE`` is true. It also surveys a
value, so that the decoder need not be asked about most messages that are written.

Types: :mod:`.allowlist`, with :mod:`.importing`; :mod:`.adapters`, one for each kind of configured type;
:mod:`.hints`, :mod:`.annotations`, :mod:`.constraints` and :mod:`.type_checks`, which check the fields of their values.
"""

from sealwire.native import NATIVE
from sealwire.pickling.allowlist import Allowlist
from sealwire.pickling.encoder import Encoder
from sealwire.pickling.unpickler import Decoder

__all__ = ["NATIVE", "Allowlist", "Decoder", "Encoder"]
