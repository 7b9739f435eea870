"""The selected network as Relax: one ``call_tir`` an operator, ``layout_transform`` only where the solution asks.

After :func:`rewrite` the transforms are plain ``relax.op.layout_transform`` (with a ``strided_slice`` where padding is
cropped), so the module stands by itself; :func:`lower_transforms` replaces them by the measured transform kernels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.tirx import IndexMap

from te_kernels.generic.concat_in_place import ConcatInPlace
from te_kernels.generic.view import row_major
from te_kernels.gpu import FLOAT32, Gpu, dtype_of
from te_kernels.layout import Layout, same_bytes
from te_kernels.machine import Machine
from te_kernels.task import CastTask, OpaqueTask, Task, TransformTask, ViewTask
from te_kernels.variant import Variant
from tvm_globalsel.choices import Deferred, layouts_of, task_of
from tvm_globalsel.graph import Network, Operator
from tvm_globalsel.packing import pack_all
from tvm_globalsel.selection import Selection
from tvm_globalsel.workspace import hoisted

#: FuseOps must leave scheduled kernels alone: 8 is "opaque" in TVM's operator patterns.
_OPAQUE_PATTERN = 8
#: Attribute of a kernel: which task it does by which variant.
_IDENTITY = "globalsel.kernel"


def rewrite(network: Network, selection: Selection, machine: Machine | Gpu) -> tvm.IRModule:
    """Relax module of the selected plan, transforms visible."""
    builder = relax.BlockBuilder()
    kernels = Kernels(builder, machine)
    shapes = network.shapes
    params = [relax.Var(v.name, relax.TensorType(v.shape, v.dtype)) for v in network.inputs]
    held: dict[tuple[str, str], Any] = {
        (v.name, row_major(v.shape)): p for v, p in zip(network.inputs, params, strict=True)
    }
    pending: dict[str, list[TransformTask]] = {}
    for transform in selection.transforms:
        pending.setdefault(transform.value, []).append(transform.task)

    def make_transforms(value: str) -> None:
        for task in pending.get(value, ()):
            source = held[value, task.source]
            held[value, task.destination] = _emit_transform(builder, source, task)

    packs = pack_all([(op, selection.variants[op.name].variant) for op in network.operators])
    with builder.function("main", params):
        with builder.dataflow():
            for value in network.inputs:
                make_transforms(value.name)
            for op, packed in zip(network.operators, packs, strict=True):
                variant = selection.variants[op.name].variant
                layouts = layouts_of(op, variant)
                args = [held[name, layout] for name, layout in zip(op.inputs, layouts.inputs, strict=True)]
                if isinstance(variant, Deferred):
                    held[op.name, layouts.output] = args[0]
                    continue
                held[op.name, layouts.output] = builder.emit(_operator(kernels, op, variant, args, packed))
                make_transforms(op.name)
            results = [held[name, row_major(shapes[name])] for name in network.outputs]
            outputs = [builder.emit_output(result) for result in results]
        builder.emit_func_output(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
    module = builder.finalize()
    relax.analysis.well_formed(module)  # raises when it is not
    return module


class Kernels:
    """Adds each distinct (task, variant) to the module once."""

    def __init__(self, builder: relax.BlockBuilder, machine: Machine | Gpu) -> None:
        self._builder = builder
        self.machine = machine
        self.dtype = dtype_of(machine)
        self._known: dict[tuple[str, str], tuple[Any, list[Any]]] = {}

    def add(self, task: Task, variant: Variant) -> tuple[Any, list[Any]]:
        """GlobalVar of the scheduled kernel, and the types of the scratch tensors it takes behind its output."""
        key = (task.key, variant.label)
        if key not in self._known:
            func = variant.prim_func(task, self.machine).without_attr("global_symbol")
            func = func.with_attr("op_pattern", _OPAQUE_PATTERN).with_attr(_IDENTITY, _identity(task, variant))
            func, scratch = hoisted(func) if isinstance(self.machine, Gpu) else (func, [])
            # the same name in every plan, so that it is compiled once
            digest = hashlib.sha256(_identity(task, variant).encode()).hexdigest()[:8]
            self._known[key] = self._builder.add_func(func, f"{task.kind}_{variant.name}_{digest}"), scratch
        return self._known[key]

    def call(self, task: Task, variant: Variant, args: list[Any], result: Any) -> Any:
        """A call of the kernel whose value is its output, of type ``result``."""
        kernel, scratch = self.add(task, variant)
        if not scratch:
            return relax.call_tir(kernel, args, result)
        return relax.TupleGetItem(self._builder.emit(relax.call_tir(kernel, args, [result, *scratch])), 0)


def _identity(task: Task, variant: Variant) -> str:
    return f"{task.key} {variant.label}"


def _kernels(module: tvm.IRModule) -> dict[Any, Any]:
    return {var: func for var, func in module.functions.items() if isinstance(func, tvm.tirx.PrimFunc)}


class KernelNames:
    """What the kernels of a lowered module are called."""

    def __init__(self, module: tvm.IRModule) -> None:
        self._names = {str(func.attrs[_IDENTITY]): str(var.name_hint) for var, func in _kernels(module).items()}

    def of(self, task: Task, variant: Variant) -> str | None:
        """None where nothing runs: views, concatenations in place, operators that are left to the one behind."""
        return self._names.get(_identity(task, variant))


def _operator(kernels: Kernels, op: Operator, variant: Variant, args: list[Any], params: list[np.ndarray]) -> Any:
    if isinstance(op.task, ViewTask):
        return relax.op.reshape(args[0], op.task.to_shape)
    if isinstance(variant, ConcatInPlace):
        return relax.op.concat(args, axis=1)
    task = task_of(op, variant)
    opaque = isinstance(op.task, OpaqueTask)
    kept = ("float16",) if isinstance(kernels.machine, Gpu) else ()
    packed = [
        np.asarray(p, p.dtype if opaque or str(p.dtype) in kept else np.float32, order="C")  # relax.const copies
        for p in params
    ]
    constants = [relax.const(p, str(p.dtype)) for p in packed]  # without its dtype named, int64 would be narrowed
    shape = Layout(variant.layouts(task).output).physical_shape(task.output_shape)
    dtype = _out_dtype(task, kernels.dtype)
    return kernels.call(task, variant, [*args, *constants], relax.TensorType(shape, dtype))


def _out_dtype(task: Task, inside: str) -> str:
    """Type of an operator's value, where float32 values of the network are of type ``inside``."""
    if isinstance(task, CastTask):
        return task.dtype
    if isinstance(task, OpaqueTask) and task.out_dtype != FLOAT32:
        return task.out_dtype
    return inside


