"""Channel shuffle and the grouped 1x1 convolution behind it: the convolution reads what it needs where it lies.

    out[p, k] = sum_c data[p, source(c)] * weight[k, c]       source(j * G + i) = i * (C / G) + j

A 1x1 convolution reads single channels and multiplies vectors of outputs with them, so the order in which it does is
free: a group of it takes a run of consecutive channels from each of the ``G`` groups of the shuffle, with its weights
packed in that order. Nothing is moved (ShuffleNet, Zhang et al., CVPR 2018, has a shuffle in each of its units).

The algorithm is that of ``te_kernels.conv2d._pointwise`` but for the runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels.conv2d import _pointwise_model
from te_kernels.conv2d._pointwise import Emitter, packed
from te_kernels.conv2d._pointwise_geometry import Geometry
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, PairTask, ShuffleTask
from te_kernels.tiling import cdiv
from te_kernels.variant import Layouts, Reject, Variant

#: Runs of channels are written out one after the other.
_MOST_RUNS = 16
_INSTANCES = 2


@dataclass(frozen=True)
class ShufflePointwiseNHWC(Variant):
    """NHWC -> NHWC. Knobs: pixels and vectors of a register tile."""

    name = "shuffle_pointwise_nhwc"
    family = "fused"
    title = "channel shuffle read by the 1x1 behind it, NHWC in and out"
    task_type = PairTask
    relative_error = 2e-5

    pixels: int
    vectors: int
    lanes: int

    @classmethod
    def candidates(cls, task: PairTask, machine: Machine) -> Iterator[ShufflePointwiseNHWC]:
        """Best register tiles."""
        second = task.second
        if not isinstance(task.first, ShuffleTask):
            raise Reject("the first is no channel shuffle")
        if not isinstance(second, ConvTask) or not second.pointwise or second.depthwise:
            raise Reject("the second is not 1x1 without stride and padding")
        if second.k // second.groups < machine.vector_lanes:
            raise Reject(f"{second.k // second.groups} output channels of a group are less than one vector")
        if task.first.groups > _MOST_RUNS:
            raise Reject(f"{task.first.groups} groups of the shuffle are too many runs")
        for pixels, vectors, width in _pointwise_model.best_tiles(second, machine, _INSTANCES, halves=True):
            yield cls(pixels, vectors, width)

    def layouts(self, task: PairTask) -> Layouts:
        return Layouts(("NHWC",) * len(task.input_shapes), "NHWC")

    def pack(self, task: PairTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """The 1x1's weights with the input channels of each group in the order in which they are read."""
        g, groups = self._geometry(task), _shuffled(task)
        channels = np.arange(g.task.c).reshape(g.task.groups, g.reduction)
        order = np.stack([np.argsort(of_group % groups, kind="stable") for of_group in channels])
        weight = params[0].reshape(g.task.groups, g.per_group, g.reduction)
        weight = np.take_along_axis(weight, order[:, None, :], axis=2)
        return [packed(g, weight), *(np.asarray(p, np.float32) for p in params[1:])]

    def prim_func(self, task: PairTask, machine: Machine) -> tvm.tirx.PrimFunc:
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            _Emitter(self._geometry(task), self.layouts(task), machine, _shuffled(task)).emit()
        return builder.get()

    def arithmetic(self, task: PairTask) -> int:
        return task.second.flops

    def _geometry(self, task: PairTask) -> _Geometry:
        return _Geometry(cast(ConvTask, task.second), self.pixels, self.vectors, self.lanes)


def _shuffled(task: PairTask) -> int:
    """Groups of the shuffle."""
    return cast(ShuffleTask, task.first).groups


class _Geometry(Geometry):
    def block_tiles(self, l2_bytes: int, threads: int) -> int:
        """Every group reads every line of its pixels, so that threads share out the pixels and not the groups."""
        block_bytes = 4 * self.task.n * self.image_pixels * (self.task.c + self.per_group)
        needed = cdiv(block_bytes, l2_bytes // 2) if self.units > 1 else 1
        return cdiv(self.tiles, min(cdiv(needed, threads) * threads, self.tiles))


class _Emitter(Emitter):
    """``shuffled`` are the groups of the shuffle."""

    def __init__(self, geometry: Geometry, layouts: Layouts, machine: Machine, shuffled: int) -> None:
        super().__init__(geometry, layouts, machine)
        self.shuffled = shuffled

    def _reduce(self, acc: Any, group: Any, unit: Any, image: Any, pixel: Any, number_in_block: Any) -> None:
        """Sums over the input channels, a run from each group of the shuffle."""
        g, pitch, shuffled = self.g, self.t.c, self.shuffled
        first = T.Bind((image * g.image_pixels + pixel) * pitch)
        weights = T.Bind(unit * (g.reduction * g.vectors * g.lanes))
        even, done = g.reduction % shuffled == 0, 0
        for i in range(shuffled):
            # channels j * shuffled + i of this group: j from start, up to end
            start = (group * g.reduction + (shuffled - 1 - i)) // shuffled
            end = ((group + 1) * g.reduction + (shuffled - 1 - i)) // shuffled
            count = g.reduction // shuffled if even else T.Bind(end - start)
            source = T.Bind(first + i * (pitch // shuffled) + start)
            self._fetch_pixels(source, pitch)
            with T.serial(0, count) as j:
                self._multiply(acc, source + j, pitch, weights, done + j)
            done = done + count if even else T.Bind(done + count)
