"""The machine's limits, and timing that notices when the machine was slowed.

A virtual machine's two CPUs may share one physical core for a while, which no load figure shows. Every timed block
stands between two runs of an FMA probe; a block beside which the probe ran below 88 % of the peak is repeated. So is
one during which the process had the CPU for less than 95 % of the time: the probe is too short to see other processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import numpy as np
import tvm

from te_kernels import probes
from te_kernels.machine import Machine
from tvm_globalsel.large_pages import large_pages
from tvm_globalsel.timing import HANDOFF_ROUNDS, Handoff

UNDISTURBED = 0.88
_CPU_SHARE = 0.95
_ATTEMPTS = 6
_PROBE_ITERATIONS = 20_000
_ELEMENTS_MULTIPLE = 128
#: One stream keeps some processors busiest, several others.
_READ_STREAMS = (1, 8)
#: A block that reads more than this is long enough as it is.
_LONG_BYTES = 256 << 20

_Block = TypeVar("_Block")


@dataclass(frozen=True)
class Bandwidth:
    """Of one level of the memory hierarchy, in GB/s; a copy counts the bytes read and those written."""

    level: str
    read_gbs: float
    copy_gbs: float

    @property
    def best_gbs(self) -> float:
        """What no kernel whose data lies in this level can exceed."""
        return max(self.read_gbs, self.copy_gbs)


@dataclass(frozen=True)
class Timing:
    """Median of a block in seconds, and the mean of the two probe rates around it, in GFLOP/s."""

    seconds: float
    probe_gflops: float


class Gauge:
    """Probes, compiled once. ``peak_gflops`` is the best rate the FMA probe has reached so far, on all ``threads``."""

    def __init__(self, target: tvm.target.Target, machine: Machine, threads: int = 1) -> None:
        self._target, self._machine, self._threads = target, machine, threads
        # waking another thread must not count beside the work
        iterations = _PROBE_ITERATIONS if threads == 1 else 10 * _PROBE_ITERATIONS
        func, self._probe_flops = probes.fma(machine, iterations, threads)
        lanes = machine.vector_lanes
        factors = np.repeat(np.array([0.5, 1.0], np.float32), lanes)
        sums = np.ones(threads * (machine.vector_registers - 4) * lanes, np.float32)
        self._arguments = [tvm.runtime.tensor(factors), tvm.runtime.tensor(sums)]
        self._evaluator = self._built(func).time_evaluator("main", tvm.cpu(), number=1, repeat=2)
        self._handoff = self._handoff_of(threads)
        self.peak_gflops = 0.0
        self.slowed_blocks = 0
        for _ in range(400):
            self.probe_gflops()
        if not np.allclose(self._arguments[1].numpy(), 2.0):
            raise RuntimeError("the FMA probe computes something else than it should")

    def probe_gflops(self) -> float:
        """One run of the probe (under a millisecond); raises the peak when it was faster than any before."""
        allowed = os.sched_getaffinity(0)
        if self._threads > 1:  # TVM binds its worker i to CPU i, but leaves this thread where it is: maybe on the same
            os.sched_setaffinity(0, {min(allowed)})
        try:
            rate = self._probe_flops / min(self._evaluator(*self._arguments).results) / 1e9
        finally:
            os.sched_setaffinity(0, allowed)
        self.peak_gflops = max(self.peak_gflops, rate)
        return rate

    def timed(self, block: Callable[[], float], cpu_share: Callable[[], float] | None = None) -> Timing:
        """Seconds that ``block`` returns in the first undisturbed attempt, or else in the least disturbed one.

        ``cpu_share`` tells which part of the block's time its process had the CPU, where that is not this process.
        """
        seconds, rate = self.undisturbed(block, cpu_share)
        return Timing(seconds, rate)

    def undisturbed(
        self, block: Callable[[], _Block], cpu_share: Callable[[], float] | None = None
    ) -> tuple[_Block, float]:
        """What ``block`` returns in that attempt, and the mean of the two probe rates around it, in GFLOP/s."""
        attempts: list[tuple[float, _Block, float]] = []
        for _ in range(_ATTEMPTS):
            near = self._handoff.wait()
            before = self.probe_gflops()
            wall, cpu = time.perf_counter(), time.process_time()
            result = block()
            share = (time.process_time() - cpu) / (time.perf_counter() - wall) if cpu_share is None else cpu_share()
            after = self.probe_gflops()
            apart = self._handoff.disturbance() if near else 1.0
            slower = min(before, after) / self.peak_gflops
            undisturbed = min(slower / UNDISTURBED, share / _CPU_SHARE, 1 / apart)
            attempts.append((undisturbed, result, (before + after) / 2))
            if undisturbed >= 1:
                return attempts[-1][1:]
        self.slowed_blocks += 1
        return max(attempts, key=lambda attempt: attempt[0])[1:]

    def bandwidths(self) -> tuple[Bandwidth, ...]:
        """Of L2, L3 and memory."""
        return tuple(self.bandwidth(level, probed_bytes(self._machine, level)) for level in ("L2", "L3", "DRAM"))

    def bandwidth(self, level: str, size_bytes: int, turns: int = 1, blocks: int = 7) -> Bandwidth:
        """Rates on ``size_bytes`` of data, read again and again, at best of ``turns`` medians of ``blocks``.

        ``level`` is where they lie.
        """
        passes = max(1, (16 << 20) // size_bytes)
        reads = [self._rate(size_bytes, passes, streams, turns, blocks) for streams in _READ_STREAMS]
        return Bandwidth(level, max(reads), self._rate(size_bytes, passes, None, turns, blocks))

    def _rate(self, size_bytes: int, passes: int, streams: int | None, turns: int, blocks: int) -> float:
        """GB/s of reading in so many streams, or of copying if that is None."""
        arrays, lanes = 2 if streams is None else 1, self._machine.vector_lanes
        elements = size_bytes // 4 // arrays // _ELEMENTS_MULTIPLE * _ELEMENTS_MULTIPLE
        if streams is None:
            func = probes.copy(self._machine, elements, passes)
            shapes = [(elements, 1.0), (lanes, 1.0), (elements, 0.0)]
        else:
            func = probes.read(self._machine, elements, passes, streams)
            shapes = [(elements, 0.0), (8 * lanes, 0.0)]
        arguments = [_filled(size, value) for size, value in shapes]
        repeat = 3 if size_bytes <= _LONG_BYTES else 1
        evaluator = self._built(func).time_evaluator("main", tvm.cpu(), number=1, repeat=repeat)

        def block() -> float:
            return float(min(evaluator(*arguments).results))

        taken_s = min(median(self.timed(block).seconds for _ in range(blocks)) for _ in range(turns))
        return 4 * elements * arrays * passes / taken_s / 1e9

    def _handoff_of(self, threads: int) -> Handoff:
        if threads == 1:
            return Handoff(None)
        return Handoff(self._built(probes.handoff(threads, HANDOFF_ROUNDS))["main"], probes.handoff_arguments(threads))

    def _built(self, func: tvm.tirx.PrimFunc) -> Any:
        return tvm.compile(tvm.IRModule({"main": func}), target=self._target).mod


def _filled(elements: int, value: float) -> Any:
    """A vector in large pages: hundreds of megabytes in small ones take longer to make than to read."""
    array = np.frombuffer(large_pages(4 * elements), np.float32)
    array[:] = value  # zeros too: pages never written are all the same one
    return tvm.runtime.from_dlpack(array)


def probed_bytes(machine: Machine, level: str) -> int:
    """Of how much data to measure a level's bandwidth, so that it lies there and in no other.

    The last-level cache of a large server is shared by all of its cores, and slower the more of it one of them takes.
    """
    return {
        "L1": machine.l1_bytes // 2,
        "L2": machine.l2_bytes // 2,
        "L3": min(machine.l3_bytes // 4, 8 * machine.l2_bytes),
        "DRAM": min(4 * machine.l3_bytes, max(128 << 20, 2 * machine.l3_bytes)),
    }[level]


def stay_on_one_cpu() -> None:
    """Keep this process and those it starts on the CPU where it runs: probe and probed share what happens to it."""
    stay_on_cpus(1)


def stay_on_cpus(count: int) -> None:
    """The same on ``count`` CPUs: the last one, or the first ones, to which TVM binds the threads of its pool."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(cpus[-1:] if count == 1 else cpus[:count]))
