"""kn2row: r*s shifted 1x1 products added up, NCHW; the algorithm is in ``_width_vector``.

The accumulating form: no r*s-fold buffer, only the totals of one block of rows. Stride 1 only, since a strided 1x1
product would compute what is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._nchw import NCHWVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class Kn2row(NCHWVariant):
    """NCHW -> NCHW, stride 1."""

    name = "kn2row"
    family = "kn2"
    title = "kn2row, NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[NCHWVariant]:
        """Best register tile."""
        if task.depthwise:
            raise Reject("depthwise: the 1x1 products would have a reduction of one channel")
        if task.r * task.s == 1:
            raise Reject("window 1x1: a single product is the gemm or direct variant")
        if task.stride != (1, 1):
            raise Reject(f"stride {task.stride}: shifted products need stride 1")
        return cls._best(task, machine, "shifted", 1, kn2=True)
