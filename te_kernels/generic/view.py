"""Views: a reshape of row-major data moves nothing, so there is no kernel; selection gives it time zero.

The rewriter turns the choice into ``relax.op.reshape``; asking for a kernel is a mistake and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tvm

from te_kernels.machine import Machine
from te_kernels.task import ViewTask
from te_kernels.variant import Layouts, Variant


def row_major(shape: tuple[int, ...]) -> str:
    """The name of the row-major layout of a tensor of this shape."""
    return "NCHW" if len(shape) == 4 else "plain"


@dataclass(frozen=True)
class View(Variant):
    """Row-major in and out. No knobs."""

    name = "view"
    family = "generic"
    title = "reshape of row-major data, no work"
    task_type = ViewTask
    relative_error = 0.0
    needs_no_kernel = True

    @classmethod
    def candidates(cls, task: ViewTask, machine: Machine) -> Iterator[Variant]:
        """The one instance."""
        yield cls()

    def layouts(self, task: ViewTask) -> Layouts:
        """Row-major."""
        return Layouts((row_major(task.from_shape),), row_major(task.to_shape))

    def prim_func(self, task: ViewTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """Raises: there is nothing to run."""
        raise NotImplementedError(f"{task} is a reshape of the same bytes: emit relax.op.reshape instead of a kernel")
