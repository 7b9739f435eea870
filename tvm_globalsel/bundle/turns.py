"""What to measure of a bundle, and in which order: what the log lacks, likely winners first, losers' knobs last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm_globalsel.bundle.child import Child
from tvm_globalsel.bundle.manifest import Kernel, Library, Manifest
from tvm_globalsel.candidates import Candidates, measuring_order, refinements
from tvm_globalsel.log import Context, Record, TuningLog, make_record

Progress = Callable[[int, int, str], None]
KERNEL_TIMEOUT_S = 40.0


@dataclass(frozen=True)
class Measured:
    """How many kernels were new, in the log already, failed, or out of time."""

    new: int
    known: int
    failed: int
    skipped: int


def measure_bundle(
    manifest: Manifest, log: TuningLog, base: Context, child: Child, budget_s: float, progress: Progress,
    timeout_s: float = KERNEL_TIMEOUT_S,
) -> Measured:  # fmt: skip
    """Measure every kernel that the log lacks; each library's records are logged as soon as it has run.

    The first instance of each variant first, then further knobs of those variants that came near their task's best,
    then the rest: ``compile`` finds whatever it looks for, and a budget that ends early has lost the least.
    """
    start = time.monotonic()
    everything = [kernel for library in manifest.libraries for kernel in library.kernels]
    first, instances = set(), _by_task(everything)
    for candidates, weights in instances:
        first |= {Kernel(t, v, weights) for t, v in measuring_order([candidates])}
    known = sum(log.get(kernel.key(base)) is not None for kernel in everything)
    new = failed = 0

    def unknown(wanted: set[Kernel]) -> int:
        return sum(kernel in wanted and log.get(kernel.key(base)) is None for kernel in everything)

    def measure(wanted: set[Kernel]) -> bool:
        nonlocal new, failed
        total, begun = unknown(wanted), new
        for library in manifest.libraries:
            chosen = [k in wanted and log.get(k.key(base)) is None for k in library.kernels]
            if not any(chosen):
                continue
            if time.monotonic() - start > budget_s:
                return False
            records = _measure_library(manifest, library, chosen, base, child, timeout_s)
            log.append(records)
            new += len(records)
            failed += sum(record.error is not None for record in records)
            progress(new - begun, total, f"{records[-1].task['kind']}: {records[-1].variant}")
        return True

    complete = measure(first)
    near: set[Kernel] = set()
    for candidates, weights in instances:

        def cost_s(task: Any, variant: Any, weights: str = weights) -> float:
            record = log.get(Kernel(task, variant, weights).key(base))
            return record.cost_s if record else math.inf

        near |= {Kernel(t, v, weights) for t, v in refinements([candidates], cost_s)}
    complete = complete and measure(near) and measure(set(everything))
    return Measured(new, known, failed, 0 if complete else unknown(set(everything)))


def _by_task(kernels: list[Kernel]) -> list[tuple[Candidates, str]]:
    """Every task's instances, in the bundle's order: most promising first."""
    found: dict[tuple[str, str], list[Kernel]] = {}
    for kernel in kernels:
        found.setdefault((kernel.task.key, kernel.weights), []).append(kernel)
    return [
        (Candidates(group[0].task, tuple(k.variant for k in group), ()), weights)
        for (_, weights), group in found.items()
    ]


def _measure_library(
    manifest: Manifest, library: Library, chosen: list[bool], base: Context, child: Child, timeout_s: float
) -> list[Record]:
    """Records of the chosen kernels; when they bring the process down together, each by itself."""
    wanted = [index for index, is_chosen in enumerate(chosen) if is_chosen]
    answer: dict[int, dict[str, Any]] = {}
    if library.file is None:
        answer = {index: {"error": library.error or "not built"} for index in wanted}
    else:
        groups = [wanted]
        while groups:
            group = groups.pop(0)
            results = child.evaluate(library.file, _spec(manifest, library, group), timeout_s)
            if isinstance(results, list):
                answer |= {index: results[index] for index in group}
            elif len(group) == 1:
                answer[group[0]] = {"error": results}
            else:  # find out which one it was
                groups = [[index] for index in group]
    return [_record(library.kernels[index], base, answer[index]) for index in wanted]


def _spec(manifest: Manifest, library: Library, wanted: list[int]) -> dict[str, Any]:
    """What ``worker.evaluate_kernels`` is told."""
    kernels = [{"task": k.task.to_dict(), "variant": k.variant.name, "knobs": k.variant.knobs} for k in library.kernels]
    skip = [index for index in range(len(kernels)) if index not in wanted]
    return {"machine": manifest.machine, "weights": library.kernels[0].weights, "kernels": kernels, "skip": skip}


def _record(kernel: Kernel, base: Context, result: dict[str, Any]) -> Record:
    error = result.get("error")
    return make_record(
        kernel.context(base), kernel.task, kernel.variant,
        costs_s=() if error else tuple(result.get("costs_s", ())),
        relative_error=result.get("relative_error"), error=error,
    )  # fmt: skip
