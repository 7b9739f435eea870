"""Channel shuffle: the channels, as a ``groups x C/groups`` matrix, transposed.

NCHW copies whole maps. NHWC interleaves, at every pixel, the runs of the groups by one shuffle of ``groups`` vectors.
In NCHW<b>c every output vector takes its lanes from a few input vectors: see ``_channel_gather``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm

from te_kernels.generic import _channel_gather, _tir
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import ShuffleTask
from te_kernels.variant import Layouts, Variant

#: More operands than this make a shuffle slower than scalar copies.
_MAX_SHUFFLED = 8


@dataclass(frozen=True)
class Shuffle(Variant):
    """Every layout. Knob: the layout."""

    name = "shuffle"
    family = "generic"
    title = "channel shuffle"
    task_type = ShuffleTask
    relative_error = 0.0

    layout: str

    @classmethod
    def candidates(cls, task: ShuffleTask, machine: Machine) -> Iterator[Variant]:
        """One instance for each layout of the machine."""
        for layout in machine.layouts:
            yield cls(layout)

    def layouts(self, task: ShuffleTask) -> Layouts:
        """The same layout on both sides."""
        return Layouts((self.layout,), self.layout)

    def prim_func(self, task: ShuffleTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        n, channels, h, w = task.shape
        groups, per_group = task.groups, channels // task.groups
        block, lanes = Layout(self.layout).block, machine.vector_lanes
        parallel = _tir.worth_threads(task, machine)
        if block:

            def source(c: int) -> tuple[int, int]:
                return 0, c % groups * per_group + c // groups

            return _channel_gather.prim_func(task, self.layouts(task), block, source, machine)
        args = _tir.arguments(task, self.layouts(task))
        data, out = args.data[0], args.out
        if self.layout == "NCHW":
            pixels = h * w

            def row(r: Any) -> Any:
                image, c = r // channels, r % channels
                first = (image * channels + c % groups * per_group + c // groups) * pixels
                return _tir.contiguous(pixels, lanes, lambda i, _: out.store(r * pixels + i, data[first + i]))

            return args.prim_func(_tir.loop(n * channels, row, "r", parallel))
        width = min(lanes, _tir.power_of_two_at_most(per_group))
        tiles = -(-per_group // width)

        def pixel(p: Any) -> Any:
            first = p * channels
            if width == 1 or groups > _MAX_SHUFFLED:

                def copy(i: Any) -> Any:
                    move = lambda j: out.store(first + j * groups + i, data[first + i * per_group + j])  # noqa: E731
                    return _tir.loop(per_group, move, "j")

                return _tir.loop(groups, copy, "i")

            def tile(t: Any) -> Any:
                j = _tir.clamped_start(t, width, per_group, tiles * width)
                loaded = [data.vector(first + i * per_group + j, width) for i in range(groups)]
                stores = []
                for v in range(groups):
                    flat = range(v * width, (v + 1) * width)
                    mixed = _tir.shuffle(loaded, [f % groups * width + f // groups for f in flat])
                    stores.append(out.store(first + j * groups + v * width, mixed))
                return _tir.sequence(stores)

            return _tir.loop(tiles, tile, "t")

        return args.prim_func(_tir.loop(n * h * w, pixel, "p", parallel))
