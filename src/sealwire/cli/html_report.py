"""The report of ``sealwire doctor --html``: one page of HTML and CSS that loads nothing and runs no script.

Every value goes through :func:`_text`. The style sheet and the drawings are ours alone, and the page forbids everything
else to itself (Content-Security-Policy), so that a name from a file can be nothing but text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

from sealwire.cli.inventory import names_of
from sealwire.cli.lifetimes import days_left, warning_from
from sealwire.cli.pem_files import UNREADABLE
from sealwire.cli.report import Finding, Severity, worst_first
from sealwire.limits import Limits
from sealwire.moments import moment_text
from sealwire.pki.crl import number_of
from sealwire.security import Security
from sealwire.trust.certificates import Certificates
from sealwire.trust.key_snapshot import KeySnapshot
from sealwire.wire.frames import escaped

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_WIDTH: Final = 1000
_REACH: Final = 3650.0
"""Days from today to either edge of the time line."""
_NOW: Final = 0.25
"""The place of today on the time line."""
_TICKS: Final = {-365: "a year ago", 0: "today", 7: "a week", 30: "a month", 365: "a year"}
_COMMAND: Final = re.compile(r"`([^`]+)`")


class _Span(NamedTuple):
    """A row of the time line."""

    name: str
    kind: str
    start: datetime | None
    end: datetime | None


def report_page(
    config: Path, findings: Sequence[Finding], security: Security | None, *, days: int | None, form: str
) -> str:
    """Return the page.

    Args:
        config: The file of the configuration.
        findings: The findings of ``doctor``.
        security: The Security that the file loads; None if it cannot be loaded.
        days: As for :func:`warning_from`.
        form: The version of Sealwire, in words.
    """
    now = datetime.now(UTC)
    style = Path(__file__).with_name("html_report.css").read_text("utf-8")
    parts = [_findings(findings)]
    if security is not None:
        current = security.credentials.current
        spans = [*_certificates(current), *_lists(current), *_keys(security.keys.current)]
        parts += [_time_line(spans, now, days), _peers(security), _limits(security.limits)]
    moment = f'<time datetime="{now.isoformat()}">{moment_text(now)}</time>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="color-scheme" content="light dark">
<title>Sealwire: {_text(config.name)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{_text(config)}</h1>
<p>{_summary(findings)}</p>
<p class="quiet">Made by <code>sealwire doctor</code> at {moment}, {_text(form)}.</p>
</header>
<main>
{"".join(parts)}</main>
</body>
</html>
"""


def _text(value: object) -> str:
    """Return a value as text of HTML, without characters that control anything."""
    return escape(escaped(value))


def _with_commands(text: str) -> str:
    return _COMMAND.sub(r"<code>\1</code>", _text(text))


def _section(title: str, content: str) -> str:
    name = title.lower().replace(" ", "-")
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{content}</section>\n'


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    plurals = {Severity.CRITICAL: "critical", Severity.WARNING: "warnings", Severity.NOTE: "notes"}
    found = [
        f"{counts[severity]} {severity if counts[severity] == 1 else plural}"
        for severity, plural in plurals.items()
        if counts[severity]
    ]
    return ", ".join(found) or "Nothing is wrong."


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return _section("Findings", "<p>Nothing is wrong.</p>\n")
    items = "".join(
        f'<li class="{finding.severity}"><p><strong class="badge">{finding.severity}</strong> '
        f"<code>{_text(finding.location)}</code></p>\n<p>{_with_commands(finding.problem)}</p>\n"
        f'<p><span class="quiet">What to do:</span> {_with_commands(finding.remedy)}</p></li>\n'
        for finding in worst_first(findings)
    )
    return _section("Findings", f'<ul class="findings">\n{items}</ul>\n')


def _certificates(current: Certificates) -> Iterator[_Span]:
    for group, certificates in (("certificate", current.certificates), ("trust anchor", current.authorities)):
        for number, each in enumerate(certificates):
            kind = "intermediate certificate" if group == "certificate" and number else group
            try:
                names = names_of(each)
            except UNREADABLE:
                names = ()
            name = ", ".join(names) or each.subject.rfc4514_string() or f"serial {each.serial_number:x}"
            yield _Span(name, kind, each.not_valid_before_utc, each.not_valid_after_utc)


def _lists(current: Certificates) -> Iterator[_Span]:
    for crl in current.lists:
        kind = f"revocation list {number_of(crl)}"
        yield _Span(crl.issuer.rfc4514_string(), kind, crl.last_update_utc, crl.next_update_utc)


