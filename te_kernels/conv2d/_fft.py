"""What the FFT variants share: they differ only in the layouts they read and write.

Milliseconds, one thread of a Zen 5 core, AVX-512, blocked layout; each line measured in turns in one process, while
other work kept the machine busy (differences below 10 % are ties):

    layer (stride 1, "same")          direct  Winograd    FFT        n
    11x11   64x56x56  ->  64           13.7       -       0.89      24
    9x9     3x224x224 ->  32            3.6       -       1.73      24
    7x7     64x56x56  ->  64            5.2      2.2      0.54      20
    5x5     128x56x56 -> 128           10.4      2.1      1.7       18
    5x5     96x27x27  -> 256            4.0      1.08     1.08      12
    5x5     64x28x28  ->  96            1.01     0.24     0.21      18
    5x5     256x28x28 -> 256           11.2      2.2      2.7       10
    1x7     192x17x17 -> 192            0.69     0.33     0.26      24
    3x3     32x224x224 -> 32            4.1      1.96     1.80      16
    3x3     64x224x224 -> 64           15.7      6.6      6.1       16
    3x3     64x56x56  ->  64            0.98     0.32     0.32      16
    3x3     128x112x112 -> 128         15.6      5.0      5.3       16
    3x3     256x14x14 -> 256            0.97     0.29     0.58       8
    3x3     512x28x28 -> 512           16.2      4.6      6.6       10

The last two lines were measured before the blockings were chosen as they are now. Many channels or small maps make the
transformed weights (1.5 n^2 numbers for a kernel) the bottleneck: few tiles share them. The errors, 2e-7 to 6e-7, are
those of a direct convolution or smaller, and 20 to 60 times below Winograd's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._fft_transform import FftTransform
from te_kernels.conv2d._tile_transform import UNIT_ROUNDOFF
from te_kernels.conv2d._transformed_geometry import Geometry
from te_kernels.conv2d._transformed_model import best_blockings
from te_kernels.conv2d._transformed_variant import TransformedVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject

#: Sizes of transform: products of 2, 3 and 5, even, since odd ones have more complex frequencies.
_SIZES = (8, 10, 12, 16, 18, 20, 24, 32)
#: Elements of the smallest kernel worth it: 3x3 or 1x7.
_SMALLEST = 7


@dataclass(frozen=True)
class FftVariant(TransformedVariant):
    """Base of the FFT variants. Knobs: the blocking and ``m`` outputs a tile and axis."""

    family = "fft"

    m: int

    @classmethod
    def _blocked(cls, task: ConvTask, machine: Machine, data: str, out: str, count: int = 3) -> Iterator[FftVariant]:
        if task.r * task.s < _SMALLEST:
            raise Reject(f"the kernel is {task.r}x{task.s}; below 3x3 and 1x7 Winograd takes fewer operations")
        if task.stride != (1, 1):
            raise Reject(f"the stride is {task.stride}; all outputs would be computed and most thrown away")
        if task.dilation != (1, 1):
            raise Reject(f"the dilation is {task.dilation}; the tiles are dense")
        group_inputs, group_outputs = task.c // task.groups, task.k // task.groups
        lanes = machine.vector_lanes
        if task.groups > 1 and (group_inputs % lanes or group_outputs % lanes):
            raise Reject(f"groups of {group_inputs} and {group_outputs} channels are not whole vectors of {lanes}")
        longest = max(task.r, task.s)
        transforms = []
        for size in _SIZES:
            transform = FftTransform(size - longest + 1, task.r, task.s)
            if transform.m > 1 and all(side == 1 or side in _SIZES for side in transform.window):
                transforms.append(transform)
                if transform.m >= max(task.oh, task.ow):
                    break
        if not transforms:
            raise Reject(f"no transform size of {_SIZES} suits the kernel {task.r}x{task.s}")
        for chosen in best_blockings(task, machine, transforms, count, each=2):
            b = chosen.blocking
            yield cls(data, out, b.tile, b.vectors, b.lanes, b.block, b.chunk, chosen.transform.m)

    def geometry(self, task: ConvTask) -> Geometry:
        return Geometry(task, FftTransform(self.m, task.r, task.s), self._blocking)

    def error_bound(self, task: ConvTask) -> float:
        """Rounding errors of ``c`` additions and of the transforms, whose matrices are orthogonal: no amplification.

        Standard normal data stay below a half of it, at all sizes, kernels of 3x3 to 11x11 and 3 to 512 channels.
        """
        return UNIT_ROUNDOFF * (8.0 + (task.c // task.groups) ** 0.5)
