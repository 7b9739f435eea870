"""What the Winograd variants of first layers share: minimal filtering over the phases of few input channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from te_kernels.conv2d import _transformed_kernel as kernel
from te_kernels.conv2d._phases import Phases
from te_kernels.conv2d._transformed_geometry import Geometry
from te_kernels.conv2d._winograd import WinogradVariant
from te_kernels.conv2d._winograd_model import promising_blockings, saves
from te_kernels.conv2d._winograd_transform import WinogradTransform
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject

#: More input channels are themselves what a vector holds.
MOST_CHANNELS = 4


@dataclass(frozen=True)
class WinogradPhasesVariant(WinogradVariant):
    """Base of the variants that read NCHW. Knobs: the blocking, ``m`` and ``n`` of the filtering over the phases."""

    @classmethod
    def _of_phases(cls, task: ConvTask, machine: Machine, out: str) -> Iterator[WinogradVariant]:
        if task.groups > 1 or task.dilation != (1, 1):
            raise Reject(f"{task.groups} groups and the dilation {task.dilation}: for plain convolutions only")
        if task.c > MOST_CHANNELS:
            raise Reject(f"{task.c} input channels; the other Winograd variants take more than {MOST_CHANNELS}")
        unstrided = Phases(task, machine.vector_lanes).unstrided
        if not saves(unstrided):
            sides = f"{unstrided.r}x{unstrided.s}"
            raise Reject(f"the kernel's phases are {sides}; minimal filtering pays for sides of 1, 3, 4, 5 and 7")
        for transform, b in promising_blockings(unstrided, machine):
            yield cls("NCHW", out, b.tile, b.vectors, b.lanes, b.block, b.chunk, transform.m, transform.n)

    def _phases(self, task: ConvTask) -> Phases:
        return Phases(task, self.lanes)

    def geometry(self, task: ConvTask) -> Geometry:
        unstrided = self._phases(task).unstrided
        return Geometry(unstrided, self._transform(task), self._blocking)

    def _transform(self, task: ConvTask) -> WinogradTransform:
        unstrided = self._phases(task).unstrided
        return WinogradTransform(self.m, self.n, unstrided.r, unstrided.s)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        return super().pack(task, [self._phases(task).kernel(params[0]), *params[1:]])

    def tiled(self, task: ConvTask) -> tuple[Layouts, kernel.Tiles]:
        outer = self.layouts(task)
        inner = Layouts((f"NCHW{self.lanes}c", *outer.inputs[1:]), outer.output)
        return inner, kernel.Tiles(source=self._phases(task))

    def error_bound(self, task: ConvTask) -> float:
        return super().error_bound(self._phases(task).unstrided)

    def workspace_bytes(self, task: ConvTask, threads: int = 1) -> int:
        return super().workspace_bytes(task, threads) + 4 * self._phases(task).workspace_floats
