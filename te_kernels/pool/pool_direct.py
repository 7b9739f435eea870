"""Max and average pooling by windows, vectorised along the run of memory that the layout offers.

Windows overlap, and are separable: a vector is reduced along one axis once for all windows that share it
(:mod:`_windows`).

NHWC and NCHW<b>c (:mod:`_pixels`)

    for n, (block of channels), output row:             parallel
      rows that lie inside the input                    bounds, so nothing is read outside
      for groups of output columns, vectors of channels:
        column[x] = max or sum over those rows          for every input column that the group covers
        for each output column: store(epilogue(max or sum of its columns))

NCHW (:mod:`_maps`)

    for n, channel:                                     parallel
      for vectors of output columns, groups of output rows:
        row[y] = max or sum of s strided loads          for every input row that the group covers
        for each output row: store(epilogue(max or sum of its rows))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.generic import _tir
from te_kernels.machine import Machine
from te_kernels.pool import _maps, _pixels
from te_kernels.task import PoolTask
from te_kernels.variant import Layouts, Reject, Variant, pad_channels

#: Wider windows are reduced by loops: written out, their code would grow without bound.
_WIDEST = 16


@dataclass(frozen=True)
class PoolDirect(Variant):
    """Every layout. Knob: the layout."""

    name = "pool_direct"
    family = "pool"
    title = "pooling by windows"
    task_type = PoolTask

    layout: str

    @classmethod
    def candidates(cls, task: PoolTask, machine: Machine) -> Iterator[Variant]:
        """One instance for each layout of the machine."""
        if task.is_global:
            raise Reject("the window is the whole map: pool_global covers it")
        for layout in machine.layouts:
            yield cls(layout)

    def layouts(self, task: PoolTask) -> Layouts:
        """The same layout everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: PoolTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Constants padded to whole blocks."""
        return pad_channels(params, _tir.padded_channels(self.layout, task.c))

    def prim_func(self, task: PoolTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        args = _tir.arguments(task, self.layouts(task), _tir.padded_channels(self.layout, task.c))
        wide = max(task.r, task.s) > _WIDEST
        if self.layout == "NCHW":
            # a map is an image of one channel to a kernel whose vectors hold channels
            narrow = min(task.w, task.ow) == 1
            body = _pixels.wide(task, args, machine, 1) if wide or narrow else _maps.kernel(task, args, machine)
        else:
            width = int(args.out.buffer.shape[-1])
            body = (_pixels.wide if wide else _pixels.kernel)(task, args, machine, width)
        return args.prim_func(body)
