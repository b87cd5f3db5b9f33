"""A second implementation of the wire protocol, made from docs/protocol.md alone, to check the first against."""
