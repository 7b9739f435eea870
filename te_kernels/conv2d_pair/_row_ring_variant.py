"""What the variants by rows (``_row_ring``) share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from te_kernels.conv2d_pair import _row_ring_model as model
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.machine import Machine
from te_kernels.task import PairTask
from te_kernels.variant import Layouts, Reject, Variant


@dataclass(frozen=True)
class RowRingVariant(Variant):
    """Base. Knobs: layouts; ``pixels`` x ``vectors`` register tile of the first, ``columns`` of the second; bands."""

    family = "fused"
    task_type = PairTask
    relative_error = 3e-5

    data: str
    out: str
    pixels: int
    vectors: int
    columns: int
    lanes: int
    bands: int

    @classmethod
    def _best(cls, task: PairTask, machine: Machine, data: str, out: str, ring_bytes: float) -> Iterator[Self]:
        """The best register tiles; a ring of several vectors has at most ``ring_bytes``."""
        two, lanes = task.second, machine.vector_lanes
        if out == "NHWC" and two.c % lanes:
            raise Reject(f"{two.c} channels are no whole vectors")
        for pixels, vectors in model.best_tiles(task, machine, ring_bytes):
            yield cls(data, out, pixels, vectors, model.columns(two), lanes, model.bands(two, machine, vectors))

    def layouts(self, task: PairTask) -> Layouts:
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def workspace_bytes(self, task: PairTask, threads: int = 1) -> int:
        return 4 * self.geometry(task).ring_floats * threads

    def arithmetic(self, task: PairTask) -> int:
        return task.flops

    def geometry(self, task: PairTask) -> Geometry:
        """Loop bounds of the task with these knobs."""
        return Geometry(task, self.pixels, self.vectors, self.columns, self.lanes, self.bands)
