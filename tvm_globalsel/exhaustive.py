"""Measuring without a search: every variant, and the further knobs of those that came near the best."""

from __future__ import annotations

import dataclasses
import math

from te_kernels.task import Task
from te_kernels.variant import Variant
from tvm_globalsel.candidates import Candidates, measuring_order, refinements
from tvm_globalsel.log import TuningLog
from tvm_globalsel.measure import Measurer, Progress, Request, Tuning, tune


def tune_exhaustively(
    everything: list[Candidates], log: TuningLog, measurer: Measurer, budget_s: float, progress: Progress | None
) -> Tuning:
    """Measure the first instance of every variant, then further knobs of those that came near the best."""

    def cost_s(task: Task, variant: Variant) -> float:
        record = log.get(measurer.context.key(task, variant))
        return record.cost_s if record else math.inf

    ordered = [Request(t, v) for t, v in measuring_order(everything)]
    tasks = sum(bool(candidates.variants) for candidates in everything)
    first = tune(ordered, log, measurer, budget_s, progress, required=tasks)
    more = [Request(t, v) for t, v in refinements(everything, cost_s)]
    if first.skipped:
        return dataclasses.replace(first, skipped=first.skipped + len(more))
    return first + tune(more, log, measurer, budget_s - first.seconds, progress)
