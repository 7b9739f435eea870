"""A solved plan as a list of kernel calls: what the deployed module does, put together without a compiler.

The kernels are those that were measured. Only TVM's virtual machine is missing, whose part is a quarter of a
microsecond a call; storage is reused once its last reader has run, as the planner does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

from te_kernels.layout import Layout
from te_kernels.task import Task, ViewTask
from te_kernels.variant import Variant
from tvm_globalsel.candidates import plain_layout
from tvm_globalsel.graph import Network
from tvm_globalsel.selection import Selection

FunctionOf = Callable[[Task, Variant], Any]
Place = tuple[str, str]  # a value and the layout it is in


@dataclass(frozen=True)
class _Call:
    """One kernel, or with ``kernel`` None another shape for the same bytes."""

    kernel: tuple[Task, Variant] | None
    reads: tuple[Place, ...]
    params: tuple[np.ndarray, ...]
    writes: Place
    shape: tuple[int, ...]


class Assembled:
    """A network's plan on a device: set the inputs, ``run``, read the outputs."""

    def __init__(
        self, network: Network, selection: Selection, params: dict[str, list[np.ndarray]], function_of: FunctionOf,
        device: Any, dtype: str = "float32",
    ) -> None:  # fmt: skip
        self._network, self._device, self._dtype = network, device, dtype
        self._keep: list[Any] = []
        calls = _calls(network, selection, params)
        placed = self._place(calls)
        self._inputs = {v.name: placed[v.name, plain_layout(v.shape)] for v in network.inputs}
        shapes = network.shapes
        self._outputs = [placed[name, plain_layout(shapes[name])] for name in network.outputs]
        self._steps = []
        for call in calls:
            if call.kernel is not None:
                constants = [tvm.runtime.tensor(array, device) for array in call.params]
                args = [*(placed[place] for place in call.reads), *constants, placed[call.writes]]
                self._steps.append((function_of(*call.kernel), args))
        self.kernels = len(self._steps)

    def _place(self, calls: list[_Call]) -> dict[Place, Any]:
        """Storage of every tensor; one is given on, to the next of its shape, once its last reader has run."""
        root: dict[Place, Place] = {}
        for call in calls:
            root[call.writes] = root.get(call.reads[0], call.reads[0]) if call.kernel is None else call.writes
        last: dict[Place, int] = {}
        for number, call in enumerate(calls):
            for place in call.reads:
                last[root.get(place, place)] = number
        shapes = self._network.shapes
        ends = [(name, plain_layout(shapes[name])) for name in self._network.outputs]
        forever = {root.get(place, place) for place in ends}
        placed = {
            (v.name, plain_layout(v.shape)): tvm.runtime.empty(v.shape, self._dtype, self._device)
            for v in self._network.inputs
        }
        free: dict[tuple[int, ...], list[Any]] = {}
        reshape = tvm.get_global_func("vm.builtin.reshape")
        for number, call in enumerate(calls):
            if call.kernel is None:
                placed[call.writes] = reshape(placed[call.reads[0]], tvm.runtime.ShapeTuple(call.shape))
                continue
            stock = free.get(call.shape, [])
            placed[call.writes] = stock.pop() if stock else tvm.runtime.empty(call.shape, self._dtype, self._device)
            for place in {root.get(place, place) for place in call.reads}:
                if last[place] == number and place not in forever and place in root:  # inputs are the caller's
                    tensor = placed[place]
                    free.setdefault(tuple(int(size) for size in tensor.shape), []).append(tensor)
        return placed

    def set_inputs(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy inputs onto the device."""
        for name, tensor in self._inputs.items():
            tensor.copyfrom(arrays[name].astype(self._dtype))

    def run(self) -> None:
        """Start all kernels; on a GPU they are still running when this returns."""
        for function, args in self._steps:
            function(*args)

    def outputs(self) -> list[np.ndarray]:
        """Outputs of the last run, in float64."""
        self._device.sync()
        return [tensor.numpy().astype(np.float64) for tensor in self._outputs]


def _calls(network: Network, selection: Selection, params: dict[str, list[np.ndarray]]) -> list[_Call]:
    """Operators in order, each followed by the transforms of its result."""
    calls: list[_Call] = []

    def transforms(value: str) -> None:
        for transform in selection.transforms:
            if transform.value == value:
                task = transform.task
                kernel = None if transform.variant is None else (task, transform.variant)
                shape = Layout(task.destination).physical_shape(task.shape)
                calls.append(_Call(kernel, ((value, task.source),), (), (value, task.destination), shape))

    for value in network.inputs:
        transforms(value.name)
    for op in network.operators:
        variant = selection.variants[op.name].variant
        layouts = variant.layouts(op.task)
        packed = tuple(np.array(p, order="C") for p in variant.pack(op.task, params[op.name]))
        kernel = None if isinstance(op.task, ViewTask) else (op.task, variant)
        shape = Layout(layouts.output).physical_shape(op.task.output_shape)
        reads = tuple(zip(op.inputs, layouts.inputs, strict=True))
        calls.append(_Call(kernel, reads, packed, (op.name, layouts.output), shape))
        transforms(op.name)
    return calls
