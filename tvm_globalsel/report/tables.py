"""Explain a plan in tables and sentences. Reads ``plan.json`` only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tvm_globalsel.deferral import DEFERRED, shown
from tvm_globalsel.errors import UserError
from tvm_globalsel.report.why import fastest_alone_sentence, robustness_sentence

_FILE_WIDTH = 150
#: Knobs that repeat the layouts or the target's vector length.
SAID_ELSEWHERE = ("data", "out", "layout", "lanes")


def console_for_tables() -> Console:
    """The terminal's own width; wide enough for the tables where the output goes into a file or a pipe."""
    # names come from models: nothing in them is markup
    console = Console(markup=False, emoji=False)
    return console if console.is_terminal else Console(width=_FILE_WIDTH, markup=False, emoji=False)


def summary(plan: dict[str, Any], folder: Path) -> None:
    """What a compilation ends with."""
    console = console_for_tables()
    tuning = plan["tuning"]
    console.print(
        f"measured {tuning['measured']} kernels in {tuning['seconds']:.0f} s ({tuning['from_log']} were in the log, "
        f"{tuning['failed']} failed" + (f", {tuning['out_of_time']} left out for lack of time"
                                        if tuning["out_of_time"] else "") + ")",
        highlight=False,
    )  # fmt: skip
    _basis(console, plan)
    console.print(_totals(plan))
    console.print(_proof(plan), highlight=False)
    _search(console, plan)
    _needs(console, plan)
    console.print(f"wrote model.so, weights.bin and plan.json into {folder}", highlight=False, soft_wrap=True)


def _basis(console: Console, plan: dict[str, Any]) -> None:
    """A warning where times are not measurements, and where they were measured."""
    basis = plan.get("costs", "measured")
    if basis != "measured":
        console.print(f"NOT MEASURED: the times of this plan are {basis}.", highlight=False, soft_wrap=True)
    inside = plan.get("inside", {"measured_inside": 0})
    if inside["measured_inside"]:
        console.print(
            f"{inside['measured_inside']} of {inside['kernels']} kernels are priced by what they took inside of a "
            "network, the others by what they take alone, scaled to that.", highlight=False, soft_wrap=True,
        )  # fmt: skip


def explain(plan: dict[str, Any]) -> None:
    """Layers, transforms, totals and proof."""
    console = console_for_tables()
    console.print(f"{plan['model']} on {plan['device']}, {plan['threads']} thread(s), TVM {plan['versions']['tvm']}",
                  highlight=False, soft_wrap=True)  # fmt: skip
    _basis(console, plan)
    console.print(_layers(plan))
    if any(node["variant"] == DEFERRED for node in plan["nodes"]):
        console.print("Deferred operators are done by the kernel of the operator behind; what they make, in brackets, "
                      "is never stored.", highlight=False, soft_wrap=True)  # fmt: skip
    if plan["transforms"]:
        for transform in plan["transforms"]:
            console.print(_transform_sentence(transform), highlight=False, soft_wrap=True)
    else:
        console.print("No layout transform was inserted.")
    for sentence in filter(None, map(fastest_alone_sentence, plan["nodes"])):
        console.print(sentence, highlight=False, soft_wrap=True)
    console.print(_totals(plan))
    console.print(_proof(plan), highlight=False, soft_wrap=True)
    _search(console, plan)
    console.print(robustness_sentence(plan), highlight=False, soft_wrap=True)
    _needs(console, plan)


