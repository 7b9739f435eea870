"""Elementwise operators: nothing but an epilogue, on whatever layout the tensor is in.

Without per-channel constants the tensor is one run of memory, in any layout:

    for vector in all stored elements:                  parallel
      out[v] = epilogue(data[v])

With them, a run is what shares the walk over channels: a map of one channel (NCHW), one pixel (NHWC), or one block of
channels over the map (NCHW<b>c), and the constants are a scalar or a vector beside it. Ragged runs end in shorter
vectors. Padding lanes are computed like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tvm

from te_kernels import epilogue as ep
from te_kernels.generic import _tir
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import EltwiseTask
from te_kernels.variant import Layouts, Variant, pad_channels


@dataclass(frozen=True)
class Eltwise(Variant):
    """Every layout. Knob: the layout."""

    name = "eltwise"
    family = "generic"
    title = "elementwise"
    task_type = EltwiseTask

    layout: str

    @classmethod
    def candidates(cls, task: EltwiseTask, machine: Machine) -> Iterator[Variant]:
        """One instance for each layout of the machine that can hold the tensor."""
        for layout in (*machine.layouts, "plain"):
            if Layout(layout).reason_cannot_hold(task.shape) is None:
                yield cls(layout)

    def layouts(self, task: EltwiseTask) -> Layouts:
        """The same layout everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: EltwiseTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Constants padded to whole blocks."""
        return pad_channels(params, _tir.padded_channels(self.layout, task.shape[1])) if params else []

    def prim_func(self, task: EltwiseTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        stored = Layout(self.layout).physical_shape(task.shape)
        parallel, lanes = _tir.worth_threads(task, machine), machine.vector_lanes
        if ep.channel_count(task.steps) == 0:
            args = _tir.arguments(task, self.layouts(task), 1)
            return args.prim_func(
                _tir.contiguous(prod(stored), lanes, lambda i, _: args.finish(args.data[0][i], i, 0), parallel)
            )
        args = _tir.arguments(task, self.layouts(task), _tir.padded_channels(self.layout, task.shape[1]))
        data = args.data[0]
        block = Layout(self.layout).block
        if block:
            n, slices, h, w, _ = stored
            # few blocks of channels: share out the rows of the map as well
            parts = 1 if n * slices >= 4 * machine.threads else h

            def part(index: Any) -> Any:
                channel = index // parts % slices * block

                def pixel(p: Any) -> Any:
                    first = (index * (h // parts * w) + p) * block
                    return _tir.contiguous(
                        block, lanes, lambda i, _: args.finish(data[first + i], first + i, channel + i)
                    )

                return _tir.loop(h // parts * w, pixel, "p")

            return args.prim_func(_tir.loop(n * slices * parts, part, "u", parallel))
        channels = task.shape[1]
        channels_last = self.layout == "NHWC" or prod(task.shape[2:]) == 1
        rows = prod(stored) // channels if channels_last else task.shape[0] * channels
        run = prod(stored) // rows

        def row(r: Any) -> Any:
            def element(i: Any, _: Any) -> Any:
                return args.finish(data[r * run + i], r * run + i, i if channels_last else r % channels)

            return _tir.contiguous(run, lanes, element)

        return args.prim_func(_tir.loop(rows, row, "r", parallel))
