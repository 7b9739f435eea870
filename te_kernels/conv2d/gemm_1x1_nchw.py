"""1x1 convolution in NCHW as the matrix product W[k, c] x X[c, h*w]; the algorithm is in ``_width_vector``.

Where the register tiles divide the map the input is read and the output written in place; a map like 7x7, that fills
no whole vectors, is copied into padded lines first, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._nchw import NCHWVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class Gemm1x1NCHW(NCHWVariant):
    """NCHW -> NCHW, pointwise only."""

    name = "gemm_1x1_nchw"
    family = "gemm"
    title = "1x1 as a matrix product, NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[NCHWVariant]:
        """In place where the map divides, else (or as well) from a padded copy."""
        if not task.pointwise:
            raise Reject(f"not pointwise: window {task.r}x{task.s}, stride {task.stride}, padding {task.pad}")
        found = [*cls._best(task, machine, "none", 1), *cls._best(task, machine, "columns", 1)]
        yield from found
