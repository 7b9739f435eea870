"""Operators that no converter knows: TVM's own lowering of the single operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax

from te_kernels.task import OpaqueTask
from tvm_globalsel.errors import UserError
from tvm_globalsel.relax_ops.call import Call, converts


@converts("relax.split")
def _split(call: Call) -> Any:
    """Each part as a slice of its own."""
    source = call.value()
    if source is None:
        return None
    parts = call.expr.ty.fields
    axis = int(call.attrs.axis) % len(call.shape(0))
    outputs, start = [], 0
    for part in parts:
        size = int(part.shape[axis])
        var = relax.Var("x", relax.TensorType(call.shape(0), call.state.dtypes[source]))
        expr = relax.op.strided_slice(var, axes=[axis], begin=[start], end=[start + size])
        task, inputs, params = lowered_task([source], [var], expr, call)
        outputs.append(call.emit(task, inputs, params))
        start += size
    return tuple(outputs)


def _task_of_call_tir(call: Call) -> tuple[OpaqueTask, list[str], list[np.ndarray]]:
    """A kernel that is TIR already."""
    held = list(call.args[1])
    if any(not isinstance(h, str | np.ndarray) for h in held) or len(call.args) > 2:
        raise UserError(f"a call of {call.args[0]} with symbolic arguments is not supported", "fix its shapes")
    values = [h for h in held if isinstance(h, str)]
    constants = [h for h in held if isinstance(h, np.ndarray)]
    func = call.state.module[call.args[0]].without_attr("global_symbol")
    order = [i for i, h in enumerate(held) if isinstance(h, str)] + [
        i for i, h in enumerate(held) if isinstance(h, np.ndarray)
    ]
    lowered = _reordered(func, order)
    task = OpaqueTask(
        text=f"call_tir {' '.join(lowered.script().split())}",
        shapes=tuple(call.state.shapes[v] for v in values),
        dtypes=tuple([call.state.dtypes[v] for v in values] + [str(c.dtype) for c in constants]),
        out_shape=call.out_shape,
        out_dtype=str(call.expr.ty.dtype),
        constant_shapes=tuple(tuple(c.shape) for c in constants),
        lowered=lowered,
    )
    return task, values, constants


def opaque_task(call: Call) -> tuple[OpaqueTask, list[str], list[np.ndarray]]:
    """The task of a call that no converter knows, with its value inputs and constant parameters."""
    if call.op == "relax.call_tir":
        return _task_of_call_tir(call)
    held: list[Any] = []
    variables: list[Any] = []

    def substitute(arg: Any, original: Any) -> Any:
        if isinstance(arg, tuple):
            return relax.Tuple([substitute(a, o) for a, o in zip(arg, original.fields, strict=True)])
        if isinstance(arg, str | np.ndarray):
            shape = call.state.shapes[arg] if isinstance(arg, str) else arg.shape
            dtype = call.state.dtypes[arg] if isinstance(arg, str) else str(arg.dtype)
            var = relax.Var(f"a{len(held)}", relax.TensorType(shape, dtype))
            held.append(arg)
            variables.append(var)
            return var
        return original

    originals = list(call.expr.args)
    args = [
        substitute(arg, original if not isinstance(arg, tuple) else _fields(original, arg))
        for arg, original in zip(call.args, originals, strict=True)
    ]
    expr = relax.Call(call.expr.op, args, call.expr.attrs)
    return lowered_task(held, variables, expr, call)


def _fields(original: Any, held: tuple[Any, ...]) -> Any:
    if isinstance(original, relax.Tuple):
        return original
    raise UserError(f"a tuple of {len(held)} tensors passed on as a whole is not supported", "unpack it")


def lowered_task(
    held: list[Any], variables: list[Any], expr: Any, call: Call
) -> tuple[OpaqueTask, list[str], list[np.ndarray]]:
    """Legalise a one-operator function; values come first among the arguments, constants after them."""
    order = [i for i, h in enumerate(held) if isinstance(h, str)] + [
        i for i, h in enumerate(held) if not isinstance(h, str)
    ]
    if not isinstance(call.expr.ty, relax.TensorType) and call.op != "relax.split":
        where = call.state.hint or call.op
        raise UserError(f"operator {where!r} ({call.op}): it has several results, or is not float32 where only that is "
                        "supported", "export the model in float32")  # fmt: skip
    builder = relax.BlockBuilder()
    with builder.function("main", [variables[i] for i in order]):
        with builder.dataflow():
            out = builder.emit_output(builder.emit(expr))
        builder.emit_func_output(out)
    module = builder.get()
    text = f"{call.op} {' '.join(module['main'].script(show_meta=True).split())}"
    try:
        lowered = relax.transform.LegalizeOps()(module)
    except (tvm.error.InternalError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1][:120]
        raise UserError(f"operator {call.op} cannot be lowered by TVM ({reason})", "replace it in the model") from error
    functions = [gv for gv, f in lowered.functions.items() if isinstance(f, tvm.tirx.PrimFunc)]
    bindings = [b.value for block in lowered["main"].body.blocks for b in block.bindings]
    calls = [v for v in bindings if isinstance(v, relax.Call) and getattr(v.op, "name", "") == "relax.call_tir"]
    params = list(lowered["main"].params)
    passed = list(calls[0].args[1].fields) if len(calls) == 1 else []
    if len(functions) != 1 or len(passed) != len(params) or any(p not in passed for p in params):
        raise UserError(f"operator {call.op} has no lowering to a single kernel", "replace it in the model")
    ty = calls[0].ty_args[0] if hasattr(calls[0], "ty_args") else out.ty
    shapes = [tuple(int(d) for d in variables[i].ty.shape) for i in order]
    values = [held[i] for i in order if isinstance(held[i], str)]
    constants = [held[i] for i in order if not isinstance(held[i], str)]
    task = OpaqueTask(
        text=text,
        shapes=tuple(shapes[: len(values)]),
        dtypes=tuple(str(variables[i].ty.dtype) for i in order),
        out_shape=tuple(int(d) for d in ty.shape),
        out_dtype=str(ty.dtype),
        constant_shapes=tuple(shapes[len(values) :]),
        lowered=_reordered(lowered[functions[0]], [passed.index(p) for p in params]),
    )
    return task, values, constants


def _reordered(func: tvm.tirx.PrimFunc, order: list[int]) -> tvm.tirx.PrimFunc:
    """The same kernel with its inputs in another order; the output stays last."""
    params = [func.params[i] for i in order] + list(func.params)[len(order) :]
    return tvm.tirx.PrimFunc(params, func.body, func.ret_type, func.attrs)
