"""What the Winograd variants share: they differ only in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._tile_transform import UNIT_ROUNDOFF
from te_kernels.conv2d._transformed_geometry import Geometry
from te_kernels.conv2d._transformed_model import best_blockings
from te_kernels.conv2d._transformed_variant import TransformedVariant
from te_kernels.conv2d._winograd_transform import WinogradTransform
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject

#: Outputs a tile worth trying, by the longer side of the kernel. Beyond them the error in float32 explodes: 1e-4 of the
#: largest output for F(7,3), 2e-4 for F(8,3), with the best points known, and 2e-4 for F(3,7) in two dimensions.
_OUTPUTS = {1: (), 3: (2, 3, 4, 5, 6), 5: (2, 3, 4), 7: (2, 3)}
_OUTPUTS_7_BOTH_WAYS = (2,)


@dataclass(frozen=True)
class WinogradVariant(TransformedVariant):
    """Base of the Winograd variants. Knobs: the blocking and ``m`` of F(m x m, r x s)."""

    family = "winograd"

    m: int

    @classmethod
    def _blocked(
        cls, task: ConvTask, machine: Machine, data: str, out: str, count: int = 2
    ) -> Iterator[WinogradVariant]:
        if task.r not in _OUTPUTS or task.s not in _OUTPUTS or task.r * task.s == 1:
            raise Reject(f"the kernel is {task.r}x{task.s}; minimal filtering pays for sides of 1, 3, 5 and 7")
        if task.stride != (1, 1):
            raise Reject(f"the stride is {task.stride}; minimal filtering needs 1")
        if task.dilation != (1, 1):
            raise Reject(f"the dilation is {task.dilation}; the tiles are dense")
        group_inputs, group_outputs = task.c // task.groups, task.k // task.groups
        lanes = machine.vector_lanes
        if group_inputs < lanes // 2:
            raise Reject(f"{group_inputs} input channels (of a group) fill less than half a vector of {lanes}")
        if task.groups > 1 and (group_inputs % lanes or group_outputs % lanes):
            raise Reject(f"groups of {group_inputs} and {group_outputs} channels are not whole vectors of {lanes}")
        sizes = _OUTPUTS[max(task.r, task.s)]
        if max(task.r, task.s) == 7 and min(task.r, task.s) > 1:
            sizes = _OUTPUTS_7_BOTH_WAYS
        sizes = tuple(m for m in sizes if m <= max(task.oh, task.ow) + 1)
        transforms = [WinogradTransform(m, task.r, task.s) for m in sizes]
        for chosen in best_blockings(task, machine, transforms, count, smallest_chunks=True):
            b = chosen.blocking
            yield cls(data, out, b.tile, b.vectors, b.lanes, b.block, b.chunk, chosen.transform.m)

    def _geometry(self, task: ConvTask) -> Geometry:
        return Geometry(task, WinogradTransform(self.m, task.r, task.s), self._blocking)

    def error_bound(self, task: ConvTask) -> float:
        """Rounding errors of ``c`` additions and the transforms, amplified as the matrices do; and of the epilogue.

        Standard normal data stay below a half of it: F(2,3) to F(6,3), F(2,5) to F(4,5), F(2,7), F(3,7), one- and
        two-dimensional, at 64 and 512 channels.
        """
        transform = WinogradTransform(self.m, task.r, task.s)
        amplified = transform.rows.amplification * transform.columns.amplification
        return UNIT_ROUNDOFF * (amplified * (3.0 + (task.c // task.groups) ** 0.5) + 8.0)
