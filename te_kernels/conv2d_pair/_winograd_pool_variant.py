"""What the variants of Winograd and max pool in one pass share: they differ in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.conv2d._phases import Phases
from te_kernels.conv2d._winograd import WinogradVariant
from te_kernels.conv2d._winograd_model import saves
from te_kernels.conv2d._winograd_phases import MOST_CHANNELS, WinogradPhasesVariant
from te_kernels.conv2d_pair import _winograd_pool as algorithm
from te_kernels.conv2d_pair import _winograd_pool_model as model
from te_kernels.conv2d_pair._row_ring_model import columns
from te_kernels.conv2d_pair._winograd_pool_geometry import PoolGeometry
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, PairTask, PoolTask
from te_kernels.variant import Layouts, Reject, Variant


@dataclass(frozen=True)
class WinogradPoolVariant(Variant):
    """Base. Knobs: layouts, blocking and tile of the Winograd variant, ``columns`` of the pool's register tile."""

    family = "fused"
    task_type = PairTask

    data: str
    out: str
    tile: int
    vectors: int
    lanes: int
    block: int
    chunk: int
    m: int
    n: int
    columns: int

    @classmethod
    def _pooled(cls, task: PairTask, machine: Machine, data: str, out: str) -> Iterator[WinogradPoolVariant]:
        conv, pool = _layers(task)
        lanes = machine.vector_lanes
        if pool.mode != "max" or pool.dilation != (1, 1) or pool.steps:
            raise Reject("the second is not a max pool without dilation and epilogue")
        if conv.groups > 1 or conv.dilation != (1, 1):
            raise Reject(f"{conv.groups} groups and the dilation {conv.dilation}: for plain convolutions only")
        if out == "NHWC" and conv.k % lanes:
            raise Reject(f"{conv.k} channels are no whole vectors")
        if data == "NCHW" and conv.c > MOST_CHANNELS:
            raise Reject(f"{conv.c} input channels; other variants take more than {MOST_CHANNELS}")
        if data != "NCHW" and conv.c < lanes // 2:
            raise Reject(f"{conv.c} input channels fill less than half a vector of {lanes}")
        unstrided = Phases(conv, lanes).unstrided if data == "NCHW" else conv
        if not saves(unstrided):
            raise Reject(f"no minimal filtering of {unstrided.r}x{unstrided.s} with stride {unstrided.stride}")
        for transform, b in model.promising(unstrided, pool, machine):
            knobs = (b.tile, b.vectors, b.lanes, b.block, b.chunk, transform.m, transform.n)
            yield cls(data, out, *knobs, columns(pool))

    @property
    def _alone(self) -> WinogradVariant:
        """The convolution's own variant with these knobs."""
        variant = WinogradPhasesVariant if self.data == "NCHW" else WinogradVariant
        blocking = (self.tile, self.vectors, self.lanes, self.block, self.chunk)
        return variant(self.data, self.out, *blocking, self.m, self.n)

    def geometry(self, task: PairTask) -> PoolGeometry:
        """Loop bounds of the task with these knobs."""
        conv, pool = _layers(task)
        return PoolGeometry(self._alone.geometry(conv), pool, self.columns)

    def layouts(self, task: PairTask) -> Layouts:
        return Layouts((self.data,), self.out)

    def pack(self, task: PairTask, params: list[np.ndarray]) -> list[np.ndarray]:
        return self._alone.pack(_layers(task)[0], params)

    def packed_bytes(self, task: PairTask) -> int:
        return self._alone.packed_bytes(_layers(task)[0])

    def prim_func(self, task: PairTask, machine: Machine) -> tvm.tirx.PrimFunc:
        layouts, tiles = self._alone.tiled(_layers(task)[0])
        return algorithm.prim_func(self.geometry(task), layouts, machine, tiles)

    def error_bound(self, task: PairTask) -> float:
        """The convolution's: a maximum rounds nothing."""
        return self._alone.error_bound(_layers(task)[0])

    def arithmetic(self, task: PairTask) -> int:
        return self._alone.arithmetic(_layers(task)[0])

    def workspace_bytes(self, task: PairTask, threads: int = 1) -> int:
        conv, _ = _layers(task)
        geometry, alone = self.geometry(task), self._alone
        return geometry.added_bytes(threads) + alone.workspace_bytes(conv, threads)


def _layers(task: PairTask) -> tuple[ConvTask, PoolTask]:
    """Both, where they are what these variants do."""
    if not isinstance(task.first, ConvTask) or not isinstance(task.second, PoolTask):
        raise Reject("they are not a convolution and a pool")
    return task.first, task.second
