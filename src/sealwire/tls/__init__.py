"""TLS 1.3 with certificates on both sides (docs/protocol.md, section 1).

credentials  certificate, key, trust anchors and revocation lists, read together and proved
contexts     what is asked of TLS, on both sides
identity     who the peer is, by its verified certificate
policy       who may connect
issue        a certificate authority of one's own
names        names for certificates, read from text
files        writing private and public files
"""