def _emit_transform(builder: relax.BlockBuilder, source: Any, task: TransformTask) -> Any:
    """``layout_transform`` of a variable, cropped where the source is padded and the destination is not."""
    before, after = Layout(task.source), Layout(task.destination)
    moved = builder.emit(relax.op.layout_transform(source, index_map(before, after), pad_value=0.0))
    wanted = after.physical_shape(task.shape)
    made = tuple(int(d) for d in moved.ty.shape)
    if made == wanted:
        return moved
    axes = [axis for axis, (have, want) in enumerate(zip(made, wanted, strict=True)) if have != want]
    return builder.emit(
        relax.op.strided_slice(moved, axes=axes, begin=[0] * len(axes), end=[wanted[axis] for axis in axes])
    )


def index_map(source: Layout, destination: Layout) -> Callable[..., Any]:
    """Physical index in ``source`` to physical index in ``destination``, with the arity TVM's IndexMap inspects."""

    def move(*axes: Any) -> list[Any]:
        return list(destination.physical_index(*source.logical_index(*axes)))

    if source.block:
        return lambda n, c, h, w, b: move(n, c, h, w, b)
    return lambda a, b, c, d: move(a, b, c, d)


def count_transforms(module: tvm.IRModule) -> int:
    """``layout_transform`` operators in the main function."""
    return sum(_is_op(binding.value, "relax.layout_transform") for binding in _bindings(module["main"]))


def _bindings(function: relax.Function) -> list[Any]:
    return [binding for block in function.body.blocks for binding in block.bindings]


