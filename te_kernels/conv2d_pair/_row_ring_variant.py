"""What the variants by rows (``_row_ring``) share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import tvm

from te_kernels.conv2d_pair import _row_ring as algorithm
from te_kernels.conv2d_pair import _row_ring_model as model
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.machine import Machine
from te_kernels.task import PairTask
from te_kernels.variant import Layouts, Reject, Variant, pad_channels

#: Elements of the largest window that is written out: 5x5.
_UNROLLED_WINDOW = 25


@dataclass(frozen=True)
class RowRingVariant(Variant):
    """Base. Knobs: layouts; ``pixels`` x ``vectors`` register tile of the first, ``columns`` of the second; bands."""

    family = "fused"
    task_type = PairTask
    relative_error = 3e-5
    rows: ClassVar[type[algorithm.Rows]]
    windows: ClassVar[type[algorithm.Windows]]

    data: str
    out: str
    pixels: int
    vectors: int
    columns: int
    lanes: int
    bands: int

    @classmethod
    def _tiled(cls, task: PairTask, machine: Machine, data: str, out: str) -> Iterator[Self]:
        """The best register tiles."""
        two, lanes = task.second, machine.vector_lanes
        cls.rows.check(task.first)
        cls.windows.check(two)
        if two.r * two.s > _UNROLLED_WINDOW:
            raise Reject(f"a window of {two.r}x{two.s} is too large to be unrolled")
        if out == "NHWC" and two.c % lanes:
            raise Reject(f"{two.c} channels are no whole vectors")
        for pixels, vectors in model.best_tiles(task, machine, cls.rows.ring_bytes(machine)):
            yield cls(data, out, pixels, vectors, model.columns(two), lanes, model.bands(two, machine, vectors))

    def layouts(self, task: PairTask) -> Layouts:
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: PairTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights as rows and windows want them, each before the constants of its epilogue."""
        g, (first, second) = self.geometry(task), task.split(params)
        packed = [self.rows.pack(g, first[0]), *pad_channels(first[1:], g.channels)]
        return packed + ([self.windows.pack(g, second[0]), *pad_channels(second[1:], g.channels)] if second else [])

    def prim_func(self, task: PairTask, machine: Machine) -> tvm.tirx.PrimFunc:
        return algorithm.prim_func(self.geometry(task), self.layouts(task), machine, self.rows, self.windows)

    def workspace_bytes(self, task: PairTask, threads: int = 1) -> int:
        g = self.geometry(task)
        return 4 * (g.ring_floats + self.rows.workspace_floats(g)) * threads

    def arithmetic(self, task: PairTask) -> int:
        return task.flops

    def geometry(self, task: PairTask) -> Geometry:
        """Loop bounds of the task with these knobs."""
        return Geometry(task, self.pixels, self.vectors, self.columns, self.lanes, self.bands)
