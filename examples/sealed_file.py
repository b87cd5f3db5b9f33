"""A value sealed in a file: its type is on a list, and it opens with the key, at its place and in its time only.

Prints::

    Price(item='tea', amount=Decimal('4.20'))
    altered: EnvelopeForged
    another file's: EnvelopeContextMismatch
    a pickle: EnvelopeMalformed
"""

import pickle
from dataclasses import dataclass
from decimal import Decimal

from sealwire import Allowlist, Codec, EnvelopeError, Keyring
from sealwire.envelope import Envelope
from sealwire.testing import Throwaway


@dataclass
class Price:
    item: str
    amount: Decimal


with Throwaway() as place:
    keys = Keyring.from_file(place.keyring)
    envelope = Envelope(keys, purpose="price lists", codec=Codec(Allowlist(Price)))
    path = place.directory / "tea.sealed"
    path.write_bytes(envelope.seal(Price("tea", Decimal("4.20")), lifetime=30 * 86_400, context=path.name))
    sealed = path.read_bytes()
    print(envelope.open(sealed, context=path.name))
    for what, data, name in (
        ("altered", sealed[:-1] + bytes([sealed[-1] ^ 1]), path.name),
        ("another file's", sealed, "gold.sealed"),
        ("a pickle", pickle.dumps(1), path.name),
    ):
        try:
            envelope.open(data, context=name)
        except EnvelopeError as error:
            print(f"{what}: {type(error).__name__}")
