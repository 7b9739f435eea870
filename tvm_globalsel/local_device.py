"""The machine this runs on as a device: TVM's runner in a process of its own, one batch at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tvm.s_tir import meta_schedule as ms

from tvm_globalsel import batch, worker, worker_process
from tvm_globalsel.jobs import Job, Outcome
from tvm_globalsel.turn import Turn


class LocalDevice:
    """Checks and times batches here."""

    build = staticmethod(batch.build_batch)
    export = staticmethod(batch.link)

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._runner: Any = None

    def start(self, scratch: Path) -> None:
        """Start the runner's process."""
        self._runner = ms.runner.LocalRunner(
            timeout_sec=self._timeout_s, f_alloc_argument=worker.allocate, f_run_evaluator=worker.evaluate,
            initializer=partial(worker_process.start, str(scratch)),
        )  # fmt: skip

    def run(self, jobs: list[Job], known: Callable[[Job], list[int]], turn: Turn) -> Iterator[tuple[Job, Outcome]]:
        """What came of each job, in order. The turn is held until the next one is asked for, so that it is logged."""
        for job in jobs:
            with turn.taken():
                skip = known(job)
                if job.failure is not None:
                    yield job, job.failure
                elif len(skip) == job.kernels:
                    yield job, [worker.SKIPPED] * job.kernels
                else:
                    yield job, self._run(job, skip)

    def _run(self, job: Job, skip: list[int]) -> Outcome:
        text = json.dumps({**job.spec, "skip": skip, "timeout_s": self._timeout_s})
        ran = self._runner.run([ms.runner.RunnerInput(str(job.library), "cpu", worker.text_to_args(text))])[0].result()
        if ran.error_msg is not None:
            return str(ran.error_msg)
        return worker.results_from_floats([float(x) for x in ran.run_secs])
