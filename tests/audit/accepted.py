"""Findings that are known and accepted: a pattern for each line, with the reason."""

from __future__ import annotations

SSLYZE = {
    "Received chain contains the anchor certificate": "OpenSSL completes the chain with the trust anchors that it has "
    "loaded. It costs 500 bytes in each handshake and tells nothing that is secret.",
}

TESTSSL = {
    r"cert_revocation: Neither CRL nor OCSP URI provided": "a certificate of `sealwire certs` names no place for "
    "revocation lists: no peer fetches anything while it verifies. Lists come with `crl`, as a file "
    "([rotate certificates](../how-to/rotate-certificates.md)).",
    r"engine_problem: .*": "a remark on the OpenSSL that the tool itself runs with, not on the server.",
    r"DNS_CAArecord: .*": "there is no public CA that could be restricted.",
}

GNUTLS = {
    r"gnutls-cli with DTLS 1.2 and a certificate: verified: .*Error decoding the received TLS packet\.": "GnuTLS takes "
    "cookies of at most 32 bytes, as DTLS 1.0 has them. RFC 6347, section 4.2.1, allows 255, and the server's are long "
    "so that an address which sent much gets an answer at once ([protocol](../protocol.md)). OpenSSL takes them.",
}

TLS13 = {
    "an empty handshake record: server_hello": "RFC 8446, section 5.1, forbids sending it; OpenSSL drops up to 32 such "
    "records in a row. Sealwire bounds records without data by itself (`tests/attacks/test_records.py`).",
}

BANDIT = {
    r"B403 .*(pickling/|/codec\.py|cli/).*": "the only imports of pickle and pickletools: the decoder vets all bytes "
    "before, and import-linter holds all other packages to it.",
    r"B404 .*": "the renewal command that the user configured, and the demonstration's own processes.",
}

SEMGREP = {
    r"comparison-in-variable-time src/sealwire/(cli/keys/move|session/validity|trust/keyring).py": "two secrets of "
    "keyrings of this side are compared. No peer chooses either, or sees how long it takes.",
    r"import-by-name src/sealwire/(dtls/)?__init__.py": "a fixed table of the package's own public names.",
    r"import-by-name src/sealwire/pickling/importing.py": "the types of the allowlist in the configuration, when it is "
    "read; no message names a module.",
    r"import-by-name src/sealwire/cli/app.py": "a fixed table of commands.",
    r"no-verification src/sealwire/trust/contexts.py": "`plain_context` tests new certificates in memory, against "
    "`verifying_context`; no connection of a peer uses either.",
    r"no-verification src/sealwire/cli/connectivity.py": "`sealwire doctor` looks at the certificate that a server "
    "shows, to say what is wrong with it; it sends nothing.",
}
