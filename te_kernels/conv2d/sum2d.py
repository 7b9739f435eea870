"""Sum of single-channel convolutions: the textbook loop nest, the baseline that selection is measured against.

    for n, k, h, w:                                     n and k parallel
      acc = 0
      for c, r, s:                                      one scalar accumulator, in this order
        acc += x[n, c, h*sh + r*dh - top, w*sw + s*dw - left] * W[k, c, r, s]
      out[n, k, h, w] = epilogue(acc)

No blocking, no vectors, no copy: padding is a condition inside the loop. This is what Anderson and Gregg call sum2d
("Optimal DNN Primitive Selection with Partitioned Boolean Quadratic Programming", CGO 2018, section 5), whose time is
the denominator of their speed-ups. The accumulation is one chain of dependent multiply-adds, so it cannot run faster
than one of them in four cycles: 1/128 of the AVX-512 peak.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import te, tirx

from te_kernels import epilogue as ep
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Variant, epilogue_placeholders


@dataclass(frozen=True)
class Sum2d(Variant):
    """NCHW -> NCHW, any convolution; no knobs."""

    name = "sum2d"
    family = "sum2d"
    title = "textbook loop nest (baseline)"
    task_type = ConvTask
    relative_error = 1e-4  # one chain of up to 4608 additions

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[Variant]:
        """Always applies."""
        yield cls()

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts(("NCHW",) * len(task.input_shapes), "NCHW")

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        sch = tvm.s_tir.Schedule(te.create_prim_func(_compute(task)))
        out, acc = sch.get_sblock("out"), sch.get_sblock("acc")
        n, k, _, w = sch.get_loops(out)
        sch.parallel(sch.fuse(n, k))
        sch.compute_at(acc, w, preserve_unit_loops=True)
        sch.set_scope(acc, 0, "local")
        sch.decompose_reduction(acc, sch.get_loops(acc)[-3])
        return sch.mod["main"]


def _compute(t: ConvTask) -> list[te.Tensor]:
    cg, kg = t.c // t.groups, t.k // t.groups
    (top, left, _, _), (sh, sw), (dh, dw) = t.pad, t.stride, t.dilation
    data = te.placeholder((t.n, t.c, t.h, t.w), "float32", name="data")
    weight = te.placeholder((t.k, cg, t.r, t.s), "float32", name="weight")
    c = te.reduce_axis((0, cg), name="c")
    r = te.reduce_axis((0, t.r), name="r")
    s = te.reduce_axis((0, t.s), name="s")

    def element(n: Any, k: Any, h: Any, w: Any) -> Any:
        y, x = h * sh + r * dh - top, w * sw + s * dw - left
        inside = tirx.all(y >= 0, y < t.h, x >= 0, x < t.w)
        value = data[n, k // kg * cg + c, y, x]
        if any(t.pad):
            value = tirx.if_then_else(inside, value, tirx.const(0.0, "float32"))
        return te.sum(value * weight[k, c, r, s], axis=[c, r, s])

    acc = te.compute(t.output_shape, element, name="acc")
    tensors, constants, read_tensor, read_constant = epilogue_placeholders(t, "NCHW")
    out = te.compute(t.output_shape, lambda *i: ep.apply(acc[i], t.steps, read_constant, read_tensor, i), name="out")
    return [data, *tensors, weight, *constants, out]
