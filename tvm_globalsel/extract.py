"""Relax to :class:`Network`: every binding becomes an operator with a task; constants are folded with numpy.

What the kernels know (convolution, pooling, ...) becomes its own task; every other operator becomes an
:class:`OpaqueTask` computed by TVM's own lowering in the caller's layout, so that any network compiles.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir.expr import GenericConst

from te_kernels.task import Task
from tvm_globalsel.errors import UserError
from tvm_globalsel.graph import Network, Operator, Value
from tvm_globalsel.relax_ops import CONVERTERS, FOLDERS, Call, opaque_task

Constant = np.ndarray


class Extraction:
    """State of one walk over a Relax function: what each variable holds, and the operators made so far."""

    def __init__(self, module: tvm.IRModule, names: dict[str, list[str]], function: str) -> None:
        self.module = module
        self.operators: list[Operator] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self.calls: dict[str, Call] = {}  # value -> the Relax call that made it, for pattern recognition
        self._held: dict[Any, Any] = {}  # relax Var -> value name | numpy constant | tuple of those
        counts = Counter(_called_operators(module[function]))
        # names are matched by order; where the importer made more or fewer calls they would go to the wrong ones
        self._names = {op: iter(list_) for op, list_ in names.items() if len(list_) == counts[op]}
        self._hint: str | None = None
        self._counts: dict[str, int] = defaultdict(int)

    def name_for(self, relax_op: str) -> str:
        """The model's own name for the next operator of this kind, made unique, else kind and number."""
        short = relax_op.rsplit(".", 1)[-1]
        base, self._hint = self._hint, None
        base = re.sub(r"[^\w./:-]", "_", base) if base else None
        if base and base not in self.shapes:
            return base
        prefix = base or short
        while True:
            self._counts[prefix] += 1
            name = f"{prefix}_{self._counts[prefix]}"
            if name not in self.shapes:
                return name

    def begin(self, relax_op: str) -> None:
        """A call of ``relax_op`` comes next: whatever becomes of it, it uses up one of the model's names."""
        self._hint = next(self._names.get(relax_op, iter(())), None)

    def add(self, name: str, task: Task, inputs: list[str], params: list[np.ndarray] | None = None) -> str:
        """Append an operator and return the name of its value."""
        if 0 in task.output_shape:
            raise UserError(f"operator {name!r}: its result {task.output_shape} is empty", "remove it from the model")
        self.operators.append(Operator(name, task, tuple(inputs), tuple(params or ())))
        self.shapes[name] = task.output_shape
        self.dtypes[name] = getattr(task, "out_dtype", "float32")
        return name

    @property
    def hint(self) -> str | None:
        """The model's name for the call at hand."""
        return self._hint

    def define(self, var: Any, held: Any) -> None:
        """Record what a variable holds."""
        self._held[var] = held

    def hold(self, expr: Any) -> Any:
        """What an argument is: a value name, a numpy constant, a tuple, or the expression itself (shapes, scalars)."""
        if isinstance(expr, relax.Var) and expr in self._held:
            return self._held[expr]
        if isinstance(expr, GenericConst):
            return expr.value.numpy()
        if isinstance(expr, relax.Tuple):
            return tuple(self.hold(field) for field in expr.fields)
        return expr


def extract(module: tvm.IRModule, names: dict[str, list[str]] | None = None, function: str = "main") -> Network:
    """The network of ``module[function]``.

    ``names`` maps a Relax operator to the source model's names for its occurrences, in order.
    Raises :class:`UserError` for dynamic shapes and for what no lowering exists.
    """
    func = module[function]
    state = Extraction(module, names or {}, function)
    inputs = []
    for param in func.params:
        shape = static_shape(param.ty, f"input {param.name}")
        value = Value(param.name, shape, str(param.ty.dtype))
        inputs.append(value)
        state.shapes[value.name], state.dtypes[value.name] = shape, value.dtype
        state.define(param, value.name)
    for block in func.body.blocks:
        for binding in block.bindings:
            state.define(binding.var, _bind(state, binding))
    result = state.hold(func.body.body)
    held = result if isinstance(result, tuple) else (result,)
    outputs = [_as_value(state, item) for item in held]
    return Network(tuple(inputs), tuple(state.operators), tuple(outputs))


def _called_operators(func: tvm.relax.Function) -> Iterator[str]:
    for block in func.body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, relax.Call):
                yield getattr(binding.value.op, "name", "")


def static_shape(ty: Any, what: str) -> tuple[int, ...]:
    """Shape of a tensor type as ints; raises :class:`UserError` when it is not static."""
    try:
        return tuple(int(dim) for dim in ty.shape)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{what}: its shape is not static ({ty})", "fix the input shapes with --shape") from error


def _as_value(state: Extraction, item: Any) -> str:
    if isinstance(item, str):
        return item
    raise UserError("an output of the model is a constant", "remove it from the model's outputs")


def _bind(state: Extraction, binding: Any) -> Any:
    value = binding.value
    if isinstance(value, relax.TupleGetItem):
        held = state.hold(value.tuple_value)
        return held[value.index]
    if not isinstance(value, relax.Call):
        return state.hold(value)
    op = getattr(value.op, "name", None)
    if op is None:
        raise UserError(f"a call of {value.op} is not supported", "run the pass before functions are lowered")
    state.begin(op)
    args = [state.hold(arg) for arg in value.args]
    call = Call(state, op, args, value.attrs, value)
    flat = [item for arg in args for item in (arg if isinstance(arg, tuple) else (arg,))]
    tensors = [item for item in flat if isinstance(item, str | np.ndarray)]
    if tensors and all(isinstance(item, np.ndarray) for item in tensors):
        return FOLDERS[op](call) if op in FOLDERS else _evaluate(call)
    converter = CONVERTERS.get(op)
    where = state.hint or op
    try:
        held = converter(call) if converter else None
    except ValueError as error:
        raise UserError(f"operator {where!r}: {error}", "the model is not valid for this input shape") from error
    if held is None:
        held = _opaque(call)
    return held


def _opaque(call: Call) -> Any:
    task, inputs, params = opaque_task(call)
    return call.emit(task, inputs, params)


def _evaluate(call: Call) -> Any:
    """Fold any operator of constants by compiling it."""
    task, _, params = opaque_task(call)
    func = task.lowered.with_attr("global_symbol", "main")
    lib = tvm.compile(tvm.IRModule({"main": func}), target="llvm")
    out = tvm.runtime.empty(task.out_shape, task.out_dtype)
    lib["main"](*[tvm.runtime.tensor(np.array(p, order="C")) for p in params], out)
    return out.numpy()