def _keys(keys: KeySnapshot) -> Iterator[_Span]:
    for key in keys:
        yield _Span(key.id, f"key for {key.identity or 'every client'}", key.not_before, key.not_after)


def _place(moment: datetime | None, now: datetime, otherwise: float) -> float:
    """Return the place of a moment on the time line, from 0 to 1; ``otherwise``, days from now, stands for none."""
    return _of_days(otherwise if moment is None else (moment - now).total_seconds() / 86400)


def _of_days(days: float) -> float:
    """Return the place of so many days from now: the past has a quarter, and days near now are wide."""
    distance = math.log1p(min(abs(days), _REACH) / 3) / math.log1p(_REACH / 3)
    return _NOW + (distance * (1 - _NOW) if days > 0 else -distance * _NOW)


def _state(span: _Span, now: datetime, days: int | None) -> tuple[str, str]:
    """Return the state of a row, as its class and in words."""
    if span.start is not None and now < span.start:
        return "later", f"from {moment_text(span.start)}"
    if span.end is None:
        return "good", "no end"
    if span.end < now:
        return "critical", f"ended {moment_text(span.end)}"
    left = days_left(span.end)
    text = f"until {moment_text(span.end)}, {left} {'day' if left == 1 else 'days'}"
    return ("warning", f"{text}: soon") if now >= warning_from(span.start, span.end, days) else ("good", text)


def _time_line(spans: Iterable[_Span], now: datetime, days: int | None) -> str:
    ticks = "".join(
        f'<span class="{_class(number)}" style="left: {100 * _of_days(number):.1f}%">{name}</span>'
        for number, name in _TICKS.items()
    )
    rows = "".join(_row(span, now, days) for span in spans)
    caption = (
        "From when to when each is valid. The strong line is today. The scale is logarithmic: near it a day is as wide "
        "as a year far from it."
    )
    return _section(
        "Certificates and keys",
        f'<figure>\n<div class="row axis" aria-hidden="true"><span></span><div class="ticks">{ticks}</div></div>\n'
        f"<ul>\n{rows}</ul>\n<figcaption>{caption}</figcaption>\n</figure>\n",
    )


def _class(number: int) -> str:
    return "tick" if number else "now"


def _row(span: _Span, now: datetime, days: int | None) -> str:
    state, words = _state(span, now, days)
    left, right = _place(span.start, now, -_REACH) * _WIDTH, _place(span.end, now, _REACH) * _WIDTH
    places = {number: f"{_of_days(number) * _WIDTH:.0f}" for number in _TICKS}
    lines = "".join(
        f'<line class="{_class(number)}" x1="{x}" y1="0" x2="{x}" y2="24"/>' for number, x in places.items()
    )
    bar = f'<rect class="{state}" x="{left:.0f}" y="5" width="{max(4, right - left):.0f}" height="14" rx="3"/>'
    label = _text(f"{span.kind} {span.name}: {words}")
    return (
        f'<li class="row"><p><strong>{_text(span.name)}</strong><br><span class="quiet">{_text(span.kind)}</span></p>\n'
        f'<div><svg role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} 24" preserveAspectRatio="none">'
        f"{bar}{lines}</svg>\n"
        f'<p class="{state}">{_text(words)}</p></div></li>\n'
    )


def _peers(security: Security) -> str:
    peers = security.peers
    if peers is None:
        content = "<p>No list: a client, which verifies the server's name.</p>\n"
    elif not peers.entries:
        content = "<p>Every peer with a certificate of the trust anchors may connect.</p>\n"
    else:
        items = "".join(f"<li><code>{_text(entry)}</code></li>\n" for entry in peers.entries)
        content = f"<ul>\n{items}</ul>\n"
    return _section("Peers", content)


def _limits(limits: Limits) -> str:
    rows = []
    for spec in fields(limits):
        value = getattr(limits, spec.name)
        changed = value != getattr(Limits(), spec.name)
        shown = f"{int(value) if value == int(value) else value:,} {_text(spec.metadata['unit'])}"
        rows.append(
            f'<tr class="{"changed" if changed else "default"}"><th scope="row"><code>{spec.name}</code></th>'
            f"<td>{shown}{' (changed)' if changed else ''}</td><td>{_text(spec.metadata['why'])}</td></tr>\n"
        )
    head = '<tr><th scope="col">limit</th><th scope="col">value</th><th scope="col">what it bounds</th></tr>'
    table = f"<table>\n<thead>{head}</thead>\n<tbody>\n{''.join(rows)}</tbody>\n</table>"
    return _section("Limits", f'<div class="wide">\n{table}\n</div>\n')
