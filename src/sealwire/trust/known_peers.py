"""Remembers the content of peers' certificates, so that those of a peer that comes again need not be parsed again.

Parsing a certificate takes as long as all else that Sealwire adds to the TLS handshake. Only the names and facts in it
are remembered, under the hash of its bytes: chain, dates, revocation and the list of peers are judged at every
connection. A certificate is remembered when its peer has proved a key of ours, so no stranger takes up room. A peer has
room for PER_PEER certificates, and none for those above LARGEST bytes: it displaces its own, and never those of others.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from sealwire.trust.identity import PeerIdentity

MOST: Final = 512
"""Certificates that are remembered, at most."""
PER_PEER: Final = 2
"""Those of one peer: the one before a renewal, and the one after it."""
LARGEST: Final = 4096
"""Bytes of a certificate that is remembered, at most. A usual one has 500 to 2,000."""


class KnownPeers:
    """The identities of peers, by certificate. Any thread may use it, without a lock that a fork could leave taken."""

    def __init__(self) -> None:
        self._found: dict[str, PeerIdentity] = {}

    def identify(self, leaf: bytes) -> PeerIdentity:
        """Return the identity in a leaf certificate (DER) that TLS has verified.

        Raises PeerNotAllowed if the certificate cannot be parsed.
        """
        found = self._found.get(sha256(leaf).hexdigest())
        return PeerIdentity.from_der(leaf) if found is None else found

    def remember(self, leaf: bytes, identity: PeerIdentity) -> None:
        """Remember the identity in the certificate (DER) of a peer that is authenticated."""
        found = self._found
        if identity.fingerprint in found or len(leaf) > LARGEST:
            return
        found[identity.fingerprint] = identity
        theirs = [each for each, known in list(found.items()) if known.account == identity.account]
        for each in theirs[:-PER_PEER] + list(found)[:-MOST]:
            found.pop(each, None)

    def __len__(self) -> int:
        return len(self._found)


known_peers: Final = KnownPeers()
"""Those of this process."""
