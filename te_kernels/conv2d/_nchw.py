"""What the NCHW variants with vectors of output positions share: they differ in what they read from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.conv2d import _width_vector as algorithm
from te_kernels.conv2d._width_model import best
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Variant


@dataclass(frozen=True)
class NCHWVariant(Variant):
    """Base of the NCHW -> NCHW variants. Knobs: source, block of rows and register tile (see ``_width_vector``)."""

    task_type = ConvTask
    relative_error = 2e-5

    source: str
    rows: int
    channels: int
    vectors: int
    lanes: int
    kn2: bool

    @classmethod
    def _best(
        cls, task: ConvTask, machine: Machine, source: str, count: int = 2, kn2: bool = False
    ) -> Iterator[NCHWVariant]:
        for g in best(task, machine, source, count, kn2):
            yield cls(g.source, g.rows, g.channels, g.vectors, g.lanes, g.kn2)

    def _geometry(self, task: ConvTask) -> algorithm.Geometry:
        return algorithm.Geometry(task, self.source, self.rows, self.channels, self.vectors, self.lanes, self.kn2)

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts(("NCHW",) * len(task.input_shapes), "NCHW")

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        return algorithm.pack(self._geometry(task), params)

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        return algorithm.prim_func(self._geometry(task), machine)

    def workspace_bytes(self, task: ConvTask, threads: int = 1) -> int:
        return threads * algorithm.workspace_bytes(self._geometry(task))
