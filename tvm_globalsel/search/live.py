"""The search on this machine: rounds of builder and runner, plan and near-ties repeated at the end, Ctrl-C obeyed."""

from __future__ import annotations

import dataclasses
import functools
import signal
import threading
import time
from types import FrameType
from typing import Any

from tvm_globalsel.background import run_interruptible
from tvm_globalsel.log import TuningLog
from tvm_globalsel.measure import Measurer, Progress, Request, Tuning, tune
from tvm_globalsel.search.bounds import machine_rates
from tvm_globalsel.search.confidence import add_pooled, deciding_ties, unsettled
from tvm_globalsel.search.loop import Found, Search
from tvm_globalsel.search.predict import Predictor
from tvm_globalsel.search.space import Space

#: Rivals measured again at the end, how often, and the part of the budget kept for that.
_MOST_REPEATED = 16
_REPETITIONS = 3
_SPARE = 0.9


class _Stopped(Exception):
    """The user wants the best plan so far."""


def search(
    space: Space, log: TuningLog, measurer: Measurer, tolerance: float, budget_s: float, progress: Progress | None
) -> Found:
    """Measure into the log what the plan may depend on, within ``budget_s`` and until ``tolerance`` is estimated.

    A first Ctrl-C stops after the kernels at hand as soon as there is a plan; a second one raises KeyboardInterrupt.
    """
    start = time.monotonic()
    rates = machine_rates(log, measurer.target, measurer.machine, measurer.context)
    state = Search(space, Predictor(space.requests, rates, measurer.context), log, measurer.context)
    total = 0
    with _Interrupt() as interrupt:

        def measure(requests: list[Request], required: bool) -> Tuning:
            nonlocal total
            interrupt.polite = not required
            began, count, left_s = time.monotonic(), 0, budget_s * _SPARE - (time.monotonic() - start)

            def watch(done: int, of: int, what: str) -> None:
                nonlocal count
                count = done
                if progress is not None:
                    progress(total + done, total + of, what)
                if interrupt.asked:
                    raise _Stopped

            try:
                done = tune(requests, log, measurer, left_s, watch, len(requests) if required else 0)
            except _Stopped:
                done = Tuning(count, 0, 0, len(requests) - count, time.monotonic() - began)
            total += done.measured
            return done

        def run() -> Found:
            left_s = budget_s * _SPARE - (time.monotonic() - start)
            return state.run(measure, tolerance, max(0.0, left_s), stop=lambda: interrupt.asked)

        found = run()
        cut_short = interrupt.asked or budget_s * _SPARE <= time.monotonic() - start
        # what is measured again teaches the predictor as well, and a search that had ended may have to go on: else the
        # next one from this log would
        for _ in range(_REPETITIONS if total else 0):
            if interrupt.asked or budget_s <= time.monotonic() - start:
                break
            repeated = repeat(space, log, measurer)
            if not repeated:
                break
            more = run()
            tuning = found.tuning + Tuning(repeated, 0, 0, 0, 0.0) + more.tuning
            found = dataclasses.replace(more, tuning=tuning, rounds=found.rounds + more.rounds)
            if not more.rounds:
                break
    known = sum(log.get(measurer.context.key(r.task, r.variant)) is not None for r in space.requests)
    wanted = cut_short and (found.estimated_gap is None or found.estimated_gap > tolerance)
    tuning = dataclasses.replace(
        found.tuning, known=known - min(known, total), skipped=found.unmeasured if wanted else 0,
        seconds=time.monotonic() - start,
    )  # fmt: skip
    return dataclasses.replace(found, tuning=tuning)


def repeat(space: Space, log: TuningLog, measurer: Measurer) -> int:
    """Measure the plan's kernels and the near-ties that decide it again, in turns, until the plan stands.

    Returns how many kernels that were.
    """
    context, repeated = measurer.context, 0

    keep = functools.partial(add_pooled, log)
    for _ in range(_REPETITIONS):
        records = [log.get(context.key(r.task, r.variant)) for r in space.requests]
        wanted = list(dict.fromkeys([*deciding_ties(space, records, _MOST_REPEATED), *unsettled(space, records)]))
        if not wanted:
            break
        requests = [space.requests[candidate] for candidate in wanted]
        run_interruptible(functools.partial(measurer.measure, requests, keep, log, again=True))
        repeated += len(wanted)
    return repeated


class _Interrupt:
    """While inside, the first SIGINT only sets ``asked``, if ``polite``; any other is a KeyboardInterrupt."""

    def __init__(self) -> None:
        self.polite = self.asked = False
        self._before: Any = None

    def __enter__(self) -> _Interrupt:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.polite or self.asked:
            raise KeyboardInterrupt
        self.asked = True
