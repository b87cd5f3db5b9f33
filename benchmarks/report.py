"""The table of results, and docs/explanation/performance.md with its plots."""

from __future__ import annotations

import os
import platform
import re
import ssl
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from string import Template
from typing import Any

from benchmarks import plots
from benchmarks.processes import ROOT

TEMPLATE = Path(__file__).with_name("performance.md")
PAGE = ROOT / "docs" / "explanation" / "performance.md"
LARGE = 1_000_000
MOST_LOAD = 1.5
BUSY = (
    "**The machine was busy with other work:\n  times, and ratios of peers that wait differently, are not those of an "
    "idle one.** Run `make bench` again before\n  drawing conclusions; the figures of memory hold."
)
FORMS = ("sealwire-threads", "sealwire-asyncio", "sealwire-uvloop", "sealwire-prefork")
GOALS = (
    ("A", FORMS[:1], 0.85), ("A1", FORMS[:1], 0.55), ("A1", FORMS[1:2], 0.28), ("B", FORMS[:1], 0.5), ("B", FORMS, 1.1),
    ("C", FORMS[:1], 0.7), ("C", FORMS, 0.8), ("D", FORMS[:1], 0.6), ("D", FORMS, 0.75), ("F", FORMS[:1], 0.9),
    ("H", FORMS[:1], 6), ("H", FORMS[1:2], 8), ("G", FORMS[:1], 92), ("G", FORMS[1:2], 58),
)  # fmt: skip
"""The wanted result of the best of some forms: for H a multiple of its own A, for G a number of KiB, else a ratio."""
PACKAGES = ("sealwire", "cryptography", "uvloop", "msgpack", "Pyro5", "rpyc", "grpcio", "pyzmq")


def machine() -> str:
    """Return processor, their number, memory and system."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    count = len(os.sched_getaffinity(0))
    return f"{count} processors ({model}), {gib:.0f} GiB, {platform.system()} {platform.release()}"


def versions() -> dict[str, str]:
    """Return the version of everything that has a part in the figures."""
    found = {platform.python_implementation(): platform.python_version(), "OpenSSL": ssl.OPENSSL_VERSION.split()[1]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def present(names: Iterable[str], absent: dict[str, str]) -> list[str]:
    """Return those names whose peer is there; a form of Sealwire is there in any case, native or pure."""
    return [name for name in names if name not in absent or name.startswith("sealwire")]


def number(value: float) -> str:
    """Return a number with three digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(workload: dict[str, Any], name: str) -> str:
    if name not in workload["medians"]:
        return "-"
    ratio = workload["ratios"].get(name)
    return number(workload["medians"][name]) + ("" if ratio is None else f" · {ratio:.2f}")


def table(results: dict[str, Any]) -> str:
    """Return the results for a terminal: figure and ratio to the yardstick, a row for each peer."""
    workloads, names = results["workloads"], list(results["peers"])
    width = max(map(len, [*names, "peer"])) + 2
    lines = [f"{'':{width}}" + "".join(f"{letter:>16}" for letter in workloads)]
    lines += [
        f"{name:{width}}" + "".join(f"{_cell(workload, name):>16}" for workload in workloads.values()) for name in names
    ]
    lines += [f"{letter}: {each['title']} ({each['unit']})" for letter, each in workloads.items()]
    lines += [f"{name} is left out: {reason}" for name, reason in results["absent"].items()]
    lines += [
        f"{name} has no {letter}: {reason}"
        for letter, each in workloads.items()
        for name, reason in each["reasons"].items()
    ]
    lines += _pipelined(workloads)
    for title, key in (("requests/s by connections", "connections"), ("round trip by size", "sizes")):
        for name, row in results.get(key, {}).items():
            cells = [f"{point}: {_point(value, int(point))}" for point, value in row.items()]
            lines.append(f"{title}, {name}: " + ", ".join(cells))
    return "\n".join(lines)


