"""Times of a deployed network's kernels inside of the network, beside what the plan expects of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tvm_globalsel.deferral import shown
from tvm_globalsel.errors import UserError
from tvm_globalsel.runtime import Deployed

#: What TVM's virtual machine calls beside kernels: allocations and views.
_BUILTIN = "vm."
_WARM_UPS = 3


@dataclass(frozen=True)
class Step:
    """One kernel of a plan: of the operator ``name``, or the transform of its value; expected and measured seconds."""

    name: str
    kernel: str
    variant: str
    layouts: str
    planned_s: float
    measured_s: float
    gflop: float


@dataclass(frozen=True)
class Profile:
    """``total_s`` is the median of whole inferences; the steps' measured seconds add up to it."""

    total_s: float
    planned_s: float
    steps: tuple[Step, ...]


def profile(deployed: Deployed, arrays: dict[str, np.ndarray], repeat: int) -> Profile:
    """Run ``repeat`` inferences as they are and ``repeat`` instrumented ones, in turns.

    What an inference takes beyond its kernels (calls, allocations), less what the instrument itself takes, is shared
    among the kernels equally.
    """
    plan = deployed.plan
    if plan["target"]["kind"] != "llvm":
        raise UserError("only networks on CPUs can be profiled: a GPU runs a captured graph", "use Nsight Systems")
    expected = _expected(plan)
    calls: list[tuple[str, float]] = []
    start_s = 0.0

    def watch(name: str, before: bool) -> None:
        nonlocal start_s
        now_s = time.perf_counter()
        if not before and not name.startswith(_BUILTIN):
            calls.append((name, now_s - start_s))
        start_s = time.perf_counter()

    run = deployed.bound(arrays)
    whole_s, rows = [], []
    for turn in range(_WARM_UPS + repeat):
        began_s = time.perf_counter()
        run()
        taken_s = time.perf_counter() - began_s
        with deployed.watched(watch):
            calls.clear()
            run()
        if turn >= _WARM_UPS:
            whole_s.append(taken_s)
            rows.append([seconds for _, seconds in calls])
    names = [name for name, _ in calls]
    if sorted(names) != sorted(step.kernel for step in expected):
        raise UserError(f"{deployed.folder}: the library runs other kernels than the plan has", "compile it again")
    total_s, seconds = float(np.median(whole_s)), np.median(np.reshape(rows, (repeat, len(names))), axis=0)
    seconds = np.maximum(0.0, seconds + (total_s - seconds.sum()) / max(1, len(seconds)))
    seconds *= total_s / seconds.sum() if seconds.any() else 1.0  # where clipping has added something
    return Profile(total_s, sum(step.planned_s for step in expected), tuple(_measured(expected, names, seconds)))


def _expected(plan: dict[str, Any]) -> list[Step]:
    """A plan's kernels; those of one name in the order of execution."""
    entries = [(node["name"], node, node["in"][:1], node["out"]) for node in plan["nodes"]]
    entries += [(f"transform of {move['value']}", move, [move["from"]], move["to"]) for move in plan["transforms"]]
    steps = []
    for name, entry, source, destination in entries:
        if "kernel" not in entry:
            raise UserError("the plan does not tell which kernels it runs", "compile the model again")
        if entry["kernel"] is not None:
            layouts = " -> ".join(dict.fromkeys(map(shown, [*source, destination])))
            gflop = float(entry.get("gflop", 0.0))  # a transform computes nothing
            steps.append(Step(name, entry["kernel"], entry["variant"], layouts, entry["cost_s"], 0.0, gflop))
    return steps


def _measured(expected: list[Step], names: list[str], seconds: np.ndarray) -> Iterator[Step]:
    """The steps in the order of execution, with their times."""
    waiting: dict[str, list[Step]] = defaultdict(list)
    for step in expected:
        waiting[step.kernel].append(step)
    for name, taken_s in zip(names, seconds, strict=True):
        yield replace(waiting[name].pop(0), measured_s=float(taken_s))
