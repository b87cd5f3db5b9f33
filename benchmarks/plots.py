"""The plots of docs/explanation/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORKLOADS, CONNECTIONS, SIZES = (f"performance-{name}.svg" for name in ("workloads", "connections", "sizes"))
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
SEALWIRE, OTHER, INSECURE = "tab:blue", "0.6", "tab:red"


def draw(results: dict[str, Any], directory: Path) -> list[str]:
    """Write the plots for which there are results; return their names."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sealwire"  # so that the same figures make the same file
    mpl.rcParams["svg.fonttype"] = "none"
    drawn = []
    for file, key, function in (
        (WORKLOADS, "workloads", _draw_workloads),
        (CONNECTIONS, "connections", _draw_connections),
        (SIZES, "sizes", _draw_sizes),
    ):
        if results.get(key):
            figure = function(results)
            figure.savefig(directory / file, metadata={"Date": None})
            drawn.append(file)
    return drawn


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _colour(results: dict[str, Any], name: str) -> str:
    if name.startswith("sealwire"):
        return SEALWIRE
    return INSECURE if results["peers"][name].startswith("INSECURE") else OTHER


def _draw_workloads(results: dict[str, Any]) -> Any:
    """Draw bars from 1 to the ratio to the yardstick, a panel for each workload."""
    workloads, columns = results["workloads"], 3
    rows = -(-len(workloads) // columns)
    figure, grid = _figure(rows, columns, 13, 1 + rows * (0.8 + 0.19 * len(results["peers"])))
    panels = list(grid.flat)
    for panel, (letter, workload) in zip(panels, workloads.items(), strict=False):
        names = [name for name in results["peers"] if name in workload["ratios"]][::-1]
        ratios = [workload["ratios"][name] for name in names]
        panel.set_xscale("log")
        panel.barh(
            names, [ratio - 1 for ratio in ratios], left=1,
            color=[_colour(results, name) for name in names],
        )  # fmt: skip
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_xticks([tick for tick in TICKS if min(ratios) <= tick <= max(ratios)], minor=False)
        panel.set_xticks([], minor=True)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_title(f"{letter}: {workload['title']}", fontsize=9)
        panel.tick_params(labelsize=7)
    for panel in panels[len(workloads) :]:
        panel.set_axis_off()
    figure.suptitle("relative to bare-tls: more is better, less in G; blue: Sealwire, red: no TLS")
    return figure


def _draw_connections(results: dict[str, Any]) -> Any:
    figure, ((axes,),) = _figure(1, 1, 8, 5)
    for name, row in results["connections"].items():
        style = "-" if name.startswith("sealwire") else "--"
        axes.plot([int(count) for count in row], list(row.values()), style, marker="o", label=name)
    axes.set(xscale="log", ylim=(0, None), xlabel="connections", ylabel="requests per second")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _draw_sizes(results: dict[str, Any]) -> Any:
    figure, ((times, memory),) = _figure(1, 2, 12, 5)
    for name, row in results["sizes"].items():
        style = "-" if name.startswith("sealwire") else "--"
        sizes = [int(size) for size in row]
        (line,) = times.plot(sizes, [each["seconds"] * 1000 for each in row.values()], style, marker="o", label=name)
        large = [(size, each) for size, each in zip(sizes, row.values(), strict=True) if size >= 1_000_000]
        memory.plot(
            [size for size, _ in large], [each["server"] for _, each in large], style, marker="o", label=name,
            color=line.get_color(),
        )  # fmt: skip
    times.set(xscale="log", yscale="log", xlabel="bytes", ylabel="round trip (ms)")
    memory.set(xscale="log", ylim=(0, None), xlabel="bytes", ylabel="server's memory (multiples of the message)")
    for axes in (times, memory):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
