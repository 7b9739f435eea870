"""Compiling for a device that this machine does not have: what its measurements are called, what replaces them.

Measurements of such a device come from a tuning log that was written there. Without one, ``--budget 0`` takes the
variants' own cost models, and the plan says so; nothing else ever uses a modelled time as if it were measured.
"""

from __future__ import annotations

from typing import cast

import tvm

from te_kernels.cuda._base import GpuVariant
from te_kernels.gpu import FLOAT32, Gpu
from te_kernels.machine import Machine
from te_kernels.task import Task
from te_kernels.variant import Variant
from tvm_globalsel.candidates import Candidates
from tvm_globalsel.device import target_identity
from tvm_globalsel.errors import UserError
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.measure import Tuning
from tvm_globalsel.selection import Predict


def log_target(machine: Machine | Gpu, target: tvm.target.Target) -> str:
    """What the log calls a target; of a GPU kind and architecture, and the precision where it is not float32."""
    if not isinstance(machine, Gpu):
        return target_identity(target)
    precision = "" if machine.dtype == FLOAT32 else f":{machine.dtype}"
    return f"{machine.kind}:{machine.mcpu}{precision}"


def gpu_context(machine: Gpu, target: str, weights: str) -> Context:
    """What identifies measurements on a GPU. ``target`` is what the user called it: a tag names the product."""
    device = machine.mcpu if target.lstrip().startswith("{") else target.rpartition("/")[2]
    return Context(log_target(machine, machine.target), device, 1, tvm.__version__, weights)


def predictor(machine: Gpu) -> Predict:
    """The variants' own models of their time on this device."""

    def predict(task: Task, variant: Variant) -> float:
        return cast(GpuVariant, variant).model_s(task, machine)

    return predict


def tuning_from_log(
    everything: list[Candidates], log: TuningLog, context: Context, target: str, budget_s: float
) -> Tuning:
    """What the log knows of the candidates; nothing is measured here.

    Raises :class:`UserError` that says how to get measurements when a task has none and a budget was given.
    """
    known = failed = 0
    without: list[Candidates] = []
    for candidates in everything:
        records = [log.get(context.key(candidates.task, variant)) for variant in candidates.variants]
        known += sum(record is not None for record in records)
        failed += sum(record is not None and record.error is not None for record in records)
        if candidates.variants and not any(records):
            without.append(candidates)
    if without and budget_s > 0:
        place = f"{log.path}: " if log.path else ""
        raise UserError(
            f"{place}no measurements of {len(without)} of {len(everything)} tasks on {context.device} "
            f"({context.target}), and this machine cannot run kernels for it",
            f"run 'globalsel pack-tuning MODEL --target {target} -o BUNDLE' here and 'globalsel run-tuning BUNDLE -o "
            "log.jsonl' on a machine that has the device, then compile with --tuning-log log.jsonl; or compile with "
            "--budget 0, which takes modelled times in place of measured ones and says so in the plan",
        )
    total = sum(len(candidates.variants) for candidates in everything)
    return Tuning(measured=0, known=known, failed=failed, skipped=total - known, seconds=0.0)