def lower_transforms(
    module: tvm.IRModule, choose: Callable[[TransformTask], Variant], machine: Machine | Gpu
) -> tvm.IRModule:
    """Replace every ``layout_transform`` (and the crop behind it) by a transform kernel, or a view when it is free.

    ``choose`` gives the kernel for a transform. Raises ValueError for a transform between layouts we do not know.
    """
    main = module["main"]
    bindings = _bindings(main)
    made = {binding.value: binding.var for binding in bindings}
    crops = {b.value.args[0]: b.var for b in bindings if _is_op(b.value, "relax.strided_slice")}

    @relax.expr_functor.mutator
    class Lower(relax.PyExprMutator):
        def __init__(self, mod: tvm.IRModule) -> None:
            super().__init__(mod)
            self.kernels = Kernels(self.builder_, machine)
            self.lowered: set[Any] = set()

        def visit_call_(self, call: relax.Call) -> Any:
            if _is_op(call, "relax.strided_slice") and call.args[0] in self.lowered:
                return self.visit_expr(call.args[0])  # the kernel has cropped already
            if not _is_op(call, "relax.layout_transform"):
                return super().visit_call_(call)
            var = made[call]
            result = crops.get(var, var)
            self.lowered.add(var)
            task = recognise_transform(call, tuple(int(d) for d in result.ty.shape))
            source = self.visit_expr(call.args[0])
            shape = Layout(task.destination).physical_shape(task.shape)
            if same_bytes(task.shape, Layout(task.source), Layout(task.destination)):
                return relax.op.reshape(source, shape)
            return self.kernels.call(task, choose(task), [source], relax.TensorType(shape, self.kernels.dtype))

    # TVM never frees a mutator of Python's (a cycle through C++): what it holds must not hold the weights
    mutator = Lower(tvm.IRModule(_kernels(module)))
    updated = mutator.visit_expr(main)
    made.clear()
    crops.clear()
    lowered = tvm.IRModule(dict(mutator.builder_.get().functions.items()), attrs=module.attrs)
    lowered[module.get_global_var("main")] = updated
    lowered = relax.transform.CanonicalizeBindings()(lowered)
    if count_transforms(lowered):
        raise AssertionError("layout transforms are left after lowering")
    return lowered


def recognise_transform(call: relax.Call, result_shape: tuple[int, ...]) -> TransformTask:
    """Which of our transforms a ``layout_transform`` with this (cropped) result is; its index map tells."""
    source_shape = tuple(int(d) for d in call.args[0].ty.shape)
    found = IndexMap(call.attrs.index_map.initial_indices, call.attrs.index_map.final_indices, None)
    probe = [5, 3, 2, 7, 1][: len(source_shape)]
    if len(source_shape) == 5:
        probe = [5, 3, 2, 7, min(3, source_shape[4] - 1)]
    target = [int(i) for i in found.map_indices([tvm.tirx.const(p, "int64") for p in probe])]
    for source in _layouts_of_rank(source_shape):
        for destination in _layouts_of_rank(result_shape):
            if source == destination:
                continue
            if target != list(destination.physical_index(*source.logical_index(*probe))):
                continue
            unblocked, shape = (destination, result_shape) if source.block else (source, source_shape)
            logical = _logical_shape(unblocked, shape)
            if source.physical_shape(logical) == source_shape and destination.physical_shape(logical) == result_shape:
                return TransformTask(logical, source.name, destination.name)
    raise ValueError(f"a layout_transform from {source_shape} to {result_shape} is none of the known layout pairs")


def _layouts_of_rank(shape: tuple[int, ...]) -> list[Layout]:
    if len(shape) == 5:
        return [Layout(f"NCHW{shape[4]}c")]
    return [Layout("NCHW"), Layout("NHWC")]


def _logical_shape(layout: Layout, stored: tuple[int, ...]) -> tuple[int, ...]:
    if layout.name == "NCHW":
        return stored
    if layout.name == "NHWC":
        n, h, w, c = stored
        return (n, c, h, w)
    n, co, h, w, block = stored
    return (n, co * block, h, w)


def _is_op(expr: Any, name: str) -> bool:
    return isinstance(expr, relax.Call) and getattr(expr.op, "name", None) == name
