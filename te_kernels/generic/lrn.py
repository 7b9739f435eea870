"""Local response normalisation across channels, in every layout.

``y = x * (bias + alpha/size * sum of squares of size neighbouring channels) ** -beta``

The power is vector arithmetic: a polynomial where beta is 0.75 (AlexNet, GoogLeNet), roots and a division where it is
another multiple of 1/4, else a polynomial logarithm and exponential. The ``size`` squares are summed anew for each
element: a running sum would drift. Products bound it: 14 to 18 for a vector with five neighbours and beta 0.75, and one
a cycle gives 34 to 26 GB/s on a Zen 4 core, where a copy in L2 has 116; 22-27 were measured, 15-17 with roots.

    NCHW               for n, part of the map; for channel; for vector of pixels: the window is ``size`` rows; the first
                       and the last channels, whose windows are cut off, are unrolled
    NHWC, NCHW<b>c     for n, a few pixels: squares to row buffers with zeros at their ends, read with shifted loads
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from te_kernels import vector_math
from te_kernels.generic import _tir
from te_kernels.machine import Machine
from te_kernels.task import LrnTask
from te_kernels.variant import Layouts, Reject, Variant, pad_channels

#: Pixels whose squares are buffered together where vectors hold channels.
_PIXELS = 8


@dataclass(frozen=True)
class Lrn(Variant):
    """Every layout. Knob: the layout."""

    name = "lrn"
    family = "generic"
    title = "local response normalisation"
    task_type = LrnTask

    layout: str

    @classmethod
    def candidates(cls, task: LrnTask, machine: Machine) -> Iterator[Variant]:
        """One instance for each layout of the machine."""
        if len(task.shape) != 4:
            raise Reject(f"rank {len(task.shape)}; only rank 4 is supported")
        for layout in machine.layouts:
            yield cls(layout)

    def layouts(self, task: LrnTask) -> Layouts:
        """The same layout everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: LrnTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Constants padded to whole blocks."""
        return pad_channels(params, _tir.padded_channels(self.layout, task.shape[1]))

    def prim_func(self, task: LrnTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        args = _tir.arguments(task, self.layouts(task), _tir.padded_channels(self.layout, task.shape[1]))
        kernel = _rows if self.layout == "NCHW" else _pixels
        return kernel(task, args, machine)

    def workspace_bytes(self, task: LrnTask, threads: int = 1) -> int:
        """The buffer of squares where vectors hold channels."""
        channels = _tir.padded_channels(self.layout, task.shape[1])
        return threads * 4 * _PIXELS * (channels + task.size - 1) if self.layout != "NCHW" else 0


def _normalised(task: LrnTask, x: Any, squares: Any) -> Any:
    scale = _tir.float32(task.bias) + _tir.float32(task.alpha / task.size) * squares
    return x * vector_math.power(scale, -task.beta)


def _parts(task: LrnTask, machine: Machine, units: int, limit: int) -> int:
    """Into how many parts to divide each of ``units`` independent pieces of work."""
    if not _tir.worth_threads(task, machine):
        return 1
    return min(limit, -(-4 * machine.threads // units))


def _rows(task: LrnTask, args: _tir.Arguments, machine: Machine) -> tvm.tirx.PrimFunc:
    n, channels, h, w = task.shape
    pixels = h * w
    before, after = (task.size - 1) // 2, task.size // 2
    data = args.data[0]
    # rows of at most 4 KB: the window's rows stay in L1 from channel to channel
    parts = max(_parts(task, machine, n, pixels), -(-pixels // 1024))
    share = -(-pixels // parts)

    def unit(index: Any) -> Any:
        image, part = index // parts, index % parts
        start = tirx.min(part * share, _tir.int32(pixels - share))

        def channel(c: Any, first: int, last: int) -> Any:
            """One channel, with the window from ``c + first`` to ``c + last``."""
            row = (image * channels + c) * pixels + start

            def element(i: Any, _: Any) -> Any:
                total: Any = _tir.float32(0.0)
                for k in range(first, last + 1):
                    neighbour = data[row + k * pixels + i]
                    total = total + neighbour * neighbour
                return args.finish(_normalised(task, data[row + i], total), row + i, c)

            return _tir.contiguous(share, machine.vector_lanes, element)

        head = min(before, channels)
        tail = max(head, channels - after)
        statements = [channel(_tir.int32(c), -c, min(after, channels - 1 - c)) for c in range(head)]
        if tail > head:
            statements.append(_tir.loop(tail - head, lambda c: channel(c, -before, after), "c", start=head))
        statements += [channel(_tir.int32(c), -before, channels - 1 - c) for c in range(tail, channels)]
        return _tir.sequence(statements)

    return args.prim_func(_tir.loop(n * parts, unit, "u", _tir.worth_threads(task, machine)))


def _pixels(task: LrnTask, args: _tir.Arguments, machine: Machine) -> tvm.tirx.PrimFunc:
    n, channels, h, w = task.shape
    width = int(args.out.buffer.shape[-1])  # all channels, or a block of them
    slices = -(-channels // width)
    pixels, before, lanes = h * w, (task.size - 1) // 2, machine.vector_lanes
    data = args.data[0]
    parts = _parts(task, machine, n, pixels)
    share = -(-pixels // parts)
    group = max(1, min(_PIXELS, share))
    pitch = slices * width + task.size - 1
    row, allocation = _tir.local("squares", group * pitch)

    def unit(index: Any) -> Any:
        image = index // parts
        start = tirx.min(index % parts * share, _tir.int32(pixels - share))

        def run(q: Any, pixel: Any) -> Any:
            return ((image * slices + q) * pixels + start + pixel) * width

        def squares(q: Any, first: Any, count: int, filled: int) -> Any:
            def at(slot: Any) -> Any:
                source, target = run(q, first + slot), slot * pitch + before + q * width
                return _tir.contiguous(
                    filled, lanes, lambda i, _: row.store(target + i, data[source + i] * data[source + i])
                )

            return _tir.loop(count, at, "s")

        def normalise(q: Any, first: Any, count: int) -> Any:
            def at(slot: Any) -> Any:
                offset, window = run(q, first + slot), slot * pitch + q * width

                def element(i: Any, _: Any) -> Any:
                    total: Any = row[window + i]
                    for k in range(1, task.size):
                        total = total + row[window + k + i]
                    return args.finish(_normalised(task, data[offset + i], total), offset + i, q * width + i)

                return _tir.contiguous(width, lanes, element)

            return _tir.loop(count, at, "p")

        def some(first: Any, count: int) -> Any:
            """Squares of a few pixels before their use: a load that spans two fresh stores would wait for both."""
            whole, rest = divmod(channels, width)
            return _tir.sequence(
                [
                    _tir.loop(whole, lambda q: squares(q, first, count, width), "q"),
                    *([squares(_tir.int32(whole), first, count, rest)] if rest else []),
                    _tir.loop(slices, lambda q: normalise(q, first, count), "q"),
                ]
            )

        # what the loops above leave out: channels before the first and after the last count as zero
        edges = [i for i in range(pitch) if not before <= i < before + channels]
        statements = [allocation]
        statements += [row.store(_tir.int32(g * pitch + i), _tir.float32(0.0)) for g in range(group) for i in edges]
        statements.append(_tir.loop(share // group, lambda g: some(g * group, group), "g"))
        if share % group:
            statements.append(some(_tir.int32(share // group * group), share % group))
        return _tir.sequence(statements)

    return args.prim_func(_tir.loop(n * parts, unit, "u", _tir.worth_threads(task, machine)))
