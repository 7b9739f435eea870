"""Layout transforms, a thread for each run of stored elements.

Where the destination is blocked a thread collects one block from as many planes and stores it at once; the loads of
neighbouring threads are neighbours. Transposes of long rows are better through shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from te_kernels.cuda import _flat
from te_kernels.cuda._base import Arguments, GpuVariant, element_bytes, streaming_s
from te_kernels.cuda._generic import vector_of
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.task import TransformTask
from te_kernels.variant import Layouts, Reject

#: How much slower than a copy: half of every memory sector is used.
_SCATTERED = 3.0


@dataclass(frozen=True)
class CudaTransform(GpuVariant):
    """Any pair of layouts. No knobs."""

    name = "cuda_transform"
    family = "transform"
    title = "layout transform, element by element"
    task_type = TransformTask
    relative_error = 0.0

    @classmethod
    def candidates(cls, task: TransformTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The one instance."""
        for layout in (task.source, task.destination):
            reason = Layout(layout).reason_cannot_hold(task.shape)
            if reason:
                raise Reject(reason)
        yield cls()

    def layouts(self, task: TransformTask) -> Layouts:
        """The task's own."""
        return Layouts((task.source,), task.destination)

    def prim_func(self, task: TransformTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """Gather by the destination's elements."""
        channels = task.shape[1]
        block = Layout(task.destination).block
        vector = 1
        if block or (Layout(task.source).block and task.destination == "NHWC"):
            vector = vector_of(task.destination, task.shape)

        def value(args: Arguments, n: Any, c: Any, h: Any, w: Any) -> Any:
            if not block or channels % block == 0:
                return args.read(0, n, c, h, w)
            inside = args.read(0, n, tirx.min(c, channels - 1), h, w)
            return tirx.if_then_else(c < channels, inside, tirx.const(0.0, "float32"))

        return _flat.prim_func(task, self.layouts(task), machine, value, vector)

    def model_s(self, task: TransformTask, machine: Gpu) -> float:
        """Read and written once, one side in pieces."""
        return streaming_s(_SCATTERED * task.bytes_moved // 4 * element_bytes(machine), machine)