def explain_node(plan: dict[str, Any], name: str) -> None:
    """Everything that was considered for one operator."""
    node = next((n for n in plan["nodes"] if n["name"] == name), None)
    if node is None:
        close = [n["name"] for n in plan["nodes"] if name.lower() in n["name"].lower()][:5]
        remedy = f"did you mean {', '.join(close)}?" if close else "'globalsel explain DIR' lists the names"
        raise UserError(f"the plan has no operator {name!r}", remedy)
    console = console_for_tables()
    also = f", with {node['with']}" if node.get("with") else ""
    console.print(f"{name}: {_shape(node['task'])}, {node['gflop']:.3f} GFLOP{also}", highlight=False)
    table = Table("variant", "knobs", "layouts", "ms", "GFLOP/s", "whole network", title=f"choices for {name}")
    table.add_row(node["variant"], _knobs(node), _layouts(node), _ms(node["cost_s"]), _rate(node), "chosen")
    for other in node["alternatives"]:
        effect = other["status"] if other["cost_s"] is None else _regret(other["regret_s"])
        table.add_row(other["variant"], _knobs(other), _layouts(other), _ms(other["cost_s"]),
                      _rate({**node, **other}), effect)  # fmt: skip
    console.print(table)
    sentence = fastest_alone_sentence(node)
    if sentence is not None:
        console.print(sentence, highlight=False, soft_wrap=True)
    for rejected in node["rejected"]:
        console.print(f"  {rejected['variant']}: not applicable: {rejected['reason']}", highlight=False, soft_wrap=True)


def _arena(peak: dict[str, Any]) -> str:
    size = peak.get("arena_bytes")
    return "" if size is None else f"; the activations' arena has {size / 2**20:.2f}"


