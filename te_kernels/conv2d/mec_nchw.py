"""MEC, memory-efficient convolution, NCHW; the algorithm is in ``_width_vector`` with its ``strips`` source.

Each input row is spelt out once for every column of the window; the rows of the window are the same lines, moved by
whole rows: the buffer is ``s`` times as large as the input, im2col's r*s times (Cho and Brand, ICML 2017).
GFLOP/s beside im2col and direct in NCHW, one thread of a Zen 5 core, each line measured in turns in one process: 3x3
128x28x28 192, 179, 215; 3x3 512x7x7 160, 159, 164; 3x3 stride 2 128x56x56 177, 167, 204; 5x5 96x27x27 -> 256 199, 221,
203; 7x7 stride 2 3x224x224 -> 64 167, 133, 206; 11x11 stride 4 3x227x227 -> 96 212, 128, 223.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._nchw import NCHWVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class MecNCHW(NCHWVariant):
    """NCHW -> NCHW through the compact matrix."""

    name = "mec_nchw"
    family = "im2"
    title = "MEC (lowered along the width) + GEMM, NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[NCHWVariant]:
        """Best register tiles."""
        if task.depthwise:
            raise Reject("depthwise: every line would be used for one output channel only")
        if task.r == 1 or task.s == 1:
            raise Reject(f"{task.r}x{task.s}: windows overlap along one axis only, im2col is the same or no larger")
        return cls._best(task, machine, "strips")
