"""What the Winograd variants share: they differ only in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._tile_transform import UNIT_ROUNDOFF
from te_kernels.conv2d._transformed_geometry import Geometry
from te_kernels.conv2d._transformed_variant import TransformedVariant
from te_kernels.conv2d._winograd_model import promising_blockings, saves
from te_kernels.conv2d._winograd_transform import WinogradTransform
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class WinogradVariant(TransformedVariant):
    """Base of the Winograd variants. Knobs: the blocking, ``m`` and ``n`` of F(m x n, r x s)."""

    family = "winograd"

    m: int
    n: int

    @classmethod
    def _blocked(cls, task: ConvTask, machine: Machine, data: str, out: str) -> Iterator[WinogradVariant]:
        if task.dilation != (1, 1):
            raise Reject(f"the dilation is {task.dilation}; the tiles are dense")
        if not saves(task):
            raise Reject(
                f"the kernel is {task.r}x{task.s} with stride {task.stride}; minimal filtering pays for sides of 1, 3, "
                "4, 5 and 7, with a stride of 2 of 3 to 8"
            )
        group_inputs, group_outputs = task.c // task.groups, task.k // task.groups
        lanes = machine.vector_lanes
        if group_inputs < lanes // 2:
            raise Reject(f"{group_inputs} input channels (of a group) fill less than half a vector of {lanes}")
        if task.groups > 1 and (group_inputs % lanes or group_outputs % lanes):
            raise Reject(f"groups of {group_inputs} and {group_outputs} channels are not whole vectors of {lanes}")
        for transform, b in promising_blockings(task, machine):
            yield cls(data, out, b.tile, b.vectors, b.lanes, b.block, b.chunk, transform.m, transform.n)

    def geometry(self, task: ConvTask) -> Geometry:
        return Geometry(task, self._transform(task), self._blocking)

    def _transform(self, task: ConvTask) -> WinogradTransform:
        return WinogradTransform(self.m, self.n, task.r, task.s, task.stride)

    def error_bound(self, task: ConvTask) -> float:
        """Rounding errors of ``c`` additions and the transforms, amplified as the matrices do; and of the epilogue.

        Standard normal data stay below a half of it: F(2,3) to F(7,3), F(2,5) to F(5,5), F(2,7), F(3,7), one- and
        two-dimensional, at 64 and 512 channels; with a stride of 2 as well.
        """
        transform = self._transform(task)
        amplified = transform.rows.amplification * transform.columns.amplification
        return UNIT_ROUNDOFF * (amplified * (3.0 + (task.c // task.groups) ** 0.5) + 8.0)
