"""Measure variants with TVM's builder and runner into the tuning log.

Candidates travel in batches: one module of several kernels is built in parallel worker processes, then checked and
timed alone in TVM's runner process (see ``worker.py``). A batch whose process crashes or hangs is taken apart and its
kernels are measured one by one, so that only the guilty one becomes an error record.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from te_kernels.machine import Machine
from te_kernels.task import OpaqueTask, Task
from te_kernels.variant import Variant
from tvm_globalsel import worker
from tvm_globalsel.background import run_interruptible
from tvm_globalsel.log import Context, Record, TuningLog, make_record

_KERNELS_PER_BATCH = 8
_BATCHES_PER_WAVE = 12
_BUILD_TIMEOUT_S = 90.0
_RUN_TIMEOUT_S = 40.0

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Request:
    """One candidate to measure."""

    task: Task
    variant: Variant


@dataclass(frozen=True)
class Tuning:
    """What a round of measuring did: how many records were new, in the log already, failed, or out of time."""

    measured: int
    known: int
    failed: int
    skipped: int
    seconds: float

    def __add__(self, other: Tuning) -> Tuning:
        """Two rounds as one."""
        return Tuning(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Measurer:
    """TVM's builder and runner, started when the first kernel needs them."""

    def __init__(self, target: tvm.target.Target, machine: Machine, context: Context) -> None:
        self.target = target
        self.machine = machine
        self.context = context
        self._builder: Any = None
        self._runner: Any = None

    def measure(self, requests: list[Request], keep: Callable[[list[Record]], None]) -> None:
        """Measure all requests and hand each batch's records to ``keep`` as soon as it has run.

        Failures become records with an error; nothing is raised for them.
        """
        batches = [requests[i : i + _KERNELS_PER_BATCH] for i in range(0, len(requests), _KERNELS_PER_BATCH)]
        for batch, results in zip(batches, self._run(batches), strict=True):
            if results is None:  # something took the whole process down: find out what, one kernel at a time
                singles = [[request] for request in batch]
                results = [r[0] if r else {"error": "crashed"} for r in self._run(singles, errors=True)]
            missing = [i for i, result in enumerate(results) if result.get("error") == "not built"]
            for i, rebuilt in zip(missing, self._run([[batch[i]] for i in missing], errors=True), strict=True):
                results[i] = rebuilt[0] if rebuilt else {"error": "crashed"}
            keep([self._record(request, result) for request, result in zip(batch, results, strict=True)])

    def _record(self, request: Request, result: dict[str, Any]) -> Record:
        error = result.get("error")
        return make_record(
            self.context,
            request.task,
            request.variant,
            costs_s=() if error else tuple(result.get("costs_s", ())),
            relative_error=result.get("relative_error"),
            error=error,
        )

    def _run(self, batches: list[list[Request]], errors: bool = False) -> Iterator[list[dict[str, Any]] | None]:
        """Build batches together, run them in turn. One that fails whole gives None, or with ``errors`` its message."""
        if not batches:
            return
        self._start()
        texts = [self._text(batch) for batch in batches]
        inputs = [ms.builder.BuilderInput(self._module(b, t), self.target) for b, t in zip(batches, texts, strict=True)]
        built = self._builder.build(inputs)
        for text, result in zip(texts, built, strict=True):
            failure = str(result.error_msg) if result.error_msg is not None else None
            outcome: list[dict[str, Any]] | None = None
            if failure is None:
                path = str(result.artifact_path)
                run_input = ms.runner.RunnerInput(path, "cpu", worker.text_to_args(text))
                ran = self._runner.run([run_input])[0].result()
                shutil.rmtree(Path(path).parent, ignore_errors=True)
                failure = str(ran.error_msg) if ran.error_msg is not None else None
                if failure is None:
                    outcome = worker.results_from_floats([float(x) for x in ran.run_secs])
            if failure is not None and errors:
                outcome = [{"error": _summary(failure)}]
            yield outcome

    def _text(self, batch: list[Request]) -> str:
        kernels = [{"task": r.task.to_dict(), "variant": r.variant.name, "knobs": r.variant.knobs} for r in batch]
        return json.dumps({"machine": asdict(self.machine), "weights": self.context.weights, "kernels": kernels})

    @staticmethod
    def _module(batch: list[Request], text: str) -> tvm.IRModule:
        lowered = {f"lowered{i}": r.task.lowered for i, r in enumerate(batch) if isinstance(r.task, OpaqueTask)}
        return tvm.IRModule(lowered).with_attr("globalsel_batch", text)

    def _start(self) -> None:
        if self._builder is not None:
            return
        # both are inherited by the worker processes; the threads are read before the first parallel kernel
        os.environ["TVM_NUM_THREADS"] = str(self.machine.threads)
        os.environ.pop("TVM_USE_RUNTIME_LIB", None)
        self._builder = ms.builder.LocalBuilder(
            max_workers=os.cpu_count() or 1, timeout_sec=_BUILD_TIMEOUT_S, f_build=worker.build_batch
        )
        self._runner = ms.runner.LocalRunner(
            timeout_sec=_RUN_TIMEOUT_S, f_alloc_argument=worker.allocate, f_run_evaluator=worker.evaluate
        )


def _summary(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return (f"{lines[0]} {lines[-1]}" if len(lines) > 1 else lines[0] if lines else "failed")[:500]


def tune(
    requests: list[Request],
    log: TuningLog,
    measurer: Measurer,
    budget_s: float,
    progress: Progress | None = None,
    required: int = 0,
) -> Tuning:
    """Measure what the log does not know yet, in order, until the time is up; every batch is logged when it has run.

    The first ``required`` requests are measured whatever the time: without them there is no plan.
    ``progress(done, total, what)`` is called as measurements complete.
    """
    start = time.monotonic()
    unknown = [r for r in requests if log.get(measurer.context.key(r.task, r.variant)) is None]
    required = sum(log.get(measurer.context.key(r.task, r.variant)) is None for r in requests[:required])
    done = failed = 0
    report = progress or (lambda done, total, what: None)

    def keep(records: list[Record]) -> None:
        nonlocal done, failed
        log.append(records)
        done += len(records)
        failed += sum(record.error is not None for record in records)
        report(done, len(unknown), f"{records[-1].task['kind']}: {records[-1].variant}")

    if unknown:
        report(0, len(unknown), "building the first kernels")
    for wave in _waves(unknown, required):
        elapsed = time.monotonic() - start
        expected_s = elapsed / done * len(wave) * 0.5 if done else 0.0
        if done >= required and elapsed + expected_s >= budget_s:
            break
        run_interruptible(partial(measurer.measure, wave, keep))
    return Tuning(done, len(requests) - len(unknown), failed, len(unknown) - done, time.monotonic() - start)


def _waves(requests: list[Request], required: int) -> Iterator[list[Request]]:
    """Waves of batches, the required ones first; neighbours of one task share a batch and with it the oracle."""
    size = _KERNELS_PER_BATCH * _BATCHES_PER_WAVE
    for part in (requests[:required], requests[required:]):
        for i in range(0, len(part), size):
            yield sorted(part[i : i + size], key=lambda r: r.task.key)
