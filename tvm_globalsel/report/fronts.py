"""The fronts of time against memory and against accumulated error, as tables and as data."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from tvm_globalsel.limits import Point
from tvm_globalsel.report.tables import console_for_tables


def rows(front: list[Point]) -> list[dict[str, Any]]:
    """A front as JSON data, from its fastest plan."""
    return [
        {
            "cost_s": p.solution.cost_s, "peak_bytes": p.peak_bytes, "error": p.error,
            "optimal": p.solution.optimal, "gap": p.solution.gap, "solver_s": round(p.solution.seconds, 3),
        }
        for p in front
    ]  # fmt: skip


def print_fronts(memory: list[Point], error: list[Point]) -> None:
    """Two tables; every row is a plan, the fastest first."""
    console = console_for_tables()
    for title, front, option in (
        ("time against peak memory", memory, "--max-memory"), ("time against accumulated error", error, "--max-error"),
    ):  # fmt: skip
        table = Table(
            "predicted ms", "slower by", "peak MiB", "error", "proof", f"globalsel compile {option}", title=title
        )
        for column in range(4):
            table.columns[column].justify = "right"
        best = front[0].solution.cost_s
        for p in front:
            proof = "optimal" if p.solution.optimal else f"within {p.solution.gap:.2%}"
            asked = str(p.peak_bytes) if option == "--max-memory" else f"{p.error * (1 + 1e-6):.6e}"
            table.add_row(
                f"{p.solution.cost_s * 1e3:.3f}", f"{p.solution.cost_s / best - 1:.2%}" if best else "",
                f"{p.peak_bytes / 2**20:.2f}", f"{p.error:.2e}", proof, asked,
            )  # fmt: skip
        console.print(table)
