"""What the Strassen variants share: they differ only in the layouts they read and write.

Effective GFLOP/s (of the direct algorithm), one thread of a Zen 5 core whose FMA probe gives 252; all in turns in one
process, NHWC, weights in cache, best blocking of each:

    layer                       direct  1 level  2 levels
    1x1 s2   512x28x28 -> 1024     234      249       263
    1x1 s2   256x56x56 ->  512     236      244       264
    1x1     1024x14x14 ->  256     236      249       254
    1x1      256x14x14 -> 1024     237      236       245
    1x1      512x28x28 ->  128     234      237       240
    1x1       64x56x56 ->  256     234      216       205
    3x3 s2   128x56x56 ->  128     230      243       256
    3x3 s2   256x28x28 ->  256     235      258       266

Few channels on either side leave the additions too little to save. Errors are two and four times those of a direct
convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from te_kernels.conv2d import _strassen_model as model
from te_kernels.conv2d import _strassen_tiles, _transformed_kernel
from te_kernels.conv2d._strassen_geometry import StrassenGeometry
from te_kernels.conv2d._strassen_transform import StrassenTransform
from te_kernels.conv2d._tile_transform import UNIT_ROUNDOFF
from te_kernels.conv2d._transformed_variant import TransformedVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class StrassenVariant(TransformedVariant):
    """Base of the Strassen variants. Knobs: the blocking and ``levels`` of halving."""

    family = "strassen"
    tiles: ClassVar = _transformed_kernel.Tiles(_strassen_tiles.InputTiles, _strassen_tiles.OutputTiles)

    levels: int

    @classmethod
    def _blocked(
        cls, task: ConvTask, machine: Machine, data: str, out: str, count: int = 2
    ) -> Iterator[StrassenVariant]:
        if task.groups > 1:
            raise Reject(f"{task.groups} groups: the products of each are small")
        if model.minimal_filtering_saves_more(task):
            raise Reject("stride 1: minimal filtering saves more")
        if task.n * task.oh * task.ow == 1:
            raise Reject("a single position has no halves")
        if task.c % (2 * machine.vector_lanes) or task.k % (2 * machine.vector_lanes):
            raise Reject(f"halves of {task.c} or {task.k} channels are no whole vectors of {machine.vector_lanes}")
        chosen_blockings = model.promising_blockings(task, machine, count)
        if not chosen_blockings:
            raise Reject("too small: by the model the additions take longer than the multiplications that they save")
        for chosen in chosen_blockings:
            b = chosen.blocking
            yield cls(data, out, b.tile, b.vectors, b.lanes, b.block, b.chunk, chosen.transform.levels)

    def geometry(self, task: ConvTask) -> StrassenGeometry:
        return StrassenGeometry(task, StrassenTransform(self.levels), self._blocking)

    def error_bound(self, task: ConvTask) -> float:
        """Rounding errors of the additions, which each level about doubles (seen); in the worst case far more."""
        return UNIT_ROUNDOFF * 2.0**self.levels * (8.0 + (task.c * task.r * task.s) ** 0.5)
