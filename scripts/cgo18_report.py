"""Tables and the plot of scripts/reproduce_cgo18."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cgo18_nets import TITLES

Results = dict[str, dict[str, dict[str, Any]]]
ONEDNN = "oneDNN"
_LAST = ("best single layout", "local", "global")


def columns(results: Results) -> list[str]:
    """All plans that some network has: sum2d, families, then the whole-network plans."""
    names = dict.fromkeys(name for by in results.values() for one in by.values() for name in one["plans"])
    return [*(n for n in names if n not in _LAST), *_LAST, ONEDNN]


def seconds(one: dict[str, Any], column: str, which: str) -> float | None:
    """``which`` is predicted_s or measured_s."""
    found: float | None = (one["onednn"] if column == ONEDNN else one["plans"].get(column, {})).get(which)
    return found


def speedup(one: dict[str, Any], column: str, which: str) -> float | None:
    """How many times faster than sum2d."""
    base, own = seconds(one, "sum2d", which), seconds(one, column, which)
    return base / own if base and own else None


def tables(results: Results) -> str:
    """Markdown: speed-ups over sum2d and milliseconds, each as predicted / measured; then what is missing and why."""
    names = columns(results)
    some = next(iter(next(iter(results.values())).values()))
    lines = [f"{some['device']} ({some['target']}), TVM {some['tvm']}, float32, batch 1; predicted / measured"]
    for title, cell in (("times faster than sum2d", _speedups), ("milliseconds", _milliseconds)):
        lines += ["", f"| {title} | threads | {' | '.join(names)} |", "| --- " * (len(names) + 2) + "|"]
        for net, by_threads in results.items():
            for threads, one in by_threads.items():
                lines.append(f"| {TITLES[net]} | {threads} | {' | '.join(cell(one, name) for name in names)} |")
    notes = [
        f"- {TITLES[net]}, {threads} thread(s): {note}"
        for net, by_threads in results.items()
        for threads, one in by_threads.items()
        for note in _notes(one)
    ]
    return "\n".join([*lines, "", *notes])


def _notes(one: dict[str, Any]) -> list[str]:
    notes = [f"{name}: {plan['error']}" for name, plan in one["plans"].items() if "error" in plan]
    worst = max((p["relative_error"] for p in one["plans"].values() if "relative_error" in p), default=None)
    if worst is not None:
        notes.append(f"largest error against ONNX Runtime {worst:.1e}")
    notes.append(f"best single layout is {one['plans']['best single layout']['solver'].removeprefix('single:')}")
    if one["tuning"]["out_of_time"]:
        notes.append(f"{one['tuning']['out_of_time']} kernels were not measured for lack of --budget; run again")
    peer = one["onednn"]
    notes.append(
        f"oneDNN: {peer['error']}" if "error" in peer
        else f"oneDNN: {peer['onednn']}, torch {peer['torch']}, {peer['order']}, error {peer['relative_error']:.1e}"
    )  # fmt: skip
    return notes


def _speedups(one: dict[str, Any], column: str) -> str:
    return _pair([speedup(one, column, which) for which in ("predicted_s", "measured_s")], 1.0, 1)


def _milliseconds(one: dict[str, Any], column: str) -> str:
    return _pair([seconds(one, column, which) for which in ("predicted_s", "measured_s")], 1e3, 2)


def _pair(values: list[float | None], factor: float, digits: int) -> str:
    return " / ".join("-" if value is None else f"{value * factor:.{digits}f}" for value in values)


def plot(results: Results, path: Path) -> None:
    """Speed-ups over sum2d: bars are measured, marks predicted; a panel for each number of threads."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in columns(results) if name != "sum2d"]
    panels = list(dict.fromkeys(threads for by_threads in results.values() for threads in by_threads))
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(12, 4.2 * len(panels)), squeeze=False)
    width = 0.85 / len(names)
    for (axis,), threads in zip(axes, panels, strict=True):
        nets = [net for net in results if threads in results[net]]
        for number, name in enumerate(names):
            places = [i + (number - (len(names) - 1) / 2) * width for i in range(len(nets))]
            for which in ("measured_s", "predicted_s"):
                found = [(x, speedup(results[net][threads], name, which)) for x, net in zip(places, nets, strict=True)]
                xs, ys = [x for x, y in found if y], [y for _, y in found if y]
                if which == "measured_s":
                    axis.bar(xs, ys, width * 0.9, label=name, color=f"C{number % 10}", hatch="//" if number > 9 else "")
                elif ys:
                    axis.plot(xs, ys, "k_", markersize=60 * width, label="predicted" if number == 0 else None)
        axis.set(yscale="log", ylabel="times faster than sum2d", title=f"{threads} thread(s)")
        axis.set_xticks(range(len(nets)), [TITLES[net] for net in nets])
        axis.grid(True, axis="y", which="both", alpha=0.3)
        axis.legend(ncols=6, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    figure.suptitle("Whole networks, normalised to sum2d: bars measured end to end, marks predicted")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
