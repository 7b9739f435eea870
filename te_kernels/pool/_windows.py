"""Pooling windows along one axis: which input lines each output reads, and which outputs share theirs.

A window is separable: its maximum (or sum) is that over lines of those along a line. Neighbouring outputs are computed
together, so that a line that several of their windows cover is reduced once. *Lines* are input columns for kernels
whose vectors hold channels, input rows for those whose vectors lie along a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

from tvm import te, tirx

from te_kernels.generic import _tir
from te_kernels.task import PoolTask
from te_kernels.tiling import cdiv

_LOWEST = -3.4028234e38
#: Groups of outputs that are written out one after another rather than as a loop and its borders.
_WRITTEN_OUT = 3


@dataclass(frozen=True)
class Axis:
    """Windows along one axis of a map: ``outputs`` of ``window`` elements of an ``extent``."""

    window: int
    extent: int
    outputs: int
    stride: int
    before: int
    dilation: int

    @classmethod
    def rows(cls, task: PoolTask) -> Axis:
        """The vertical axis."""
        return cls(task.r, task.h, task.oh, task.stride[0], task.pad[0], task.dilation[0])

    @classmethod
    def columns(cls, task: PoolTask) -> Axis:
        """The horizontal axis."""
        return cls(task.s, task.w, task.ow, task.stride[1], task.pad[1], task.dilation[1])

    def origin(self, output: Any) -> Any:
        """The line under the first element of an output's window; outside the map where padding is."""
        return output * self.stride - self.before

    def taps(self, output: int) -> range:
        """Window elements that lie inside the map."""
        inside = [i for i in range(self.window) if 0 <= self.origin(output) + i * self.dilation < self.extent]
        return range(inside[0], inside[-1] + 1) if inside else range(0)

    @property
    def inside(self) -> tuple[int, int]:
        """Outputs whose window lies inside the map: (first, count)."""
        first = cdiv(self.before, self.stride)
        reach = (self.window - 1) * self.dilation
        last = (self.extent - 1 - reach + self.before) // self.stride
        return first, max(0, min(self.outputs, last + 1) - first)

    @property
    def border(self) -> list[int]:
        """Outputs whose window hangs over an end of the map."""
        first, count = self.inside
        return [i for i in range(self.outputs) if not first <= i < first + count]

    def span(self, output: Any) -> tuple[Any, Any]:
        """Window elements inside the map at an output that only the kernel knows: (first, count), expressions."""
        origin, step = self.origin(output), _tir.int32(self.dilation)
        first = tirx.max(_tir.int32(0), tirx.floordiv(step - 1 - origin, step))
        last = tirx.min(_tir.int32(self.window), tirx.floordiv(self.extent - origin + step - 1, step))
        return first, tirx.max(_tir.int32(0), last - first)

    def groups(self, together: int) -> list[Group]:
        """All outputs in groups of about ``together``: few, or those inside the map as a loop."""

        def fixed(start: int, count: int) -> Group:
            shifts = [i * self.stride for i in range(count)]
            windows = [[at + i * self.dilation for i in self.taps(start + o)] for o, at in enumerate(shifts)]
            return Group(start, 1, tuple(map(tuple, windows)))

        count = cdiv(self.outputs, together)
        if count <= _WRITTEN_OUT:
            ends = [self.outputs * i // count for i in range(count + 1)]
            return [fixed(a, b - a) for a, b in pairwise(ends)]
        first, inside = self.inside
        repeats = inside // together
        groups = [Group(first, repeats, fixed(first, together).windows)] if repeats else []
        runs = [(0, first), (first + repeats * together, self.outputs)] if repeats else [(0, self.outputs)]
        for start, end in runs:
            groups += [fixed(at, min(together, end - at)) for at in range(start, end, together)]
        return groups


@dataclass(frozen=True)
class Group:
    """Neighbouring outputs, ``repeats`` times, from output ``start`` on.

    ``windows[i]`` are the lines that the i-th reads, counted from the origin of the first one's window.
    """

    start: int
    repeats: int
    windows: tuple[tuple[int, ...], ...]

    @property
    def lines(self) -> list[int]:
        """Every line that some window covers, in order."""
        return sorted({line for window in self.windows for line in window})

    def loop(self, body: Callable[[Any], Any]) -> Any:
        """``body`` of the first output of every repetition: a number where there is one only."""
        if self.repeats == 1:
            return body(self.start)
        return _tir.loop(self.repeats, lambda g: body(self.start + g * len(self.windows)), "g")


def combine(task: PoolTask, values: list[Any]) -> Any:
    """The maximum or sum of at least one value."""
    return reduce(te.max if task.mode == "max" else lambda a, b: a + b, values)


def neutral(task: PoolTask) -> Any:
    """What :func:`combine` leaves as it is."""
    return _tir.float32(_LOWEST if task.mode == "max" else 0.0)


def scaled(task: PoolTask, value: Any, rows: Any, columns: Any) -> Any:
    """The result of a window of ``rows`` x ``columns`` elements inside the map, from their maximum or sum."""
    return value if task.mode == "max" else value * factor(task, rows, columns)


def factor(task: PoolTask, rows: Any, columns: Any) -> Any:
    """What the sum over ``rows`` x ``columns`` elements is multiplied by for an average."""
    if task.divisor == "window":
        return _tir.float32(1.0 / (task.r * task.s))
    count = rows * columns
    if isinstance(count, int):
        return _tir.float32(1.0 / max(1, count))
    return _tir.float32(1.0) / tirx.max(count, _tir.int32(1)).astype("float32")
