"""Max and average pooling by windows, vectorised along the run of memory that the layout offers.

NHWC and NCHW<b>c:

    for n, (block of channels), output row:             parallel
      rows r that lie inside the input                  bounds, so nothing is read outside
      for a few output columns at once                  one column, with bounds on s, at the borders
        for vectors of channels:
          acc = max or sum of x over r, s; store(epilogue(acc / divisor))

NCHW vectorises over output columns whose windows lie inside the row, with shuffles to pick every stride-th element; the
columns at the left and right border are scalar.

Every output reads r*s vectors, mostly from L1. Zen 5, one core, bytes in and out (copies reach 80-110 GB/s at these
sizes, 200 at the last), in NCHW16c, NHWC and NCHW: 3x3 stride 2 on 64x112x112 102, 82, 42 GB/s; 2x2 stride 2 on
64x224x224 104, 96, 79; 3x3 stride 1 on 480x14x14 109, 59, 18 (narrow rows leave NCHW half vectors and scalar borders).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from te_kernels.generic import _tir
from te_kernels.machine import Machine
from te_kernels.task import PoolTask
from te_kernels.variant import Layouts, Reject, Variant, pad_channels

_LOWEST = -3.4028234e38
#: Vectors of channels that one output position accumulates at once.
_VECTORS = 4
#: Independent vector accumulators that hide the latency of maximum and addition (3 to 4 cycles, two a cycle).
_IN_FLIGHT = 8
#: Window columns times output columns that one unrolled row of a window may have.
_MAX_UNROLLED = 32


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
        kernel = _maps if self.layout == "NCHW" else _channels_last
        return kernel(task, args, machine)


@dataclass(frozen=True)
class _Span:
    """The part of a window that lies inside the input, along one axis: indices ``first <= i < first + count``.

    ``clipped`` tells whether it may be less than the whole window at all.
    """

    first: Any
    count: Any
    clipped: bool


def _span(position: Any, axis: int, task: PoolTask) -> _Span:
    """Window elements inside the input at an output row (axis 0) or column (axis 1)."""
    window, extent, outputs = ((task.r, task.h, task.oh), (task.s, task.w, task.ow))[axis]
    stride, before, dilation = task.stride[axis], task.pad[axis], task.dilation[axis]
    fits = before == 0 and (outputs - 1) * stride + (window - 1) * dilation < extent
    if fits:
        return _Span(_tir.int32(0), window, False)
    origin = position * stride - before
    zero, whole = _tir.int32(0), _tir.int32(window)
    first = tirx.max(zero, tirx.floordiv(-origin + dilation - 1, _tir.int32(dilation)))
    last = tirx.min(whole, tirx.floordiv(extent - origin + dilation - 1, _tir.int32(dilation)))
    return _Span(first, tirx.max(zero, last - first), True)


def _inside(task: PoolTask, axis: int) -> tuple[int, int]:
    """Output rows (axis 0) or columns (axis 1) whose window lies inside the input: (first, count)."""
    window, extent, outputs = ((task.r, task.h, task.oh), (task.s, task.w, task.ow))[axis]
    stride, before, reach = task.stride[axis], task.pad[axis], (window - 1) * task.dilation[axis]
    first = -(-before // stride)
    return first, max(0, min(outputs, (extent - 1 - reach + before) // stride + 1) - first)


def _combine(task: PoolTask) -> Callable[[Any, Any], Any]:
    return te.max if task.mode == "max" else lambda a, b: a + b


def _initial(task: PoolTask) -> Any:
    return _tir.float32(_LOWEST if task.mode == "max" else 0.0)


def _scaled(task: PoolTask, value: Any, rows: _Span, columns: _Span) -> Any:
    """The accumulated value divided by what the task says."""
    if task.mode == "max":
        return value
    if task.divisor == "window" or not (rows.clipped or columns.clipped):
        return value * _tir.float32(1.0 / (task.r * task.s))
    count = rows.count * columns.count
    return value * (_tir.float32(1.0) / tirx.max(count, _tir.int32(1)).astype("float32"))


def _over_rows(task: PoolTask, machine: Machine, maps: int, row: Callable[[Any, Any, _Span], Any]) -> Any:
    """``row(map, output row, window rows inside)`` for all: parallel over maps and, where those are few, runs of rows.

    Rows whose window lies inside the map get code of their own, with a constant number of window rows.
    """
    threaded = _tir.worth_threads(task, machine)
    parts = min(task.oh, -(-4 * machine.threads // maps)) if threaded else 1
    share = -(-task.oh // parts)

    def unit(index: Any) -> Any:
        start = _tir.clamped_start(index % parts, share, task.oh, parts * share) if parts > 1 else _tir.int32(0)

        def at(i: Any) -> Any:
            image, oh = index // parts, start + i
            bounded = _span(oh, 0, task)
            whole = row(image, oh, _Span(_tir.int32(0), task.r, False))
            if not bounded.clipped:
                return whole
            first, count = _inside(task, 0)
            if not count:
                return row(image, oh, bounded)
            return tirx.IfThenElse(tirx.all(oh >= first, oh < first + count), whole, row(image, oh, bounded))

        return _tir.loop(share, at, "oh")

    return _tir.loop(maps * parts, unit, "u", threaded)


def _channels_last(task: PoolTask, args: _tir.Arguments, machine: Machine) -> tvm.tirx.PrimFunc:
    """NHWC and blocked: a pixel is a run of ``width`` channels."""
    block = int(args.out.buffer.shape[-1]) if len(args.out.buffer.shape) == 5 else 0
    width = block or task.c
    slices = -(-task.c // width)
    lanes, data = machine.vector_lanes, args.data[0]
    combine = _combine(task)
    tile = min(width, _VECTORS * lanes)
    first_inside, inside = _inside(task, 1)
    together = max(1, min(_IN_FLIGHT * lanes // tile, inside, _MAX_UNROLLED // task.s))

    def row(image_slice: Any, oh: Any, rows: _Span) -> Any:
        top = oh * task.stride[0] - task.pad[0]

        def channels(ow: Any, count: int, first: Any, tile: int) -> Any:
            """``tile`` channels of ``count`` output columns, whose windows lie inside the row if there are several."""
            columns = _span(ow, 1, task) if count == 1 else _Span(_tir.int32(0), task.s, False)
            left = ow * task.stride[1] - task.pad[1]
            acc, allocation = _tir.local("acc", count * tile)
            out = ((image_slice * task.oh + oh) * task.ow + ow) * width + first

            def taken(r: Any, s: Any, j: int) -> Any:
                y, x = top + r * task.dilation[0], left + j * task.stride[1] + s * task.dilation[1]
                source = ((image_slice * task.h + y) * task.w + x) * width + first
                place = j * tile
                return _tir.contiguous(
                    tile, lanes, lambda i, _: acc.store(place + i, combine(acc[place + i], data[source + i]))
                )

            def over_columns(r: Any) -> Any:
                if columns.clipped:
                    return _tir.loop(columns.count, lambda s: taken(r, s, 0), "s", start=columns.first)
                return _tir.sequence([taken(r, _tir.int32(s), j) for s in range(task.s) for j in range(count)])

            def finish(j: int) -> Any:
                def at(i: Any, _: Any) -> Any:
                    channel = first + i + (image_slice % slices * block if block else 0)
                    return args.finish(_scaled(task, acc[j * tile + i], rows, columns), out + j * width + i, channel)

                return _tir.contiguous(tile, lanes, at)

            return _tir.sequence(
                [
                    allocation,
                    _tir.contiguous(count * tile, lanes, lambda i, _: acc.store(i, _initial(task))),
                    _tir.loop(rows.count, over_columns, "r", start=rows.first),
                    *(finish(j) for j in range(count)),
                ]
            )

        def at_columns(ow: Any, count: int) -> Any:
            whole = width // tile
            statements = [_tir.loop(whole, lambda t: channels(ow, count, t * tile, tile), "c")]
            if width % tile:
                statements.append(channels(ow, count, _tir.int32(whole * tile), width % tile))
            return _tir.sequence(statements)

        # single columns at the borders and what does not fill a group, groups of columns between
        groups = inside // together if together > 1 else 0
        statements = []
        if groups:
            if first_inside:
                statements.append(_tir.loop(first_inside, lambda ow: at_columns(ow, 1), "ow"))
            statements.append(_tir.loop(groups, lambda g: at_columns(first_inside + g * together, together), "g"))
        done = first_inside + groups * together if groups else 0
        if done < task.ow:
            statements.append(_tir.loop(task.ow - done, lambda ow: at_columns(ow, 1), "ow", start=done))
        return _tir.sequence(statements)

    return args.prim_func(_over_rows(task, machine, task.n * slices, row))


def _maps(task: PoolTask, args: _tir.Arguments, machine: Machine) -> tvm.tirx.PrimFunc:
    """NCHW: a row of a map is a run of columns."""
    data, combine, stride = args.data[0], _combine(task), task.stride[1]
    reach = (task.s - 1) * task.dilation[1]
    first, inside = _inside(task, 1)
    lanes = min(machine.vector_lanes, _tir.power_of_two_at_most(inside)) if inside else 1
    while lanes > 1 and (inside - lanes) * stride + lanes * stride > task.w - first * stride + task.pad[1] - reach:
        inside -= 1  # the last strided load would run past the row
        if inside < lanes:
            lanes //= 2
    tiles = -(-inside // lanes) if lanes > 1 else 0
    covered = inside if tiles else 0

    def output_row(channel: Any, oh: Any, rows: _Span) -> Any:
        top = oh * task.stride[0] - task.pad[0]
        out = (channel * task.oh + oh) * task.ow

        def row(r: Any) -> Any:
            return (channel * task.h + top + r * task.dilation[0]) * task.w

        def tile(t: Any) -> Any:
            start = first + _tir.clamped_start(t, lanes, inside, tiles * lanes)
            left = start * stride - task.pad[1]
            acc, allocation = _tir.local("acc", lanes)
            whole = _Span(_tir.int32(0), task.s, False)

            def take(r: Any) -> Any:
                value: Any = acc.vector(_tir.int32(0), lanes)
                for s in range(task.s):
                    source = row(r) + left + s * task.dilation[1]
                    loaded = [data.vector(source + v * lanes, lanes) for v in range(stride)]
                    picked = loaded[0] if stride == 1 else _tir.shuffle(loaded, range(0, lanes * stride, stride))
                    value = combine(value, picked)
                return acc.store(_tir.int32(0), value)

            def finish(i: Any) -> Any:
                return args.finish(_scaled(task, acc[i], rows, whole), out + start + i, channel % task.c)

            return _tir.sequence(
                [
                    allocation,
                    _tir.vectorized(lanes, lambda i: acc.store(i, _initial(task))),
                    _tir.loop(rows.count, take, "r", start=rows.first),
                    _tir.vectorized(lanes, finish),
                ]
            )

        def scalar(ow: Any) -> Any:
            columns = _span(ow, 1, task)
            acc, allocation = _tir.local("one", 1)
            zero = _tir.int32(0)

            def take(r: Any) -> Any:
                def at(s: Any) -> Any:
                    x = ow * stride - task.pad[1] + s * task.dilation[1]
                    return acc.store(zero, combine(acc[zero], data[row(r) + x]))

                return _tir.loop(columns.count, at, "s", start=columns.first)

            return _tir.sequence(
                [
                    allocation,
                    acc.store(zero, _initial(task)),
                    _tir.loop(rows.count, take, "r", start=rows.first),
                    args.finish(_scaled(task, acc[zero], rows, columns), out + ow, channel % task.c),
                ]
            )

        if not covered:
            return _tir.loop(task.ow, scalar, "ow")
        statements = [_tir.loop(tiles, tile, "t")]
        if first:
            statements.append(_tir.loop(first, scalar, "ow"))
        if first + covered < task.ow:
            statements.append(_tir.loop(task.ow - first - covered, scalar, "ow", start=first + covered))
        return _tir.sequence(statements)

    return args.prim_func(_over_rows(task, machine, task.n * task.c, output_row))
