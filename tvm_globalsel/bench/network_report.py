"""Results of whole networks: a table for people, JSON for programs, a bar plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tvm_globalsel.bench.networks import NetworkResult, is_ours
from tvm_globalsel.bench.race import Figures
from tvm_globalsel.bench.report import geometric_mean
from tvm_globalsel.errors import UserError

_MIB = 1 << 20


def print_network(result: NetworkResult, load: bool, console: Console) -> None:
    """One network's engines, fastest first, and why others are missing."""
    title = (
        f"{result.model}: {result.gflop:.2f} GFLOP, batch {result.batch}, {result.threads} thread(s), "
        f"FMA peak {result.peak_gflops:.0f} GFLOP/s"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("engine")
    columns = ["median ms", "min ms", "best peer = 1", "of FMA peak", "error"]
    for name in [*columns, *(["import s", "load s", "resident MiB"] if load else [])]:
        table.add_column(name, justify="right")
    for label, figures in sorted(result.engines.items(), key=lambda item: item[1].median_s):
        table.add_row(*_cells(result, label, figures, load), style="bold" if is_ours(label) else None)
    console.print(table)
    for label, reason in result.missing.items():
        console.print(f"  {label}: {reason}", markup=False, highlight=False)


def _cells(result: NetworkResult, label: str, figures: Figures, load: bool) -> list[str]:
    speedup = result.speedup(label)
    cells = [
        label, f"{figures.median_s * 1e3:.3f}", f"{figures.min_s * 1e3:.3f}",
        "-" if speedup is None else f"{speedup:.2f}",
        f"{result.gflop / figures.median_s / result.peak_gflops:.0%}", f"{figures.max_rel_error:.1e}",
    ]  # fmt: skip
    if load:
        cells += [f"{figures.import_s:.2f}", f"{figures.load_s:.3f}", f"{figures.rss_bytes / _MIB:.0f}"]
    return cells


def print_summary(results: Sequence[NetworkResult], slowed_blocks: int, console: Console) -> None:
    """The geometric mean of each of our plans over the best peer, and where it is behind."""
    for label in dict.fromkeys(label for r in results for label in r.engines if is_ours(label)):
        ratios = {r.model: ratio for r in results if (ratio := r.speedup(label)) is not None}
        if ratios:
            behind = [f"{model} ({ratio:.2f})" for model, ratio in ratios.items() if ratio < 1]
            console.print(
                f"{label}: {geometric_mean(list(ratios.values())):.2f} x the best peer (geometric mean over "
                f"{len(ratios)} network(s)); slower on {', '.join(behind) or 'none'}", highlight=False,
            )  # fmt: skip
    if slowed_blocks:
        console.print(f"{slowed_blocks} block(s) found no undisturbed moment", highlight=False)


def as_json(results: Sequence[NetworkResult]) -> list[dict[str, Any]]:
    """The results as data; times in milliseconds, null where there is nothing to compare with."""
    return [
        {
            "model": r.model, "threads": r.threads, "batch": r.batch, "gflop": r.gflop,
            "peak_gflops": round(r.peak_gflops, 2),
            "engines": {label: _engine(r, f) for label, f in r.engines.items()},
            "missing": r.missing, "best_peer": r.best_peer, "speedup_over_best_peer": r.speedup("globalsel"),
        }
        for r in results
    ]  # fmt: skip


def _engine(result: NetworkResult, figures: Figures) -> dict[str, Any]:
    return {
        "median_ms": figures.median_s * 1e3, "min_ms": figures.min_s * 1e3, "runs": figures.runs,
        "max_rel_error": figures.max_rel_error if math.isfinite(figures.max_rel_error) else None,
        "peak_fraction": result.gflop / figures.median_s / result.peak_gflops,
        "import_s": figures.import_s, "load_s": figures.load_s, "rss_bytes": figures.rss_bytes,
    }  # fmt: skip


def plot(results: Sequence[NetworkResult], path: Path) -> None:
    """Bars of every engine's speed relative to the best peer, network by network, written to ``path``."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "--plot needs matplotlib, which is not installed", "pip install 'tvm-globalsel[plots]'"
        ) from error

    labels = list(dict.fromkeys(label for r in results for label in r.engines))
    figure = Figure(figsize=(max(6.0, 1.2 * len(results) + 2), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.85 / max(1, len(labels))
    for i, label in enumerate(labels):
        heights = [r.speedup(label) or math.nan for r in results]
        places = [n + (i - (len(labels) - 1) / 2) * width for n in range(len(results))]
        axes.bar(
            places, heights, width, label=label, color=None if not is_ours(label) else f"{0.55 * _rank(labels, i):.2f}"
        )
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(results)), [r.model for r in results], rotation=30, ha="right")
    axes.set_ylabel("speed relative to the best peer")
    first = results[0]
    axes.set_title(f"float32, batch {first.batch}, {first.threads} thread(s); higher is faster")
    figure.legend(ncols=4, fontsize="small", loc="outside lower center")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the plot cannot be written ({error})", "choose a file such as bench.png") from error


def _rank(labels: list[str], i: int) -> float:
    """Place of one of our plans among ours, from 0 (the first) towards 1: greys that go lighter."""
    mine = [n for n, label in enumerate(labels) if is_ours(label)]
    return mine.index(i) / max(1, len(mine))
