"""Pooling with vectors of channels: NHWC and blocked layouts, whose pixels are runs of ``width`` channels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from tvm import tirx

from te_kernels.generic import _tir
from te_kernels.machine import Machine
from te_kernels.pool._windows import Axis, Group, combine, neutral, scaled
from te_kernels.task import PoolTask
from te_kernels.tiling import cdiv

#: Output columns in a group, times vectors of channels: what is computed together.
_TOGETHER = 8
#: Bytes of L1 in one way; addresses that differ by a multiple of it compete for one set.
_WAY_BYTES = 4096
#: Window rows that are written out; more are a loop.
_WRITTEN_OUT = 4
#: Output rows at the border that get code of their own; more share one with bounds that it computes.
_BORDER_ROWS = 2


def kernel(task: PoolTask, args: _tir.Arguments, machine: Machine, width: int) -> Any:
    """Windows of moderate width, in groups of output columns."""
    lanes, data, axis = machine.vector_lanes, args.data[0], Axis.columns(task)
    slices = cdiv(task.c, width)
    chunk = _chunk(task, machine, width)
    chunks = cdiv(width, chunk)
    # where lines do not stay in L1, all of a pixel's are used up at once
    tile = min(chunk, (_TOGETHER if _aliased(task, machine, width) else 1) * lanes)
    groups = axis.groups(max(1, _TOGETHER * lanes // tile))

    def group(image_slice: Any, oh: Any, rows: tuple[Any, Any], ow: Any, windows: Group, first: Any, tile: int) -> Any:
        """``tile`` channels, from ``first`` on, of the output columns from ``ow`` on."""
        top, count = Axis.rows(task).origin(oh) + rows[0] * task.dilation[0], rows[1]
        left = axis.origin(ow)
        place = {x: i * tile for i, x in enumerate(windows.lines)}
        column, allocation = _tir.local("column", max(1, len(place)) * tile)

        def read(r: Any, x: int) -> Callable[[Any], Any]:
            pixel = (image_slice * task.h + top + r * task.dilation[0]) * task.w + left + x
            return lambda i: data[pixel * width + first + i]

        def reduced(x: int) -> Any:
            taps = [read(r, x) for r in range(count)]
            return _tir.contiguous(
                tile, lanes, lambda i, _: column.store(place[x] + i, combine(task, [tap(i) for tap in taps]))
            )

        def finish(j: int, window: tuple[int, ...]) -> Any:
            out = ((image_slice * task.oh + oh) * task.ow + ow + j) * width + first

            def at(i: Any, _: Any) -> Any:
                value = combine(task, [column[place[x] + i] for x in window] or [neutral(task)])
                value = scaled(task, value, count, len(window))
                return args.finish(value, out + i, _channel(image_slice, first + i))

            return _tir.contiguous(tile, lanes, at)

        statements = [allocation]
        missing = list(place)
        if not isinstance(count, int) or not 0 < count <= _WRITTEN_OUT:

            def take(r: Any) -> Any:
                def at(x: int) -> Any:
                    tap, start = read(r, x), place[x]
                    return _tir.contiguous(
                        tile, lanes, lambda i, _: column.store(start + i, combine(task, [column[start + i], tap(i)]))
                    )

                return _tir.sequence([at(x) for x in place])

            statements.append(_tir.contiguous(len(place) * tile, lanes, lambda i, _: column.store(i, neutral(task))))
            statements.append(_tir.loop(count, take, "r"))
            missing = []
        for j, window in enumerate(windows.windows):
            # just before their first use: few columns are in registers at a time
            statements += [reduced(x) for x in missing if x in window]
            missing = [x for x in missing if x not in window]
            statements.append(finish(j, window))
        return _tir.sequence(statements)

    def _channel(image_slice: Any, i: Any) -> Any:
        return image_slice % slices * width + i if slices > 1 else i

    def row(unit: Any, oh: Any, rows: tuple[Any, Any]) -> Any:
        image_slice, start = unit // chunks, _tir.clamped_start(unit % chunks, chunk, width, chunks * chunk)

        def at_columns(windows: Group, ow: Any) -> Any:
            whole = chunk // tile
            statements = [
                _tir.loop(whole, lambda t: group(image_slice, oh, rows, ow, windows, start + t * tile, tile), "c")
            ]
            if chunk % tile:
                first = start + whole * tile
                statements.append(group(image_slice, oh, rows, ow, windows, first, chunk % tile))
            return _tir.sequence(statements)

        return _tir.sequence([windows.loop(functools.partial(at_columns, windows)) for windows in groups])

    return _over_rows(task, machine, task.n * slices * chunks, row)


def _chunk(task: PoolTask, machine: Machine, width: int) -> int:
    """Channels to pass over a map with: as many as leave the window's rows in half of L1 for the next output row.

    All of them where rows are read at most twice anyway, and where they would not stay.
    """
    if task.r < 2 * task.stride[0] or _aliased(task, machine, width):
        return width
    chunks = cdiv(4 * _pixels_above(task) * width, machine.l1_bytes // 2)
    return min(width, max(1, width // chunks // machine.vector_lanes) * machine.vector_lanes)


def _aliased(task: PoolTask, machine: Machine, width: int) -> bool:
    """Whether the pixels of a window's rows lie so many bytes apart that they compete for few sets of L1.

    1024 channels, for one: every pixel begins in the same set.
    """
    sets = _WAY_BYTES // math.gcd(4 * width, _WAY_BYTES)
    return _pixels_above(task) > sets * (machine.l1_bytes // _WAY_BYTES)


def _pixels_above(task: PoolTask) -> int:
    """Pixels of the input rows that one output row covers."""
    return min(task.h, (task.r - 1) * task.dilation[0] + 1) * task.w


def wide(task: PoolTask, args: _tir.Arguments, machine: Machine, width: int) -> Any:
    """Windows of any size: one output pixel at a time, by loops."""
    lanes, data, axis = machine.vector_lanes, args.data[0], Axis.columns(task)
    slices = cdiv(task.c, width)

    def row(image: Any, oh: Any, rows: tuple[Any, Any]) -> Any:
        top = Axis.rows(task).origin(oh)

        def pixel(ow: Any) -> Any:
            first, count = axis.span(ow)
            acc, allocation = _tir.local("acc", width)
            out = ((image * task.oh + oh) * task.ow + ow) * width

            def take(r: Any) -> Any:
                def at(s: Any) -> Any:
                    y, x = top + r * task.dilation[0], axis.origin(ow) + s * task.dilation[1]
                    source = ((image * task.h + y) * task.w + x) * width
                    return _tir.contiguous(
                        width, lanes, lambda i, _: acc.store(i, combine(task, [acc[i], data[source + i]]))
                    )

                return _tir.loop(count, at, "s", start=first)

            def finish(i: Any, _: Any) -> Any:
                return args.finish(scaled(task, acc[i], rows[1], count), out + i, image % slices * width + i)

            return _tir.sequence(
                [
                    allocation,
                    _tir.contiguous(width, lanes, lambda i, _: acc.store(i, neutral(task))),
                    _tir.loop(rows[1], take, "r", start=rows[0]),
                    _tir.contiguous(width, lanes, finish),
                ]
            )

        return _tir.loop(task.ow, pixel, "ow")

    return _over_rows(task, machine, task.n * slices, row)


def _over_rows(task: PoolTask, machine: Machine, images: int, row: Callable[[Any, Any, tuple[Any, Any]], Any]) -> Any:
    """``row(image, output row, (first, count) of window rows inside)``: parallel over images and, if few, runs of rows.

    Rows whose window lies inside the map have a constant number of window rows, and code of their own.
    """
    threaded = _tir.worth_threads(task, machine)
    parts = min(task.oh, cdiv(4 * machine.threads, images)) if threaded else 1
    share = cdiv(task.oh, parts)
    axis = Axis.rows(task)
    first, inside = axis.inside

    def unit(index: Any) -> Any:
        start = _tir.clamped_start(index % parts, share, task.oh, parts * share) if parts > 1 else _tir.int32(0)

        def at(i: Any) -> Any:
            image, oh = index // parts, start + i
            if len(axis.border) <= _BORDER_ROWS:
                taps = [(o, axis.taps(o)) for o in axis.border]
                cases = [(oh == o, row(image, oh, (_tir.int32(t.start), len(t)))) for o, t in taps]
            else:
                cases = [(tirx.any(oh < first, oh >= first + inside), row(image, oh, axis.span(oh)))]
            statement = row(image, oh, (_tir.int32(0), task.r)) if inside else cases.pop()[1]
            for condition, body in reversed(cases):
                statement = tirx.IfThenElse(condition, body, statement)
            return statement

        return _tir.loop(share, at, "oh")

    return _tir.loop(images * parts, unit, "u", threaded)
