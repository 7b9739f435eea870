"""A convolution of few input channels in NCHW and what goes over its result in windows, by rows (``_row_ring``).

The first layer of a network has its largest map, which the next one reads once: a max pool, or in MobileNets a
depthwise convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import tvm

from te_kernels.conv2d_pair import _depthwise_windows, _first_layer_rows, _max_windows
from te_kernels.conv2d_pair._row_ring import Emitter
from te_kernels.conv2d_pair._row_ring_variant import RowRingVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, PairTask
from te_kernels.variant import Reject

#: More input channels are themselves what a vector holds, and taps of a row of the kernel that are written out.
_MOST_CHANNELS, _MOST_TAPS = 4, 11


@dataclass(frozen=True)
class FirstLayerVariant(RowRingVariant):
    """Base."""

    @classmethod
    def _of_first_layer(cls, task: PairTask, machine: Machine, out: str) -> Iterator[Self]:
        one = task.first
        if not isinstance(one, ConvTask) or one.groups > 1 or one.dilation != (1, 1):
            raise Reject("the first is not a convolution without groups and dilation")
        if one.c > _MOST_CHANNELS:
            raise Reject(f"{one.c} input channels; a first layer has at most {_MOST_CHANNELS}")
        if one.s > _MOST_TAPS:
            raise Reject(f"{one.s} taps in a row of the kernel are too many to be unrolled")
        return cls._best(task, machine, "NCHW", out, machine.l2_bytes / 16)  # fetching lines for more of them pays

    def workspace_bytes(self, task: PairTask, threads: int = 1) -> int:
        return (
            super().workspace_bytes(task, threads) + 4 * _first_layer_rows.lines_floats(self.geometry(task)) * threads
        )


@dataclass(frozen=True)
class DirectDepthwiseVariant(FirstLayerVariant):
    """Base of the variants with a depthwise convolution behind, which differ in their layouts."""

    @classmethod
    def _tiled(cls, task: PairTask, machine: Machine, out: str) -> Iterator[Self]:
        _depthwise_windows.check(task.second)
        return cls._of_first_layer(task, machine, out)

    def pack(self, task: PairTask, params: list[np.ndarray]) -> list[np.ndarray]:
        g, (first, second) = self.geometry(task), task.split(params)
        return [*_first_layer_rows.pack(g, first), *_depthwise_windows.pack(g, second)]

    def prim_func(self, task: PairTask, machine: Machine) -> tvm.tirx.PrimFunc:
        kernel = Emitter(self.geometry(task), self.layouts(task), machine)
        return kernel.prim_func(_first_layer_rows.FirstLayerRows(kernel), _depthwise_windows.DepthwiseWindows(kernel))


@dataclass(frozen=True)
class DirectPoolVariant(FirstLayerVariant):
    """Base of the variants with a max pool behind, which differ in their layouts."""

    @classmethod
    def _tiled(cls, task: PairTask, machine: Machine, out: str) -> Iterator[Self]:
        _max_windows.check(task.second)
        return cls._of_first_layer(task, machine, out)

    def pack(self, task: PairTask, params: list[np.ndarray]) -> list[np.ndarray]:
        return _first_layer_rows.pack(self.geometry(task), params)

    def prim_func(self, task: PairTask, machine: Machine) -> tvm.tirx.PrimFunc:
        kernel = Emitter(self.geometry(task), self.layouts(task), machine)
        return kernel.prim_func(_first_layer_rows.FirstLayerRows(kernel), _max_windows.MaxWindows(kernel))
