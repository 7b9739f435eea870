"""Concatenation in place: the producers have written into the result's slices already, so there is nothing to run.

The slices of a tensor's channels are contiguous when the channels are the outermost axis that is not 1: batch 1, in
NCHW or NCHW<b>c. They must start where kernels may assume that tensors start (64 bytes), and whole blocks must belong
to one input. Selection gives the choice time zero; the rewriter emits ``relax.op.concat``, which the memory planner
(``tvm_globalsel/memory_plan.py``) realises by addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import tvm

from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import ConcatTask
from te_kernels.variant import Layouts, Reject, Variant

#: TVM's kernels are compiled for tensors aligned to this.
ALIGNMENT_BYTES = 64
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class ConcatInPlace(Variant):
    """No kernel. Knob: the layout."""

    name = "concat_in_place"
    family = "generic"
    title = "concatenation whose inputs are made inside of the result, no work"
    task_type = ConcatTask
    relative_error = 0.0
    needs_no_kernel = True

    layout: str

    @classmethod
    def candidates(cls, task: ConcatTask, machine: Machine) -> Iterator[Variant]:
        """One instance for each layout whose slices are aligned and contiguous."""
        if not task.owned:
            raise Reject("an input or the result is the caller's, a view, or part of another concatenation")
        if task.steps:
            raise Reject("it has an epilogue to compute")
        if task.n > 1:
            raise Reject("with a batch above 1 the channels of one input are not contiguous")
        found = [cls(name) for name in machine.layouts if name != "NHWC" and slices_aligned(task, Layout(name))]
        if not found:
            raise Reject(f"in no layout every input starts at a multiple of {ALIGNMENT_BYTES} bytes")
        yield from found

    def layouts(self, task: ConcatTask) -> Layouts:
        """The same layout everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def prim_func(self, task: ConcatTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """Raises: there is nothing to run."""
        raise NotImplementedError(f"{task} moves nothing in place: emit relax.op.concat instead of a kernel")


def slices_aligned(task: ConcatTask, layout: Layout) -> bool:
    """Whether every input's channels are whole blocks of the result that start at an aligned address."""
    starts = list(accumulate(task.channels))[:-1]
    if any(start % (layout.block or 1) for start in starts):
        return False
    return all(start * task.h * task.w * _FLOAT_BYTES % ALIGNMENT_BYTES == 0 for start in starts)
