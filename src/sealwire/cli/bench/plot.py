"""The plot of ``sealwire bench --plot``: latency by percentile, and over time."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import click

from sealwire import extras
from sealwire.cli.bench.results import Results, percentile

_BINS: Final = 60
"""Points of the curves over time, at most."""
_NINES: Final = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def check_plot(path: Path) -> None:
    """Refuse the command line unless a plot can be made, before anything is measured. Raises ConfigurationError."""
    if path.suffix != ".svg":
        raise click.BadParameter(f"{path}: a plot is an SVG file; choose a name that ends in .svg", param_hint="--plot")
    if importlib.util.find_spec("matplotlib") is None:
        raise extras.missing("plot", "--plot")


def draw(results: Results, title: str, path: Path) -> None:
    """Write the plot. Raises OSError."""
    # By name, so that types are checked the same with and without it.
    figure: Any = importlib.import_module("matplotlib.figure").Figure(figsize=(8, 7), layout="constrained")
    figure.suptitle(title)
    upper, lower = figure.subplots(2)
    if results.latencies:
        _draw_percentiles(upper, results)
        _draw_over_time(lower, results)
    figure.savefig(path)


def _draw_percentiles(axes: Any, results: Results) -> None:
    ordered = sorted(results.latencies)
    shown = [part for part in _NINES if (1 - part) * len(ordered) >= 1 or part == _NINES[0]]
    steps = [1 - 10 ** -(exponent / 20) for exponent in range(round(20 * len(shown)))]
    parts = [part for part in steps if part <= shown[-1]]
    axes.plot([1 / (1 - part) for part in parts], [percentile(ordered, part) * 1000 for part in parts])
    axes.set(xscale="log", ylim=(0, None), xlabel="percentile", ylabel="latency (ms)")
    axes.set_xticks([1 / (1 - part) for part in shown], [f"{part * 100:g}" for part in shown], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)


def _draw_over_time(axes: Any, results: Results) -> None:
    width = max(results.seconds / _BINS, 1e-6)
    bins: dict[int, list[float]] = {}
    for ended, latency in zip(results.ended, results.latencies, strict=True):
        bins.setdefault(int(ended / width), []).append(latency)
    times = sorted(bins)
    middles = [(time + 0.5) * width for time in times]
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        axes.plot(middles, [percentile(sorted(bins[time]), part) * 1000 for time in times], label=name)
    axes.set(ylim=(0, None), xlabel="seconds", ylabel="latency (ms)")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.step(middles, [len(bins[time]) / width for time in times], where="mid", color="0.6")
    rate.set(ylim=(0, None), ylabel="requests per second (grey)")
