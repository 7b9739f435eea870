"""Our kernels for one layer: rank all candidates through the tuning log, then time the leaders beside the peers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

from te_kernels import check
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, Task
from te_kernels.variant import Variant
from tvm_globalsel.bench.layers import Layer
from tvm_globalsel.candidates import Candidates, candidates_for, measuring_order, refinements
from tvm_globalsel.log import TuningLog
from tvm_globalsel.measure import Measurer, Progress, Request, Tuning, tune

#: How far behind a group's best by the log a kernel may be, and how many of a group are tried warm at most.
_NEAR, _TRIED = 1.15, 6
_BLOCK_S = 6e-3
_RUNS_IN_BLOCK = 3

#: Columns of the report: what a variant must be to stand in them.
GROUPS: dict[str, Callable[[ConvTask, Variant], bool]] = {
    "any": lambda task, v: True,
    "direct": lambda task, v: v.family not in ("winograd", "fft", "strassen"),
    "winograd": lambda task, v: v.family == "winograd",
    "nhwc": lambda task, v: (v.layouts(task).inputs[0], v.layouts(task).output) == ("NHWC", "NHWC"),
}


@dataclass(frozen=True)
class Leaders:
    """The candidates of a layer that may be the fastest with warm data, and how many were ranked for it.

    The log is of kernels whose weights were evicted from L2, which can turn what is near.
    """

    layer: Layer
    variants: tuple[Variant, ...]
    measured: int
    failed: tuple[str, ...]


def rank(
    layers: list[Layer], log: TuningLog, measurer: Measurer, machine: Machine, budget_s: float, progress: Progress
) -> tuple[list[Leaders], Tuning]:
    """Measure every applicable variant of every layer into the log; the best of each group of each layer.

    First the first instance of every variant, then further knobs of those within 30 % of the layer's best.
    """

    def cost_s(task: Task, variant: Variant) -> float:
        record = log.get(measurer.context.key(task, variant))
        return record.cost_s if record else math.inf

    found = [candidates_for(layer.task, machine) for layer in layers]
    tuning = tune([Request(t, v) for t, v in measuring_order(found)], log, measurer, budget_s, progress)
    more = [Request(t, v) for t, v in refinements(found, cost_s) if not tuning.skipped]
    tuning += tune(more, log, measurer, budget_s - tuning.seconds, progress)
    return [_leaders(layer, c, log, measurer, cost_s) for layer, c in zip(layers, found, strict=True)], tuning


def _leaders(
    layer: Layer, candidates: Candidates, log: TuningLog, measurer: Measurer, cost_s: Callable[[Task, Variant], float]
) -> Leaders:
    ranked = [v for v in candidates.variants if math.isfinite(cost_s(layer.task, v))]
    chosen = best_of_groups(layer.task, ranked, lambda v: cost_s(layer.task, v), _TRIED, _NEAR)
    failures = []
    for variant in candidates.variants:
        record = log.get(measurer.context.key(layer.task, variant))
        if record is not None and record.error:
            failures.append(f"{variant.label}: {record.error}")
    return Leaders(layer, tuple(chosen), len(ranked), tuple(failures))


def best_of_groups(
    task: ConvTask, variants: list[Variant], cost_s: Callable[[Variant], float], most: int, near: float = math.inf
) -> list[Variant]:
    """The ``most`` cheapest of each of :data:`GROUPS` that cost at most ``near`` times its best, each once."""
    chosen: dict[str, Variant] = {}
    for belongs in GROUPS.values():
        own = sorted((v for v in variants if belongs(task, v)), key=cost_s)[:most]
        chosen.update({v.label: v for v in own if cost_s(v) <= near * cost_s(own[0])})
    return list(chosen.values())


class Running:
    """One built kernel with its arguments, checked against the oracle."""

    def __init__(self, case: check.Case, variant: Variant, target: tvm.target.Target, machine: Machine) -> None:
        self.variant = variant
        func = variant.prim_func(case.task, machine).with_attr("global_symbol", "main")
        self._module = tvm.compile(tvm.IRModule({"main": func}), target=target).mod
        self._arguments = check.arguments(case, variant)
        self._module["main"](*self._arguments)
        self.relative_error = check.relative_error(case, variant, self._arguments)
        if not self.relative_error <= variant.error_bound(case.task):
            raise RuntimeError(f"{variant.label} on {case.task}: relative error {self.relative_error:.2e}")
        self._evaluator: Any = None

    def block_s(self) -> float:
        """Seconds of one run: median over a few milliseconds, data warm, as other engines' benchmarks have it."""
        if self._evaluator is None:
            once = self._module.time_evaluator("main", tvm.cpu(), number=1, repeat=3)
            number = max(1, math.ceil(_BLOCK_S / _RUNS_IN_BLOCK / min(once(*self._arguments).results)))
            self._evaluator = self._module.time_evaluator("main", tvm.cpu(), number=number, repeat=_RUNS_IN_BLOCK)
        return float(np.median(list(self._evaluator(*self._arguments).results)))
