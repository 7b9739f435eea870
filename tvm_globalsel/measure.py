"""Measure variants with TVM's worker pools and runner into the tuning log.

Candidates travel in batches: one module of several kernels is built in parallel worker processes, then checked and
timed alone in TVM's runner process (see ``worker.py``). A batch whose process crashes or hangs is taken apart and its
kernels are measured one by one, so that only the guilty one becomes an error record.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tvm

from te_kernels.machine import Machine
from te_kernels.task import OpaqueTask, Task
from te_kernels.variant import Variant
from tvm_globalsel import worker, worker_process
from tvm_globalsel.background import run_interruptible, scratch_folder, stopping
from tvm_globalsel.builder import Builder, processes
from tvm_globalsel.jobs import Device, Job, Outcome
from tvm_globalsel.libraries import Libraries, drop
from tvm_globalsel.local_device import LocalDevice
from tvm_globalsel.log import Context, Record, TuningLog, make_record
from tvm_globalsel.turn import Turn

#: Few kernels share the cost of a module; many leave processes of the builder without work at the end of a wave.
_FEWEST_PER_BATCH, _KERNELS_PER_BATCH = 4, 8
_BATCHES_PER_PROCESS = 4
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
    """The builder, and a device (by default this machine), started when the first kernel needs them."""

    def __init__(
        self, target: tvm.target.Target, machine: Machine, context: Context, device: Device | None = None
    ) -> None:
        self.target = target
        self.machine = machine
        self.context = context
        self._device = device or LocalDevice(_RUN_TIMEOUT_S)
        self._builder: Builder | None = None
        self._libraries = Libraries()
        self._turns: dict[Path | None, Turn] = {}

    def measure(
        self, requests: list[Request], keep: Callable[[list[Record]], None], log: TuningLog | None = None,
        again: bool = False,
    ) -> None:  # fmt: skip
        """Measure all requests and hand each batch's records to ``keep`` as soon as it has run.

        Failures become records with an error; nothing is raised for them. With ``log``, tuners that share it take
        turns, and what another has measured by then is not measured again (unless ``again`` asks for just that; then
        kernels that this process has built are not built again).
        """
        if again:
            requests = self._once_more(requests, keep, log)
        even = math.ceil(len(requests) / _BATCHES_PER_PROCESS / processes())
        size = min(_KERNELS_PER_BATCH, max(_FEWEST_PER_BATCH, even))
        batches = [requests[i : i + size] for i in range(0, len(requests), size)]
        with closing(self._outcomes(batches, log, again)) as outcomes:  # whatever ends it, the turn is given up
            for batch, outcome in outcomes:
                if isinstance(outcome, str):  # something took the whole process down: find out what, one at a time
                    alone, results = list(range(len(batch))), [{"error": outcome}] * len(batch)
                else:
                    alone = [i for i, result in enumerate(outcome) if result.get("error") == worker.NOT_BUILT]
                    results = list(outcome)
                if len(batch) > 1 and alone:
                    for (request,), one in self._outcomes([[batch[i]] for i in alone], log, again):
                        results[batch.index(request)] = {"error": one} if isinstance(one, str) else one[0]
                if stopping():  # workers were killed, which is no fault of the kernels
                    return
                keep([self._record(r, x) for r, x in zip(batch, results, strict=True) if not x.get("skipped")])

    def _once_more(
        self, requests: list[Request], keep: Callable[[list[Record]], None], log: TuningLog | None
    ) -> list[Request]:
        """Measure those again whose libraries are still there; returns the others."""
        wanted: dict[Path | None, tuple[Job, dict[int, Request]]] = {}
        others = []
        for request in requests:
            found = self._libraries.find(self._key(request))
            if found is None:
                others.append(request)
            else:
                job, index = found
                wanted.setdefault(job.library, (job, {}))[1][index] = request

        def rest(job: Job) -> list[int]:
            return [index for index in range(job.kernels) if index not in wanted[job.library][1]]

        for job, outcome in self._device.run([job for job, _ in wanted.values()], rest, self._turn(log)):
            if stopping():
                return []
            chosen = wanted[job.library][1]
            if isinstance(outcome, str):
                others += chosen.values()
            else:
                keep([self._record(request, outcome[index]) for index, request in chosen.items()])
        return others

    def _key(self, request: Request) -> str:
        return self.context.key(request.task, request.variant)

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

    def _outcomes(
        self, batches: list[list[Request]], log: TuningLog | None, again: bool
    ) -> Generator[tuple[list[Request], Outcome]]:
        """Build batches together and run each; in any order."""
        specs = [self._spec(batch) for batch in batches]
        modules = [self._module(batch, spec) for batch, spec in zip(batches, specs, strict=True)]
        built = self._started().build(modules, self.target) if modules else []
        jobs = [Job(number, specs[number], one.library, one.failure) for number, one in enumerate(built)]

        def known(job: Job) -> list[int]:
            if log is None or again:
                return []
            log.refresh()
            return [i for i, request in enumerate(batches[job.number]) if log.get(self._key(request)) is not None]

        for job, outcome in self._device.run(jobs, known, self._turn(log)):
            if stopping():
                return
            if isinstance(outcome, str):
                drop(job)
                yield batches[job.number], _summary(outcome)
            else:
                self._libraries.keep(job, [self._key(request) for request in batches[job.number]])
                yield batches[job.number], outcome

    def _turn(self, log: TuningLog | None) -> Turn:
        path = log.path if log is not None else None
        return self._turns.setdefault(path, Turn(path))

    def _spec(self, batch: list[Request]) -> dict[str, Any]:
        kernels = [{"task": r.task.to_dict(), "variant": r.variant.name, "knobs": r.variant.knobs} for r in batch]
        return {"machine": asdict(self.machine), "weights": self.context.weights, "kernels": kernels}

    @staticmethod
    def _module(batch: list[Request], spec: dict[str, Any]) -> tvm.IRModule:
        lowered = {f"lowered{i}": r.task.lowered for i, r in enumerate(batch) if isinstance(r.task, OpaqueTask)}
        return tvm.IRModule(lowered).with_attr("globalsel_batch", json.dumps(spec))

    def _started(self) -> Builder:
        """The builder; both it and the device are started at the first call."""
        if self._builder is None:
            # both are inherited by the worker processes; the threads are read before the first parallel kernel
            os.environ["TVM_NUM_THREADS"] = str(self.machine.threads)
            os.environ.pop("TVM_USE_RUNTIME_LIB", None)
            scratch = scratch_folder()
            initializer = partial(worker_process.start, str(scratch))
            self._builder = Builder(self._device.build, self._device.export, _BUILD_TIMEOUT_S, initializer)
            self._device.start(scratch)
        return self._builder


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

    The first ``required`` requests are measured whatever the time: without them there is no plan. What another tuner
    adds to the log in the meantime is not measured again. ``progress(done, total, what)`` is called as measurements
    complete.
    """
    start = time.monotonic()

    def missing(some: list[Request]) -> list[Request]:
        return [r for r in some if log.get(measurer.context.key(r.task, r.variant)) is None]

    log.refresh()
    unknown = missing(requests)
    required = len(missing(requests[:required]))
    measured = found = failed = 0
    report = progress or (lambda done, total, what: None)

    def keep(records: list[Record]) -> None:
        nonlocal measured, failed
        log.append(records)
        measured += len(records)
        failed += sum(record.error is not None for record in records)
        if records:
            report(measured + found, len(unknown), f"{records[-1].task['kind']}: {records[-1].variant}")

    if unknown:
        report(0, len(unknown), "building the first kernels")
    for wave in _waves(unknown, required):
        log.refresh()
        left = missing(wave)
        elapsed, done = time.monotonic() - start, measured + found
        expected_s = elapsed / done * len(left) * 0.5 if done else 0.0
        if done >= required and elapsed + expected_s >= budget_s:
            break
        before = measured
        if left:
            run_interruptible(partial(measurer.measure, left, keep, log))
        found += len(wave) - (measured - before)
    known = len(requests) - len(unknown) + found
    return Tuning(measured, known, failed, len(unknown) - measured - found, time.monotonic() - start)


def _waves(requests: list[Request], required: int) -> Iterator[list[Request]]:
    """Waves of batches, the required ones first; neighbours of one task share a batch and with it the oracle."""
    size = _KERNELS_PER_BATCH * _BATCHES_PER_WAVE
    for part in (requests[:required], requests[required:]):
        for i in range(0, len(part), size):
            yield sorted(part[i : i + size], key=lambda r: r.task.key)