def _pipelined(workloads: dict[str, Any]) -> list[str]:
    """Return how much pipelining gains each peer, in a line."""
    if not {"A", "H"} <= workloads.keys():
        return []
    single, pipelined = (workloads[letter]["medians"] for letter in "AH")
    gains = [f"{name} {each / single[name]:.1f}" for name, each in pipelined.items() if name in single]
    return ["H in multiples of the same peer's A: " + ", ".join(gains) + "."]


def _goals(workloads: dict[str, Any]) -> str:
    """Return the goals beside what was reached, in a table."""
    rows = []
    for letter, forms, wanted in GOALS:
        kind = "medians" if letter in "GH" else "ratios"
        reached = {name: workloads.get(letter, {}).get(kind, {}).get(name) for name in forms}
        singles = workloads.get("A", {}).get("medians", {})
        found = {
            name: value / singles[name] if letter == "H" else value
            for name, value in reached.items()
            if value is not None and (letter != "H" or name in singles)
        }
        if not found:
            continue
        best = (min if letter == "G" else max)(found, key=lambda name: found[name])
        is_met = found[best] <= wanted if letter == "G" else found[best] >= wanted
        unit = " KiB at most" if letter == "G" else " x its own A" if letter == "H" else ""
        rows.append([letter, f"`{best}`", f"{wanted:g}{unit}", number(found[best]), "yes" if is_met else "**no**"])
    return _rows(["", "form", "wanted", "reached", "met"], rows) if rows else "Not measured in this run."


def _point(value: float | dict[str, float], point: int) -> str:
    """Return requests per second, or a time and, for messages that are large beside a process, the memory."""
    if not isinstance(value, dict):
        return number(value)
    memory = f", memory {value['client']:.1f} and {value['server']:.1f} x" if point >= LARGE else ""
    return f"{number(value['seconds'] * 1000)} ms{memory}"


# The page


def write(results: dict[str, Any]) -> None:
    """Write the page and its plots. Raises OSError."""
    drawn = plots.draw(results, PAGE.parent)
    workloads, names = results["workloads"], results["peers"]
    parts = {
        "minutes": f"{results['took'] / 60:.0f}",
        "seconds": f"{results['seconds_of_a_turn']:g}",
        "load": f"{results['load_when_it_began']:.1f}",
        "busy": BUSY if results["load_when_it_began"] > MOST_LOAD else "",
        "load_after": f"{results['load_when_it_ended']:.1f}",
        "versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        "peers": "\n".join(f"| `{name}` | {note} |" for name, note in names.items()),
        "absent": "\n".join(f"* `{name}` is left out: {reason}" for name, reason in results["absent"].items()),
        "titles": "\n".join(f"| {letter} | {each['title']} ({each['unit']}) |" for letter, each in workloads.items()),
        "workloads": _rows(
            ["", *workloads], ([f"`{name}`", *(_cell(each, name) for each in workloads.values())] for name in names)
        ),
        "reasons": "\n".join(
            f"* `{name}` has no {letter}: {reason}"
            for letter, each in workloads.items()
            for name, reason in each["reasons"].items()
        ),
        "goals": _goals(workloads),
        "pipelined": "\n".join(_pipelined(workloads)),
        "connections": _curves(results.get("connections", {}), plots.CONNECTIONS in drawn, plots.CONNECTIONS),
        "sizes": _curves(results.get("sizes", {}), plots.SIZES in drawn, plots.SIZES),
    }
    text = Template(TEMPLATE.read_text()).substitute(results, **parts)
    PAGE.write_text(re.sub(r"\n{3,}", "\n\n", text))


def _curves(curves: dict[str, dict[str, Any]], is_drawn: bool, file: str) -> str:
    """Return the plot, and a table of its points."""
    if not is_drawn:
        return "Not measured in this run."
    points = list(dict.fromkeys(point for row in curves.values() for point in row))
    rows = [
        [f"`{name}`", *(_point(row[point], int(point)) if point in row else "-" for point in points)]
        for name, row in curves.items()
    ]
    return f"![Curves]({file})\n\n" + _rows(["", *(f"{int(point):,}" for point in points)], rows)


def _rows(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
