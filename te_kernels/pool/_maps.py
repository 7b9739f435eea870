"""Pooling with vectors of output columns: NCHW, whose maps are rows of pixels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from tvm import tirx

from te_kernels.generic import _tir
from te_kernels.machine import Machine
from te_kernels.pool._windows import Axis, Group, combine, factor, neutral
from te_kernels.task import PoolTask

#: Output rows in a group.
_ROWS = 4
#: Vectors of output columns that are written out; more are a loop.
_WRITTEN_OUT = 2


def kernel(task: PoolTask, args: _tir.Arguments, machine: Machine) -> Any:
    """Windows of moderate width, in groups of output rows; parallel over maps."""
    down, lanes = Axis.rows(task), machine.vector_lanes
    groups = down.groups(_ROWS)
    written_out = all(group.repeats == 1 for group in groups)
    # a vector that is longer than a row reads into its neighbours, where it is known that there are any
    while lanes // 2 >= task.ow or lanes > (task.h * task.w if written_out else task.w):
        lanes //= 2
    line = _Line(task, args.data[0], lanes)

    def tile(channel: Any, oh: Any, windows: Group, start: Any) -> Any:
        """``lanes`` output columns from ``start`` on, of a group of output rows."""
        statements: list[Any] = []
        rows: dict[int, Any] = {}
        for j, window in enumerate(windows.windows):
            for y in window:
                if y not in rows:
                    rows[y] = _tir.bind(
                        line.reduced(channel, down.origin(oh) + y, start, statements), lanes, statements
                    )
            value = combine(task, [rows[y] for y in window] or [tirx.Broadcast(neutral(task), lanes)])
            if task.mode == "avg":
                value = value * _lanes([factor(task, len(window), n) for n in line.counts(start)])
            pixels, allocation = _tir.local("pixels", lanes)
            out = (channel * task.oh + oh + j) * task.ow + start
            statements += [allocation, pixels.store(_tir.int32(0), value)]
            for first, width in _tir.pieces(min(lanes, task.ow)):

                def at(i: Any, first: int = first, pixels: _tir.Argument = pixels, out: Any = out) -> Any:
                    return args.finish(pixels[first + i], out + first + i, channel % task.c)

                statements.append(_tir.vectorized(width, at))
        return _tir.sequence(statements)

    def tiles(channel: Any, oh: Any, windows: Group, start: int, count: int) -> Any:
        if count == 1:
            return tile(channel, oh, windows, start)
        return _tir.loop(count, lambda t: tile(channel, oh, windows, start + t * lanes), "t")

    def group(channel: Any, windows: Group, oh: Any) -> Any:
        return _tir.sequence([tiles(channel, oh, windows, *run) for run in _runs(task.ow, line)])

    def map_(channel: Any) -> Any:
        return _tir.sequence([windows.loop(functools.partial(group, channel, windows)) for windows in groups])

    return _tir.loop(task.n * task.c, map_, "u", _tir.worth_threads(task, machine))


def _runs(outputs: int, line: _Line) -> Iterator[tuple[int, int]]:
    """Vectors that cover a row of outputs: (first output, number of vectors); the last is moved back to end with it."""
    starts = [*range(0, outputs - line.lanes + 1, line.lanes)] or [0]
    inside = [start for start in starts if line.inside(start)]
    looped = inside if len(inside) > _WRITTEN_OUT else []
    if looped:
        yield looped[0], len(looped)
    yield from ((start, 1) for start in starts if start not in looped)
    if starts[-1] + line.lanes < outputs:
        yield outputs - line.lanes, 1


class _Line:
    """One row of input, reduced along every window of ``lanes`` neighbouring output columns.

    Columns are given as numbers where they are known: only there may windows hang over an end of the row.
    """

    def __init__(self, task: PoolTask, data: _tir.Argument, lanes: int) -> None:
        self.task, self.data, self.lanes = task, data, lanes
        self.axis = Axis.columns(task)
        self.taps = [i * task.dilation[1] for i in range(task.s)]

    def _vectors(self, tap: int) -> list[int]:
        """Where to read the elements ``tap``, ``tap + stride``, ..., counted from the first window's origin."""
        stride = self.axis.stride
        return [tap - tap % stride + v * self.lanes for v in range(stride)]

    def inside(self, start: int) -> bool:
        """Whether nothing that is read for the outputs from ``start`` on leaves the row."""
        left = self.axis.origin(start)
        return left >= 0 and left + self._vectors(self.taps[-1])[-1] + self.lanes <= self.task.w

    def counts(self, start: Any) -> list[int]:
        """Elements inside the row in the windows of the outputs from ``start`` on."""
        if not isinstance(start, int):
            return [self.task.s] * self.lanes
        return [len(self.axis.taps(start + i)) for i in range(self.lanes)]

    def reduced(self, channel: Any, y: Any, start: Any, statements: list[Any]) -> Any:
        """The reduction of row ``y`` of a map; what it uses twice is bound by ``statements``."""
        left, lanes, width = self.axis.origin(start), self.lanes, self.task.w
        known = isinstance(start, int)
        # columns, counted from the row's first, that lie in the map for sure: even those of other rows may be read
        begin, end = (-y * width, (self.task.h - y) * width) if isinstance(y, int) else (0, width)
        row = (channel * self.task.h + y) * width
        read: dict[int, Any] = {}

        def vector(x: int) -> Any:
            if x not in read:
                read[x] = _tir.bind(self.data.vector(row + left + x, lanes), lanes, statements)
            return read[x]

        def tap(first: int) -> Any:
            wanted = [first + i * self.axis.stride for i in range(lanes)]
            vectors = self._vectors(first)
            if known:
                # a vector that would leave the map is moved to end with it, and its lanes are picked accordingly
                vectors = [min(max(left + v, begin), end - lanes) - left for v in vectors]
            picks: list[int] = []
            for x in wanted:
                if known and start + len(picks) >= self.task.ow:
                    picks.append(picks[-1])  # of no use
                elif known and not 0 <= left + x < width:
                    picks.append(len(vectors) * lanes)
                else:
                    v = next(i for i, v in enumerate(vectors) if v <= x < v + lanes)
                    picks.append(v * lanes + x - vectors[v])
            parts = [vector(v) for v in vectors]
            if picks == list(range(lanes)):
                return parts[0]
            if max(picks) == len(vectors) * lanes:
                parts.append(tirx.Broadcast(neutral(self.task), lanes))
            return _tir.shuffle(parts, picks)

        return combine(self.task, [tap(first) for first in self.taps])


def _lanes(values: list[Any]) -> Any:
    """The vector of scalar constants."""
    if len({v.value for v in values}) == 1:
        return tirx.Broadcast(values[0], len(values))
    return _tir.shuffle(values, range(len(values)))
