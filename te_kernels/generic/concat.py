"""Concatenation along the channels, all inputs in one kernel.

NHWC interleaves short runs: for each pixel, the channels of every input in turn. In NCHW the channels of an input are
one run of memory for each image; it is dealt to threads in pieces, so that every thread copies a piece of every input.
In NCHW<b>c see ``_channel_gather``: inputs whose channels are not multiples of the block are shifted by lane shuffles,
and their padding lanes do not reach the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from te_kernels import epilogue as ep
from te_kernels.generic import _channel_gather, _tir
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import ConcatTask
from te_kernels.variant import Layouts, Variant, pad_channels


@dataclass(frozen=True)
class Concat(Variant):
    """Every layout. Knob: the layout."""

    name = "concat"
    family = "generic"
    title = "concatenation of channels"
    task_type = ConcatTask

    layout: str

    @classmethod
    def candidates(cls, task: ConcatTask, machine: Machine) -> Iterator[Variant]:
        """One instance for each layout of the machine."""
        for layout in machine.layouts:
            yield cls(layout)

    def layouts(self, task: ConcatTask) -> Layouts:
        """The same layout everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: ConcatTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Constants padded to whole blocks."""
        return pad_channels(params, _tir.padded_channels(self.layout, task.output_shape[1]))

    def prim_func(self, task: ConcatTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        firsts = [0, *accumulate(task.channels)]
        block = Layout(self.layout).block
        if block:
            sources = [(tensor, c) for tensor, count in enumerate(task.channels) for c in range(count)]
            return _channel_gather.prim_func(task, self.layouts(task), block, sources.__getitem__, machine)
        args = _tir.arguments(task, self.layouts(task))
        pixels, total, lanes = task.h * task.w, task.output_shape[1], machine.vector_lanes
        parallel = _tir.worth_threads(task, machine)

        if self.layout == "NHWC":

            def pixel(p: Any) -> Any:
                def tensor(t: int) -> Any:
                    def element(i: Any, _: Any) -> Any:
                        c = firsts[t] + i
                        return args.finish(args.data[t][p * task.channels[t] + i], p * total + c, c)

                    return _tir.contiguous(task.channels[t], lanes, element)

                return _tir.sequence([tensor(t) for t in range(len(task.channels))])

            return args.prim_func(_tir.loop(task.n * pixels, pixel, "p", parallel))

        # NCHW: a run is a map where an epilogue needs to know the channel, else all the maps of an input
        by_map = ep.channel_count(task.steps) > 0
        parts = 4 * machine.threads if parallel else 1

        def unit(index: Any) -> Any:
            image, part = index // parts, index % parts

            def tensor(t: int) -> Any:
                count = task.channels[t] if by_map else task.channels[t] * pixels
                share = -(-count // parts)
                start = tirx.min(part * share, _tir.int32(count - share)) if parts > 1 else _tir.int32(0)

                def element(i: Any, c: Any) -> Any:
                    source = image * task.channels[t] * pixels + i
                    return args.finish(args.data[t][source], (image * total + firsts[t]) * pixels + i, c)

                if not by_map:
                    return _tir.contiguous(share, lanes, lambda i, _: element(start + i, 0))

                def row(c: Any) -> Any:
                    first = (start + c) * pixels
                    return _tir.contiguous(pixels, lanes, lambda i, _: element(first + i, firsts[t] + start + c))

                return _tir.loop(share, row, "c")

            return _tir.sequence([tensor(t) for t in range(len(task.channels))])

        return args.prim_func(_tir.loop(task.n * parts, unit, "u", parallel))