def _needs(console: Console, plan: dict[str, Any]) -> None:
    """Memory, error and the constraints they were chosen under."""
    if "peak_memory" not in plan:  # written by an earlier version
        return
    peak = plan["peak_memory"]
    console.print(
        f"Peak memory {peak['total_bytes'] / 2**20:.2f} MiB at {peak['node']}: activations "
        f"{peak['activation_bytes'] / 2**20:.2f}, workspace {peak['workspace_bytes'] / 2**20:.2f}, packed weights "
        f"{peak['weight_bytes'] / 2**20:.2f}{_arena(peak)}. "
        f"Accumulated error {plan['accumulated_error']:.2e} (first order).",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    asked = plan["constraints"]
    given = [f"--max-memory {asked['max_memory_bytes']}"] if asked["max_memory_bytes"] is not None else []
    given += [f"--max-error {asked['max_error']}"] if asked["max_error"] is not None else []
    limited = bool(given)
    given += [f"--slack {asked['slack']:g}"] if asked.get("slack") else []
    given += [f"--pin {node}={variant}" for node, variant in asked["pin"]]
    given += [f"--forbid {variant}" for variant in asked["forbid"]]
    if given:
        console.print(f"Constraints: {' '.join(given)}.", highlight=False, soft_wrap=True)
    if limited:
        console.print("What the network would lose, and 'global', are without --max-memory and --max-error.")


def _layers(plan: dict[str, Any]) -> Table:
    table = Table("operator", "shape", "variant", "layouts", "ms", "GFLOP/s", "runner-up", "network would lose")
    for column in (4, 5, 7):
        table.columns[column].justify = "right"
    for node in plan["nodes"]:
        other = next((a for a in node["alternatives"] if a["regret_s"] is not None), None)
        table.add_row(
            node["name"], _shape(node["task"]), node["variant"], _layouts(node), _ms(node["cost_s"]), _rate(node),
            f"{other['variant']} ({_layouts(other)})" if other else "-",
            f"{other['regret_s'] * 1e3:.3f} ms" if other else "-",
        )  # fmt: skip
    return table


def _totals(plan: dict[str, Any]) -> Table:
    table = Table("plan", "predicted ms", "against global", title="predicted time of the whole network")
    table.columns[1].justify = table.columns[2].justify = "right"
    totals = plan["predicted_s"]
    best = totals["global"]
    names = {"global": "global (exact)", "local": "local: fastest variant of each layer", "greedy": "greedy",
             "sum2d": "sum2d: textbook loops", "selected": "this plan"}  # fmt: skip
    for key, value in totals.items():
        if key == "selected" and value == best:
            continue
        shown = names.get(key, f"single layout {key.removeprefix('single:')}")
        ratio = f"{value / best:.3f} x" if value is not None and best else ""
        table.add_row(shown, _ms(value) if value is not None else "no such plan, or not all measured", ratio)
    return table


def _proof(plan: dict[str, Any]) -> str:
    proof = plan["certificate"]
    if plan.get("slack"):
        return _slack(plan)
    how = ", ".join(f"{name} {count}" for name, count in proof["reductions"].items())
    if proof["optimal"]:
        return f"Proven optimal by {proof['solver']} in {proof['seconds'] * 1e3:.0f} ms ({how or 'no reductions'})."
    if proof["gap"] is not None:
        return (f"NOT proven optimal: {proof['solver']} stopped after {proof['seconds']:.1f} s, at most "
                f"{proof['gap']:.2%} above the best.")  # fmt: skip
    return f"Solver {proof['solver']} proves nothing about this plan ({proof['seconds'] * 1e3:.0f} ms)."


def _slack(plan: dict[str, Any]) -> str:
    bought, proof = plan["slack"], plan["certificate"]
    return (
        f"At most {plan['constraints']['slack']:.1%} slower than the fastest plan by {proof['solver']} "
        f"({bought['fastest_s'] * 1e3:.3f} ms, {bought['fastest_weight_bytes'] / 2**20:.2f} MiB of weights): "
        f"{proof['gap']:.2%} of this one's time go into smaller weights, {bought['weight_bytes'] / 2**20:.2f} MiB. "
        f"No such plan has less than {bought['least_weight_bytes'] / 2**20:.2f}."
    )  # fmt: skip


def _search(console: Console, plan: dict[str, Any]) -> None:
    """What the candidates that were not measured could still change."""
    found = plan.get("search")
    if not found or found["proven_gap"] is None:
        return
    measured = found["candidates"] - found["unmeasured"]
    console.print(
        f"{measured} of {found['candidates']} candidates are measured. The others could make the plan faster by at "
        f"most {found['proven_gap']:.1%} (by the machine's limits); expected are {found['estimated_gap']:.2%} (by the "
        "predictor).",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _transform_sentence(transform: dict[str, Any]) -> str:
    readers = ", ".join(transform["for"])
    verb = "reads" if len(transform["for"]) == 1 else "read"
    if transform["variant"] is None:
        return f"view {transform['value']}: {transform['from']} and {transform['to']} are the same bytes, for {readers}"
    return (f"transform {transform['value']}: {transform['from']} -> {transform['to']}, "
            f"{transform['cost_s'] * 1e3:.3f} ms, because {readers} {verb} {transform['to']}")  # fmt: skip


def _shape(task: dict[str, Any]) -> str:
    kind = task["kind"]
    steps = "+".join(s[0] for s in task.get("epilogue", []))
    suffix = f" +{steps}" if steps else ""
    if kind == "conv2d":
        stride = f" s{task['stride'][0]}" if task["stride"] != [1, 1] else ""
        groups = f" g{task['groups']}" if task["groups"] > 1 else ""
        return f"conv {task['c']}x{task['h']}x{task['w']}->{task['k']} {task['r']}x{task['s']}{stride}{groups}{suffix}"
    if kind == "pool2d":
        return f"{task['mode']}pool {task['c']}x{task['h']}x{task['w']} {task['r']}x{task['s']}{suffix}"
    if kind == "concat":
        return f"concat {'+'.join(map(str, task['channels']))}x{task['h']}x{task['w']}{suffix}"
    if kind == "opaque":
        return str(task["text"]).split(" ", 1)[0]
    shape = task.get("shape") or task.get("data_shape") or task.get("from_shape") or []
    more = f"->{task['k']}" if kind == "dense" else ""
    return f"{kind} {'x'.join(map(str, shape))}{more}{suffix}"


def _layouts(node: dict[str, Any]) -> str:
    source, out = shown(node["in"][0]) if node["in"] else "-", shown(node["out"])
    return source if source == out else f"{source}->{out}"


def _knobs(node: dict[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in node["knobs"].items() if k not in SAID_ELSEWHERE)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3f}"


def _rate(node: dict[str, Any]) -> str:
    return rate(node["gflop"], node["cost_s"])


def rate(gflop: float, seconds: float | None) -> str:
    """GFLOP/s, nothing for what computes next to nothing."""
    return f"{gflop / seconds:.0f}" if seconds and gflop > 1e-3 else ""


def _regret(regret_s: float | None) -> str:
    return "no plan can use it" if regret_s is None else f"+{regret_s * 1e3:.3f} ms"
