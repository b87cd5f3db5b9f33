"""Let other people's tools judge Sealwire: ``make audit``.

    python -m audit [--fast] [--write PAGE]

Ends with status 1 if a judgement is bad. A tool that is not installed is named on the page, with the reason.
"""

from __future__ import annotations

import argparse
import os
import platform
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from audit import source_tools, wire_tools
from audit.judgement import Judgement, note
from audit.target import target

HEAD = """\
# Judged by other people's tools

`make audit` wrote this page on {date}, with Python {python} and {openssl}. It starts `sealwire serve`, with
certificates that `sealwire certs` and `sealwire keys` have made, and a server of DTLS, and lets each tool that is
installed judge them, or the source. The command fails if a finding is neither good nor explained here
(`tests/audit/accepted.py`), and also if an explained one no longer occurs. `make audit FAST=1` judges services alone,
in less than a minute, and writes no page.

A Unix socket has no TLS that a tool could judge, and sessions on NATS carry the TLS of this page in messages. What
Sealwire adds to TLS is [proved elsewhere](../explanation/proofs.md).

| tool | subject | judgement |
|---|---|---|
{summary}

"""


def main() -> int:
    """Run all judges; write the page; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m audit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fast", action="store_true", help="judge services alone, in less than a minute")
    parser.add_argument("--write", type=Path, help="file of the page")
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    judgements = []
    with target() as service:
        judges: list[Callable[[], Judgement]] = [
            partial(judge, service)
            for judge in (
                wire_tools.sslyze,
                *(() if options.fast else (wire_tools.testssl,)),
                wire_tools.nmap,
                wire_tools.tls13,
                wire_tools.openssl,
                wire_tools.gnutls,
                wire_tools.clients,
            )
        ]
        for judge in judges:
            judgements.append(told(judge))
            if not service.still_answers():
                judgements[-1].bad.append("afterwards the service did not answer a good client")
    slow = (source_tools.dependencies, source_tools.pip_audit, source_tools.sanitizers)
    quick = (source_tools.bandit, source_tools.semgrep, source_tools.ruff)
    judgements += map(told, () if options.fast else (*quick, *slow))
    page = HEAD.format(
        date=datetime.now(UTC).date().isoformat(),
        python=platform.python_version(),
        openssl=ssl.OPENSSL_VERSION,
        summary="\n".join(f"| {each.tool} | {each.subject} | {state(each)} |" for each in judgements),
    ) + "\n".join(line for each in judgements for line in each.page())
    if options.write:
        options.write.write_text(page.rstrip() + "\n")
    return any(each.bad for each in judgements)


def told(judge: Callable[[], Judgement]) -> Judgement:
    judgement = judge()
    note(f"{state(judgement):8} {judgement.tool}: {judgement.missing or judgement.verdict}")
    for each in judgement.bad:
        note(f"         {each}")
    return judgement


def state(judgement: Judgement) -> str:
    return "not run" if judgement.missing is not None else "bad" if judgement.bad else "good"


if __name__ == "__main__":
    sys.exit(main())
