"""kn2col: r*s shifted 1x1 products added up, NHWC; the algorithm is in ``_gemm``.

The accumulating form: no r*s-fold buffer, only the totals of one block of rows. Stride 1 only, since a strided 1x1
product would compute what is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._channel_gemm import ChannelGemmVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class Kn2col(ChannelGemmVariant):
    """NHWC -> NHWC, stride 1."""

    name = "kn2col"
    family = "kn2"
    title = "kn2col, NHWC"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[ChannelGemmVariant]:
        """Best register tile."""
        if task.depthwise:
            raise Reject("depthwise: the 1x1 products would have a reduction of one channel")
        if task.r * task.s == 1:
            raise Reject("window 1x1: a single product is the gemm or direct variant")
        if task.stride != (1, 1):
            raise Reject(f"stride {task.stride}: shifted products need stride 1")
        found = list(cls._form(task, machine, "NHWC", "kn2"))
        # a broadcast serves more than one product where the tile has several vectors of channels
        yield next((variant for variant in found if variant.vectors > 1), found[0])
