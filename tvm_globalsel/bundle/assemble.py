"""A solved plan as a list of kernel calls: what the deployed module does, put together without a compiler.

The kernels are those that were measured. Only TVM's virtual machine is missing, whose part is a quarter of a
microsecond a call; storage is reused once its last reader has run, as the planner does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

from te_kernels.generic.concat_in_place import ALIGNMENT_BYTES
from te_kernels.generic.view import row_major
from te_kernels.gpu import FLOAT32
from te_kernels.layout import Layout
from te_kernels.task import CastTask, OpaqueTask, Task, ViewTask
from te_kernels.variant import Variant
from tvm_globalsel.choices import Deferred, absorbed, task_of
from tvm_globalsel.graph import Network
from tvm_globalsel.selection import Selection

FunctionOf = Callable[[Task, Variant], Any]
Place = tuple[str, str]  # a value and the layout it is in


@dataclass(frozen=True)
class _Call:
    """One kernel; without: another shape for the same bytes, or with several ``reads`` a concatenation in place."""

    kernel: tuple[Task, Variant] | None
    reads: tuple[Place, ...]
    params: tuple[np.ndarray, ...]
    writes: Place
    shape: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...] = ()


class Assembled:
    """A network's plan on a device: set the inputs, ``run``, read the outputs."""

    def __init__(
        self, network: Network, selection: Selection, params: dict[str, list[np.ndarray]], function_of: FunctionOf,
        device: Any, dtype: str = "float32",
    ) -> None:  # fmt: skip
        self._network, self._device, self._dtypes = network, device, _dtypes(network, dtype)
        calls = _calls(network, selection, params)
        placed = self._place(calls)
        self._inputs = {v.name: placed[v.name, row_major(v.shape)] for v in network.inputs}
        shapes = network.shapes
        self._outputs = [placed[name, row_major(shapes[name])] for name in network.outputs]
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
            is_view = call.kernel is None and len(call.reads) == 1
            root[call.writes] = root.get(call.reads[0], call.reads[0]) if is_view else call.writes
        # what is made inside of a concatenation is the storage behind its inputs, whatever they are called there
        slices = {
            root.get(place, place): call
            for call in calls
            if call.kernel is None and len(call.reads) > 1
            for place in call.reads
        }
        shape_of = {call.writes: call.shape for call in calls}
        whole_of = {place: call.writes for place, call in slices.items()}
        root = {place: whole_of.get(behind, behind) for place, behind in root.items()}
        last: dict[Place, int] = {}
        for number, call in enumerate(calls):
            for place in call.reads:
                last[root.get(place, place)] = number
        shapes = self._network.shapes
        ends = [(name, row_major(shapes[name])) for name in self._network.outputs]
        forever = {root.get(place, place) for place in ends}
        placed = {
            (v.name, row_major(v.shape)): tvm.runtime.empty(v.shape, v.dtype, self._device)
            for v in self._network.inputs
        }
        free: dict[tuple[tuple[int, ...], str], list[Any]] = {}
        reshape = tvm.get_global_func("vm.builtin.reshape")
        for number, call in enumerate(calls):
            if call.kernel is None:
                if call.writes not in placed:
                    placed[call.writes] = reshape(placed[call.reads[0]], tvm.runtime.ShapeTuple(call.shape))
                continue
            if call.writes in slices:
                self._place_slices(slices[call.writes], list(slices), shape_of, placed)
            else:
                dtype = self._dtypes[call.writes[0]]
                stock = free.get((call.shape, dtype), [])
                placed[call.writes] = stock.pop() if stock else tvm.runtime.empty(call.shape, dtype, self._device)
            for place in {root.get(place, place) for place in call.reads}:
                if last[place] == number and place not in forever and place in root:  # inputs are the caller's
                    tensor = placed[place]
                    key = (tuple(int(size) for size in tensor.shape), self._dtypes[place[0]])
                    free.setdefault(key, []).append(tensor)
        return placed

    def _place_slices(
        self, concat: _Call, inside: list[Place], shape_of: dict[Place, tuple[int, ...]], placed: dict[Place, Any]
    ) -> None:
        """The result of a concatenation in place, and its inputs inside of it (on a CPU, for one sample).

        ``inside`` are the places behind the inputs of all concatenations, each in its own order.
        """
        if concat.writes in placed:
            return
        whole = _aligned(concat.shape, self._dtypes[concat.writes[0]])
        placed[concat.writes] = tvm.runtime.from_dlpack(whole)
        start = 0
        for (name, _), part in zip(concat.reads, concat.parts, strict=True):
            place = next(place for place in inside if place[0] == name)
            placed[place] = tvm.runtime.from_dlpack(whole[:, start : start + part[1]].reshape(shape_of[place]))
            start += part[1]

    def set_inputs(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy inputs onto the device."""
        for name, tensor in self._inputs.items():
            tensor.copyfrom(arrays[name])

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
        if isinstance(variant, Deferred):
            continue
        task, before = task_of(op, variant), absorbed(op, variant)
        layouts, names, given = variant.layouts(task), op.inputs, params[op.name]
        if before:
            names, given = (before.inputs[0], *names[1:]), [*params[before.name], *given]
        packed = tuple(_stored(task, p) for p in variant.pack(task, given))
        kernel = None if variant.needs_no_kernel else (task, variant)
        shape = Layout(layouts.output).physical_shape(task.output_shape)
        reads = tuple(zip(names, layouts.inputs, strict=True))
        parts = tuple(Layout(n).physical_shape(s) for n, s in zip(layouts.inputs, task.input_shapes, strict=True))
        calls.append(_Call(kernel, reads, packed, (op.name, layouts.output), shape, parts))
        transforms(op.name)
    return calls


def _dtypes(network: Network, inside: str) -> dict[str, str]:
    """Type of every value, where float32 values of the network are of type ``inside``."""
    types = {value.name: value.dtype for value in network.inputs}
    for op in network.operators:
        task = op.task
        if isinstance(task, CastTask):
            types[op.name] = task.dtype
        elif isinstance(task, ViewTask):
            types[op.name] = types[op.inputs[0]]
        else:
            foreign = isinstance(task, OpaqueTask) and task.out_dtype != FLOAT32
            types[op.name] = str(vars(task)["out_dtype"]) if foreign else inside
    return types


def _stored(task: Task, array: np.ndarray) -> np.ndarray:
    """A packed parameter as the kernel reads it: float32 unless it is half, or of an operator of TVM's own."""
    kept = isinstance(task, OpaqueTask) or array.dtype == np.float16
    return np.array(array, array.dtype if kept else np.float32, order="C")


def _aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array that starts where kernels may assume that tensors start."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[start : start + size].view(dtype).reshape(shape)
