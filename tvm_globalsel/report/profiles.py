"""The table of a network's profile: where its time goes, and what the plan had expected."""

from __future__ import annotations

from rich.table import Table

from tvm_globalsel.profile import Profile, Step
from tvm_globalsel.report.tables import console_for_tables, rate


def print_profile(found: Profile, most: int) -> None:
    """The slowest ``most`` kernels and the total."""
    console = console_for_tables()
    table = Table("operator", "variant", "layouts", "planned ms", "measured ms", "off", "of all", "GFLOP/s")
    for column in range(3, 8):
        table.columns[column].justify = "right"
    shown = sorted(found.steps, key=lambda step: -step.measured_s)[:most]
    for step in shown:
        table.add_row(
            step.name, step.variant, step.layouts, f"{step.planned_s * 1e3:.3f}", f"{step.measured_s * 1e3:.3f}",
            _off(step), f"{step.measured_s / found.total_s:.1%}", rate(step.gflop, step.measured_s),
        )  # fmt: skip
    console.print(table)
    if len(shown) < len(found.steps):
        console.print(f"{len(found.steps) - len(shown)} faster kernels are not shown (--most)", highlight=False)
    console.print(
        f"{len(found.steps)} kernels, {found.total_s * 1e3:.3f} ms measured, {found.planned_s * 1e3:.3f} ms planned "
        f"({found.total_s / found.planned_s - 1:+.1%})" if found.planned_s else "no kernels",
        highlight=False,
    )  # fmt: skip


def _off(step: Step) -> str:
    return f"{step.measured_s / step.planned_s - 1:+.0%}" if step.planned_s else "-"
