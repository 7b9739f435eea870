"""What the ``conv_mma`` variants share; they differ only in the layouts they read and write."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.cuda import _mma
from te_kernels.cuda._base import LAUNCH_S, STREAMING, GpuVariant, ceil_div
from te_kernels.cuda._conv import ConvGemm
from te_kernels.gpu import FLOAT16, Gpu
from te_kernels.layout import Layout
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject

_CANDIDATES = 4
#: bm, bn, bk, fragments of a warp along m and n.
_SHAPES = (
    (128, 128, 32, 4, 2), (128, 64, 32, 4, 2), (64, 128, 32, 2, 4), (64, 64, 32, 2, 2), (64, 32, 32, 2, 1),
    (32, 64, 32, 1, 2), (32, 32, 64, 1, 1), (16, 64, 64, 1, 1), (16, 32, 64, 1, 1),
)  # fmt: skip
_STAGES = (1, 3)
_SPLITS = (1, 2, 4, 8)
#: Multiply-adds of a multiprocessor in a cycle through ``wmma`` (Hopper's own instructions do more), its bytes from
#: shared memory, the latency of a slice in cycles.
_MULTIPLY_ADDS, _SHARED_BYTES, _LATENCY = 1024, 128, 600.0


@dataclass(frozen=True)
class ConvMmaVariant(GpuVariant):
    """Base. Knobs: the layouts, the tile, fragments of a warp, slices in flight, parts of the sum."""

    family = "gemm"
    task_type = ConvTask
    #: Rounding of operands and result to float16.
    relative_error = 2e-3

    data: str
    out: str
    bm: int
    bn: int
    bk: int
    wm: int
    wn: int
    stages: int
    splits: int

    @classmethod
    def _tiled(cls, task: ConvTask, machine: Gpu, data: str, out: str) -> Iterator[GpuVariant]:
        if machine.dtype != FLOAT16:
            raise Reject(f"the network computes in {machine.dtype}; tensor cores take float16")
        if task.depthwise:
            raise Reject(f"depthwise ({task.groups} groups of one channel): products of one row; cuda_direct covers it")
        for name, channels in ((data, task.c // task.groups), (out, task.k // task.groups)):
            block = Layout(name).block
            if task.groups > 1 and block and channels % block:
                raise Reject(f"groups of {channels} channels are not whole blocks of {name}")
        scored: list[tuple[float, int, ConvMmaVariant]] = []
        for shape in _SHAPES:
            for stages in _STAGES if machine.mcpu >= "sm_80" else (1,):
                for splits in _SPLITS:
                    instance = cls(data, out, *shape, stages, splits)
                    if instance._fits(task, machine):
                        scored.append((instance.model_s(task, machine), len(scored), instance))
        scored.sort(key=lambda item: item[:2])
        chosen: dict[tuple[int, int, int], ConvMmaVariant] = {}
        for _, _, instance in scored:
            chosen.setdefault((instance.bm, instance.bn, instance.splits), instance)
        yield from list(chosen.values())[:_CANDIDATES]

    def _fits(self, task: ConvTask, machine: Gpu) -> bool:
        tile, product = self.tile, self._conv(task).product
        if tile.shared_bytes > machine.shared_bytes or not 1 <= tile.threads <= machine.max_threads:
            return False
        slices = product.padded(tile)[2] // self.splits // tile.bk
        if slices < self.stages or (self.splits > 1 and (slices < 4 or product.batch > 4)):
            return False
        copies = (tile.bm * tile.bk // product.a_vector, tile.bk * tile.bn // product.b_vector)
        return all(runs % tile.threads == 0 for runs in (*copies, tile.bm * tile.bn // product.store_vector))

    @property
    def tile(self) -> _mma.WarpTile:
        """The blocking."""
        return _mma.WarpTile(self.bm, self.bn, self.bk, self.wm, self.wn, self.stages)

    def _conv(self, task: ConvTask) -> ConvGemm:
        return ConvGemm(task, self.layouts(task), self.tile, self.splits, FLOAT16)

    def layouts(self, task: ConvTask) -> Layouts:
        """Epilogue tensors are in the output's layout."""
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights as padded matrices in float16."""
        return self._conv(task).pack(params)

    def prim_func(self, task: ConvTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The kernel."""
        return self._conv(task).prim_func()

    def workspace_bytes(self, task: ConvTask) -> int:
        """Partial sums."""
        return self._conv(task).product.partial_bytes(self.tile)

    def model_s(self, task: ConvTask, machine: Gpu) -> float:
        """Rounds of resident blocks: instructions, fragments from shared memory, latency of slices, weights."""
        tile, product = self.tile, self._conv(task).product
        m, n, k = product.padded(tile)
        blocks = m // tile.bm * (n // tile.bn) * product.batch * self.splits
        fitting = min(
            machine.multiprocessor_shared_bytes // (tile.shared_bytes + 1024),
            machine.multiprocessor_threads // tile.threads, machine.multiprocessor_blocks,
        )  # fmt: skip
        resident = max(1, min(fitting, ceil_div(blocks, machine.multiprocessors)))
        rounds = blocks / (machine.multiprocessors * resident)
        rounds = math.ceil(rounds) if rounds < 4 else rounds + 0.5
        multiply = resident * tile.bm * tile.bn * tile.bk / _MULTIPLY_ADDS
        fragments = tile.bm * tile.bk * tile.warps[1] + tile.bk * tile.bn * tile.warps[0]
        shared = resident * 2 * fragments / _SHARED_BYTES
        latency = _LATENCY / (self.stages - 1) if self.stages > 1 else _LATENCY + multiply / resident
        # copies of single values cannot be asynchronous, and take an instruction each
        scattered = 1.0 if min(product.a_vector, product.b_vector) >= 4 else 2.0
        slices = k // self.splits // tile.bk
        cycles = rounds * (slices * max(multiply, shared, latency * scattered) + 2 * _LATENCY)
        weights_s = 2 * product.batch * (product.m + product.n) * product.k / machine.memory_bytes_per_s / STREAMING
        launches = 2 if self.splits > 1 else 1
        return LAUNCH_S * launches + max(cycles / machine.clock_hz, weights_s)
