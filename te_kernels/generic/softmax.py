"""Softmax over any axis, numerically stable, in one kernel.

The stored tensor is viewed as ``[outer, axis, inner]``:

    for outer (and parts of inner):                     parallel
      m = max over axis of x                            vectors along inner, or along the axis when inner is 1
      y = exp(x - m); s = sum over axis of y
      y = y * (1 / s)

In a blocked layout every axis but the channels is an ordinary axis with the block inside ``inner``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
from tvm import te, tirx

from te_kernels import vector_math
from te_kernels.generic import _tir
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import SoftmaxTask
from te_kernels.variant import Layouts, Variant

_LOWEST = -3.4028234e38
#: Columns that share one pass along the axis: two scratch rows of this many floats stay in registers or L1.
_COLUMNS = 4


@dataclass(frozen=True)
class Softmax(Variant):
    """Every layout, except over the channels of a blocked one. Knob: the layout."""

    name = "softmax"
    family = "generic"
    title = "softmax"
    task_type = SoftmaxTask

    layout: str

    @classmethod
    def candidates(cls, task: SoftmaxTask, machine: Machine) -> Iterator[Variant]:
        """One instance for each layout that can hold the tensor and stores the axis in one piece."""
        for layout in (*machine.layouts, "plain"):
            over_blocked = Layout(layout).block and task.axis == 1
            if Layout(layout).reason_cannot_hold(task.shape) is None and not over_blocked:
                yield cls(layout)

    def layouts(self, task: SoftmaxTask) -> Layouts:
        """The same layout on both sides."""
        return Layouts((self.layout,), self.layout)

    def prim_func(self, task: SoftmaxTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        args = _tir.arguments(task, self.layouts(task), 1)
        stored = Layout(self.layout).physical_shape(task.shape)
        axis = {0: 0, 1: 3, 2: 1, 3: 2}[task.axis] if self.layout == "NHWC" else task.axis
        outer, extent, inner = prod(stored[:axis]), stored[axis], prod(stored[axis + 1 :])
        data, out, lanes = args.data[0], args.out, machine.vector_lanes
        if inner == 1:
            body = _tir.loop(
                outer,
                lambda r: _row(data, out, r * extent, extent, lanes),
                "r",
                _tir.worth_threads(task, machine),
            )
            return args.prim_func(body)
        width = min(inner, _COLUMNS * lanes)
        tiles = -(-inner // width)

        def unit(index: Any) -> Any:
            start = _tir.clamped_start(index % tiles, width, inner, tiles * width)
            return _columns(data, out, index // tiles * extent * inner + start, (extent, inner, width), lanes)

        return args.prim_func(_tir.loop(outer * tiles, unit, "u", _tir.worth_threads(task, machine)))


def _row(data: _tir.Argument, out: _tir.Argument, first: Any, extent: int, lanes: int) -> Any:
    """Softmax of ``extent`` contiguous elements."""
    peak_statements, peak = _tir.reduced(extent, lanes, lambda i, width: data.vector(first + i, width), te.max, _LOWEST)
    sum_statements, total = _tir.reduced(
        extent, lanes, lambda i, width: out.vector(first + i, width), lambda a, b: a + b, 0.0
    )
    (scalar, allocation), zero = _tir.local("scalar", 1), _tir.int32(0)

    def exponential(i: Any, _: Any) -> Any:
        return out.store(first + i, vector_math.exp(data[first + i] - scalar[zero]))

    return _tir.sequence(
        [
            allocation,
            *peak_statements,
            scalar.store(zero, peak),
            _tir.contiguous(extent, lanes, exponential),
            *sum_statements,
            scalar.store(zero, _tir.float32(1.0) / total),
            _tir.contiguous(extent, lanes, lambda i, _: out.store(first + i, out[first + i] * scalar[zero])),
        ]
    )


def _columns(data: _tir.Argument, out: _tir.Argument, first: Any, sizes: tuple[int, int, int], lanes: int) -> Any:
    """Softmax of ``width`` neighbouring columns; ``sizes`` is (axis, distance of its elements, width)."""
    extent, pitch, width = sizes
    peak, allocate_peak = _tir.local("peak", width)
    total, allocate_total = _tir.local("total", width)

    def along(body: Any) -> Any:
        def at(a: Any) -> Any:
            return _tir.contiguous(width, lanes, lambda i, _: body(first + a * pitch + i, i))

        return _tir.loop(extent, at, "a")

    def accumulate(offset: Any, i: Any) -> Any:
        return tirx.SeqStmt(
            [
                out.store(offset, vector_math.exp(data[offset] - peak[i])),
                total.store(i, total[i] + out[offset]),
            ]
        )

    return _tir.sequence(
        [
            allocate_peak,
            allocate_total,
            _tir.contiguous(width, lanes, lambda i, _: peak.store(i, _tir.float32(_LOWEST))),
            _tir.contiguous(width, lanes, lambda i, _: total.store(i, _tir.float32(0.0))),
            along(lambda offset, i: peak.store(i, te.max(peak[i], data[offset]))),
            along(accumulate),
            _tir.contiguous(width, lanes, lambda i, _: total.store(i, _tir.float32(1.0) / total[i])),
            along(lambda offset, i: out.store(offset, out[offset] * total[i])),
        ]
    )
