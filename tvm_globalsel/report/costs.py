"""Plans of bare cost tables, whatever their unit, for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from tvm_globalsel.report.tables import console_for_tables


def print_costs(result: dict[str, Any]) -> None:
    """What :func:`tvm_globalsel.trinnity.solve_tables` found."""
    console = console_for_tables()
    chosen = Table("layer", "primitive", "layouts", "cost", title=f"plan of {result['selected']['solver']}")
    chosen.columns[3].justify = "right"
    for layer in result["plan"]:
        layouts = layer["in"] if layer["in"] == layer["out"] else f"{layer['in']}->{layer['out']}"
        chosen.add_row(layer["layer"], layer["primitive"], layouts, f"{layer['cost']:.3f}")
    console.print(chosen)
    for move in result["transforms"]:
        console.print(
            f"transform after {move['after']}: {move['from']} -> {move['to']}, {move['cost']:.3f}", highlight=False
        )
    best = result["global"]
    totals = Table("plan", "cost", "against global", title="cost of the whole network")
    totals.columns[1].justify = totals.columns[2].justify = "right"
    rows = {
        "global (exact)": best,
        "local: cheapest primitive of each layer": result["local"],
        "greedy": result["greedy"],
        **{f"single layout {name}": cost for name, cost in result["single"].items()},
        "sum2d: textbook loops": result["sum2d"],
    }
    if result["selected"]["solver"] != result["solver"]:
        rows[f"this plan ({result['selected']['solver']})"] = result["selected"]["cost"]
    for name, cost in rows.items():
        ratio = f"{cost / best:.4f} x" if cost is not None and best else ""
        totals.add_row(name, "no such plan" if cost is None else f"{cost:.3f}", ratio)
    console.print(totals)
    proof = "Proven optimal" if result["optimal"] else f"NOT proven (gap {result['gap']})"
    console.print(f"{proof} by {result['solver']} in {result['seconds'] * 1e3:.1f} ms.", highlight=False)
    for note in result["notes"]:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
