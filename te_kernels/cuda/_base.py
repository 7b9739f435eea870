"""What all CUDA variants share: the kind they serve, and a cost model good enough to rank and to stand in.

The model is a roofline with launches, occupancy and quantisation. Candidates are chosen by it, and a compilation
without measurements (``--budget 0``) uses it for want of better; nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.task import Task
from te_kernels.variant import Layouts, Variant, pad_channels

#: Seconds between two kernels of a captured graph, and what a kernel needs to start and to drain.
LAUNCH_S = 2.5e-6
#: Part of the memory bandwidth that plain copies reach.
STREAMING = 0.85


@dataclass(frozen=True)
class GpuVariant(Variant):
    """Base of the CUDA variants."""

    kinds: ClassVar[tuple[str, ...]] = ("cuda",)

    def model_s(self, task: Any, machine: Gpu) -> float:
        """Modelled seconds of one call. Default: bytes over bandwidth, and a launch."""
        return streaming_s(task.bytes_moved // 4 * element_bytes(machine), machine)


def element_bytes(machine: Gpu) -> int:
    """Bytes of one activation or weight."""
    return np.dtype(machine.dtype).itemsize


def streaming_s(size_bytes: float, machine: Gpu, launches: int = 1) -> float:
    """Seconds to stream so many bytes: what fits in L2 was just written there, and L2 is about twice as fast."""
    rate = machine.memory_bytes_per_s * (2.0 if size_bytes <= machine.l2_bytes // 2 else 1.0)
    return LAUNCH_S * launches + size_bytes / (rate * STREAMING)


def padded_channels(layout: str, channels: int) -> int:
    """Channels that are stored, padding lanes included."""
    block = Layout(layout).block
    return -(-channels // block) * block if block else channels


def packed_constants(layout: str, constants: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Per-channel constants in float32, zero-padded to the stored channels of ``layout``."""
    return pad_channels(list(constants), padded_channels(layout, len(constants[0]))) if constants else []


class Arguments:
    """The arguments of a kernel in the order that every variant keeps: data, epilogue tensors, parameters, output.

    Elements are read as float32 whatever they are stored as, and converted when they are stored.
    """

    def __init__(
        self, task: Task, layouts: Layouts, dtype: str, params: Sequence[tuple[tuple[int, ...], str]] = (),
        constants: int | None = None,
    ) -> None:  # fmt: skip
        """Declare them in the current builder. ``params`` are (shape, dtype) of what precedes the constants."""
        self.task, self.layouts, self.dtype = task, layouts, dtype
        inputs = [Layout(n).physical_shape(s) for n, s in zip(layouts.inputs, task.input_shapes, strict=True)]
        count = len(inputs) - ep.tensor_count(task.steps)
        out_layout = Layout(layouts.output)
        length = constants or (padded_channels(layouts.output, task.output_shape[1]) if task.steps else 0)
        self.data = [T.arg(f"data{i}", T.buffer(shape, dtype)) for i, shape in enumerate(inputs[:count])]
        self.tensors = [T.arg(f"tensor{i}", T.buffer(shape, dtype)) for i, shape in enumerate(inputs[count:])]
        self.params = [T.arg(f"param{i}", T.buffer(shape, kind)) for i, (shape, kind) in enumerate(params)]
        self.constants = [
            T.arg(f"channel{i}", T.buffer((length,), "float32")) for i in range(ep.channel_count(task.steps))
        ]
        self.out = T.arg("out", T.buffer(out_layout.physical_shape(task.output_shape), dtype))

    def element(self, which: int, *index: Any) -> Any:
        """Element of a data input at a logical index, as it is stored."""
        return self.data[which][Layout(self.layouts.inputs[which]).physical_index(*index)]

    def read(self, which: int, *index: Any) -> Any:
        """Element of a data input at a logical index, in float32."""
        return as_float32(self.element(which, *index), self.dtype)

    def store(self, value: Any, *index: Any) -> None:
        """Emit the store of a float32 ``value`` at a logical index of the output, after the epilogue."""
        layout = Layout(self.layouts.output)
        where = layout.physical_index(*index)
        readers = [lambda c, t=t: t[c] for t in self.constants]
        tensors = [lambda *i, t=t: as_float32(t[layout.physical_index(*i)], self.dtype) for t in self.tensors]
        finished = ep.apply(value, self.task.steps, readers, tensors, tuple(index))
        T.buffer_store(self.out, finished if self.dtype == "float32" else finished.astype(self.dtype), list(where))


def as_float32(value: Any, dtype: str) -> Any:
    """A stored element as float32."""
    return value if dtype == "float32" else value.astype("float32")


def ceil_div(a: int, b: int) -> int:
    """Quotient, rounded up."""
    return -(-a // b)
