"""Our leading kernels and the peers on one layer, in turns, every block between two probes."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tvm

from te_kernels import check
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Variant
from tvm_globalsel.bench.gauge import Bandwidth, Gauge, Timing
from tvm_globalsel.bench.kernels import GROUPS, Leaders, Running, best_of_groups
from tvm_globalsel.bench.layers import Layer
from tvm_globalsel.bench.peers import Peer, write_layer

_FLOAT_BYTES = 4
#: Kernels of each group that take turns with the engines.
_LEADERS = 2


@dataclass(frozen=True)
class Kernel:
    """One of our kernels; its rate counts the direct algorithm's FLOPs, whatever the algorithm.

    ``beside_gflops`` is the FMA probe's rate right before and after: what the clock allowed at that moment.
    """

    variant: str
    label: str
    layouts: str
    groups: tuple[str, ...]
    gflops: float
    beside_gflops: float


@dataclass(frozen=True)
class PeerResult:
    """An engine on the layer: whole call, and the convolution alone where the engine's profiler tells (else None)."""

    engine: str
    call_gflops: float
    kernel_gflops: float | None

    @property
    def best_gflops(self) -> float:
        """The better of both: what our kernel is compared with."""
        return max(self.call_gflops, self.kernel_gflops or 0.0)


@dataclass(frozen=True)
class Result:
    """One layer, our kernels best first, peers best first."""

    layer: Layer
    kernels: tuple[Kernel, ...]
    peers: tuple[PeerResult, ...]
    notes: tuple[str, ...]

    def best(self, group: str) -> Kernel | None:
        """The fastest of our kernels that belongs to a group of :data:`GROUPS`."""
        return next((k for k in self.kernels if group in k.groups), None)


def play(
    leaders: Leaders, peers: list[Peer], gauge: Gauge, target: tvm.target.Target, machine: Machine, rounds: int
) -> Result:
    """Time everything in ``rounds`` turns; a figure is the median of the rounds."""
    task = leaders.layer.task
    case = check.make_case(task)
    kernels = _fastest([Running(case, variant, target, machine) for variant in leaders.variants], task, gauge)
    notes = list(leaders.failed)
    with tempfile.TemporaryDirectory(prefix="kernel_peaks-") as folder:
        write_layer(case, Path(folder))
        for peer in peers:
            peer.load(Path(folder))
        ours: list[list[Timing]] = [[] for _ in kernels]
        calls: dict[str, list[float]] = {peer.engine: [] for peer in peers}
        cores: dict[str, list[float]] = {peer.engine: [] for peer in peers}
        for _ in range(rounds):
            for kernel, timings in zip(kernels, ours, strict=True):
                timings.append(gauge.timed(kernel.block_s))
            for peer in peers:
                if peer.error is None:
                    calls[peer.engine].append(gauge.timed(peer.call_s, peer.last_cpu_share).seconds)
                if peer.error is None:
                    cores[peer.engine].append(gauge.timed(peer.kernel_s, peer.last_cpu_share).seconds)
    notes += [f"{peer.engine}: {peer.error}" for peer in peers if peer.error is not None]
    timed = [_kernel(task, kernel.variant, timings) for kernel, timings in zip(kernels, ours, strict=True)]
    results = [
        PeerResult(p.engine, _gflops(task, calls[p.engine]), _gflops(task, cores[p.engine]) or None)
        for p in peers
        if p.error is None
    ]
    timed.sort(key=lambda k: -k.gflops)
    results.sort(key=lambda r: -r.best_gflops)
    return Result(leaders.layer, tuple(timed), tuple(results), tuple(notes))


def _fastest(kernels: list[Running], task: ConvTask, gauge: Gauge) -> list[Running]:
    """Those that are among the leaders of a group in one block each."""
    seconds = {kernel.variant: gauge.timed(kernel.block_s).seconds for kernel in kernels}
    kept = best_of_groups(task, list(seconds), seconds.__getitem__, _LEADERS)
    return [kernel for kernel in kernels if kernel.variant in kept]


def _gflops(task: ConvTask, seconds: list[float]) -> float:
    return task.flops / median(seconds) / 1e9 if seconds else 0.0


def _kernel(task: ConvTask, variant: Variant, timings: list[Timing]) -> Kernel:
    groups = tuple(name for name, belongs in GROUPS.items() if belongs(task, variant))
    gflops = _gflops(task, [timing.seconds for timing in timings])
    beside_gflops = median(timing.probe_gflops for timing in timings)
    return Kernel(variant.name, variant.label, str(variant.layouts(task)), groups, gflops, beside_gflops)


@dataclass(frozen=True)
class Roofline:
    """The rate that no direct kernel can exceed: ``limit`` is what forbids more, ``FMA`` or a level of memory."""

    gflops: float
    limit: str


def roofline(task: ConvTask, peak_gflops: float, bandwidths: tuple[Bandwidth, ...], machine: Machine) -> Roofline:
    """Every tensor moved once, at the best bandwidth of the smallest level that holds them all."""
    elements = sum(math.prod(shape) for shape in (*task.input_shapes, *task.param_shapes, task.output_shape))
    moved = elements * _FLOAT_BYTES
    held = {"L2": machine.l2_bytes, "L3": machine.l3_bytes}
    level = next((b for b in bandwidths if moved <= held.get(b.level, math.inf)), bandwidths[-1])
    bound = task.flops / (moved / level.best_gbs)  # FLOP per byte times GB/s
    return Roofline(bound, level.level) if bound < peak_gflops else Roofline(peak_gflops, "FMA")
