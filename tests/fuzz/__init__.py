"""Coverage-guided fuzzing with atheris, one module for each kind of bytes that a stranger, a peer or a file can choose.

A target is a module with these names:

* ``one(data)`` tries one input. Any exception that leaves it is a finding. It keeps nothing that changes the next one.
* ``SEEDS`` are inputs to begin with, beside the files of ``corpus/TARGET``; a function if they take time to make.
* ``RUNS`` is the number of inputs of a quick run, which takes some seconds.

``python -m fuzz`` runs them, and ``test_corpora.py`` replays seeds and corpora without atheris.
"""

from __future__ import annotations

TARGETS: dict[str, tuple[str, ...]] = {
    "frames": ("sealwire.wire",),
    "handshake": ("sealwire.wire", "sealwire.session"),
    "vetting": ("sealwire.pickling",),
    "configuration": (
        "sealwire.security",
        "sealwire.configuration_options",
        "sealwire.toml_options",
        "sealwire.limits",
        "sealwire.trusted_proxies",
        "sealwire.authorisation",
        "sealwire.faults",
        "sealwire.pickling.allowlist",
        "sealwire.pickling.importing",
        "sealwire.trust",
    ),
    "identities": ("sealwire.pki", "sealwire.trust"),
    "proxy_headers": ("sealwire.wire.proxy_header",),
    "datagrams": ("sealwire.dtls", "sealwire.wire.datagram", "sealwire.wire.sequence"),
    "envelopes": ("sealwire.envelope",),
}
"""The targets, and the packages of each whose branches guide the fuzzer."""
