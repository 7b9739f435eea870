"""Local response normalisation across channels, in every layout.

``y = x * (bias + alpha/size * sum of squares of size neighbouring channels) ** -beta``

The power is vector arithmetic: roots and a division where beta is a multiple of 1/4 (0.75 in AlexNet and GoogLeNet),
else a polynomial logarithm and exponential. The ``size`` squares are summed anew for each element: that is cheaper than
the power, and a running sum would drift. Square roots and the division bound it: 33-38 GB/s in every layout on one Zen
5 core (96x55x55: 61 us).

    NCHW       for n, part of the map; for channel; for vector of pixels: the window is ``size`` rows; the first and
               the last channels, whose windows are cut off, are unrolled
    NHWC       for a few pixels: squares to row buffers with zeros at their ends; then shifted loads from those
    NCHW<b>c   for block, pixel: squares of three neighbouring blocks, shifted by lane shuffles; padding counts as zero
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
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import LrnTask
from te_kernels.variant import Layouts, Reject, Variant, pad_channels

#: Pixels whose squares are buffered together (NHWC).
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
            block = Layout(layout).block
            if not block or task.size // 2 <= block:
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
        kernel = {"NCHW": _rows, "NHWC": _pixels}.get(self.layout, _blocks)
        return kernel(task, args, machine)

    def workspace_bytes(self, task: LrnTask, threads: int = 1) -> int:
        """The row buffer of squares (NHWC)."""
        return threads * 4 * _PIXELS * (task.shape[1] + task.size - 1) if self.layout == "NHWC" else 0


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
    before, lanes = (task.size - 1) // 2, machine.vector_lanes
    data = args.data[0]
    parts = _parts(task, machine, 1, n * h * w)
    share = -(-n * h * w // parts)
    group = max(1, min(_PIXELS, share))
    pitch = channels + task.size - 1
    row, allocation = _tir.local("squares", group * pitch)
    zero = _tir.float32(0.0)

    def unit(index: Any) -> Any:
        start = tirx.min(index * share, _tir.int32(n * h * w - share))

        def square(p: Any, slot: Any) -> Any:
            def at(c: Any, _: Any) -> Any:
                x = data[(start + p) * channels + c]
                return row.store(slot * pitch + before + c, x * x)

            return _tir.contiguous(channels, lanes, at)

        def normalise(p: Any, slot: Any) -> Any:
            first = (start + p) * channels

            def at(c: Any, _: Any) -> Any:
                total: Any = row[slot * pitch + c]
                for k in range(1, task.size):
                    total = total + row[slot * pitch + c + k]
                return args.finish(_normalised(task, data[first + c], total), first + c, c)

            return _tir.contiguous(channels, lanes, at)

        def pixels(first: Any, count: int) -> Any:
            """Squares of a few pixels before their use: a load that spans two fresh stores would wait for both."""
            return _tir.sequence(
                [
                    _tir.loop(count, lambda slot: square(first + slot, slot), "s"),
                    _tir.loop(count, lambda slot: normalise(first + slot, slot), "p"),
                ]
            )

        edges = [i for i in range(pitch) if not before <= i < before + channels]
        statements = [allocation, *(row.store(_tir.int32(g * pitch + i), zero) for g in range(group) for i in edges)]
        statements.append(_tir.loop(share // group, lambda g: pixels(g * group, group), "g"))
        if share % group:
            statements.append(pixels(_tir.int32(share // group * group), share % group))
        return _tir.sequence(statements)

    return args.prim_func(_tir.loop(parts, unit, "u", _tir.worth_threads(task, machine)))


def _blocks(task: LrnTask, args: _tir.Arguments, machine: Machine) -> tvm.tirx.PrimFunc:
    n, channels, h, w = task.shape
    pixels, before = h * w, (task.size - 1) // 2
    block = int(args.out.buffer.shape[-1])
    slices = -(-channels // block)
    data = args.data[0]
    parts = max(_parts(task, machine, n, pixels), -(-pixels // 256))
    share = -(-pixels // parts)
    zeros = tirx.Broadcast(_tir.float32(0.0), block)

    def unit(index: Any) -> Any:
        image, part = index // parts, index % parts
        start = tirx.min(part * share, _tir.int32(pixels - share))

        def squares(offset: Any, last: bool) -> Any:
            x = data.vector(offset, block)
            if last and channels % block:  # padding lanes hold garbage
                x = _tir.shuffle([x, zeros], [i if i < channels % block else block for i in range(block)])
            return x * x

        def slice_(q: Any, has_previous: bool, neighbour: int) -> Any:
            """One block of channels; ``neighbour`` is 0 if none follows, 1 if one does, 2 if that is the last."""
            scratch, allocation = _tir.local("window", block)

            def pixel(p: Any) -> Any:
                offset = ((image * slices + q) * pixels + start + p) * block
                own = squares(offset, neighbour == 0)
                previous = squares(offset - pixels * block, False) if has_previous else zeros
                following = squares(offset + pixels * block, neighbour == 2) if neighbour else zeros
                total: Any = own
                for k in range(-before, task.size - before):
                    if k < 0:
                        total = total + _tir.shuffle([previous, own], range(block + k, 2 * block + k))
                    elif k > 0:
                        total = total + _tir.shuffle([own, following], range(k, block + k))

                def element(i: Any, _: Any) -> Any:
                    return args.finish(_normalised(task, data[offset + i], scratch[i]), offset + i, q * block + i)

                return _tir.sequence(
                    [scratch.store(_tir.int32(0), total), _tir.contiguous(block, machine.vector_lanes, element)]
                )

            return _tir.sequence([allocation, _tir.loop(share, pixel, "p")])

        statements = []
        edges = sorted({0, *range(max(0, slices - 2), slices)})
        interior = [q for q in range(slices) if q not in edges]
        for q in edges[:1]:
            statements.append(slice_(_tir.int32(q), False, _following(q, slices)))
        if interior:
            statements.append(_tir.loop(len(interior), lambda q: slice_(q, True, 1), "q", start=interior[0]))
        for q in edges[1:]:
            statements.append(slice_(_tir.int32(q), True, _following(q, slices)))
        return _tir.sequence(statements)

    return args.prim_func(_tir.loop(n * parts, unit, "u", _tir.worth_threads(task, machine)))


def _following(q: int, slices: int) -> int:
    return 0 if q == slices - 1 else 2 if q == slices - 2 else 1
