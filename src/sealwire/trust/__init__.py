"""Credentials, keys and peers: read from files, validated, reloaded, and made into TLS contexts.

Belongs here: anything that decides which certificate, key or peer is trusted. Nothing here opens a connection.

certificates      a leaf certificate, its key, trust anchors and revocation lists: one immutable snapshot
credentials       the certificates in service, reloaded from their files
keyring           the pre-shared keys in service, reloaded from their file
reloading         follows files by content and swaps in a new value as one
peers             the list of peers that may be at the other end
identity          a peer's identity, from its verified certificate or its process
known_peers       the certificates of known peers, parsed once
own_certificate   what every peer must refuse in an endpoint's own certificate
contexts          TLS contexts of clients and servers
selftest          a TLS handshake in memory, before new certificates are taken
file_permissions  tells if other users can open a file
"""
