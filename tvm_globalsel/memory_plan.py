"""One arena for all activations: every tensor gets its address at compile time, and concatenations happen in place.

:func:`pack` assigns the addresses: largest tensor first, each to the smallest gap between the tensors that live at the
same time (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", MLSys 2020 workshop, section
5.2, "greedy by size"). :class:`PlanMemory` is the Relax pass around it; it takes the place of TVM's own
``StaticPlanBlockMemory``, which gives tensors whole blocks of memory one after the other and knows no slices: 1.4 to
1.75 times what is live on the networks tried, where this needs hardly more than what is live.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax

from te_kernels.generic.concat_in_place import ALIGNMENT_BYTES
from tvm_globalsel.vm_passes import explicit_outputs

ARENA = "globalsel_arena_bytes"


@dataclass(frozen=True)
class Buffer:
    """A piece of memory that is needed from step ``first`` to step ``last``, both included."""

    size_bytes: int
    first: int
    last: int


def pack(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """Byte offset of every buffer, and the size of the arena. Buffers that live at the same time do not overlap."""
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for index in sorted(range(len(buffers)), key=lambda i: (-buffers[i].size_bytes, buffers[i].first)):
        one = buffers[index]
        alive = [i for i in placed if buffers[i].first <= one.last and one.first <= buffers[i].last]
        best, best_gap, end = None, None, 0
        for other in sorted(alive, key=lambda i: offsets[i]):
            gap = offsets[other] - end
            if gap >= one.size_bytes and (best_gap is None or gap < best_gap):
                best, best_gap = end, gap
            end = max(end, offsets[other] + _aligned(buffers[other].size_bytes))
        offsets[index] = end if best is None else best
        placed.append(index)
    return offsets, max((o + _aligned(b.size_bytes) for o, b in zip(offsets, buffers, strict=True)), default=0)


def live_bytes(buffers: Sequence[Buffer]) -> int:
    """The most that is needed at any one step: no arena can be smaller."""
    steps = {b.first for b in buffers}
    return max((sum(_aligned(b.size_bytes) for b in buffers if b.first <= s <= b.last) for s in steps), default=0)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


@tvm.transform.module_pass(opt_level=0, name="PlanMemory")
class PlanMemory:
    """Replaces ``builtin.alloc_tensor`` of all tensors that do not leave ``main`` by addresses in one arena.

    ``relax.concat`` becomes the tensor around its inputs' memory. Expects straight-line code with explicit outputs,
    as ``CallTIRRewrite`` leaves it. The arena's size is the function's attribute ``globalsel_arena_bytes``.
    """

    def transform_module(self, module: tvm.IRModule, _: Any) -> tvm.IRModule:
        """The pass."""
        module.update_func(module.get_global_var("main"), _plan(module["main"]))
        return module


def planning() -> tvm.transform.Pass:
    """From scheduled kernels in a dataflow block to addresses."""
    return tvm.transform.Sequential([explicit_outputs(), PlanMemory()])


def arena_bytes(lowered: tvm.IRModule) -> int:
    """The size of the arena that a module will have, as the lowered plan stands."""
    return int(planning()(lowered)["main"].attrs[ARENA])


def _plan(main: relax.Function) -> relax.Function:
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    tensors = _Tensors()
    for step, binding in enumerate(bindings):
        tensors.visit(step, binding.var, binding.value)
    lives = tensors.lives(main.body.body)
    offsets, arena_bytes = pack(list(lives.values()))
    address = dict(zip(lives, offsets, strict=True))

    arena = relax.Var("arena", relax.ObjectType())
    rebuilt: list[Any] = []
    if lives:
        whole = relax.op.memory.alloc_storage(relax.ShapeExpr([arena_bytes]), 0, "global", "uint8")
        rebuilt.append(relax.VarBinding(arena, whole))
    for binding in bindings:
        root, offset = tensors.place(binding.var)
        if binding.var in tensors.size_bytes and root in address:
            rebuilt += _at(binding.var, arena, address[root] + offset)
            continue
        if _is_op(binding.value, "relax.concat"):
            raise ValueError(f"the concatenation {binding.var.name} leaves the function: it cannot be made in place")
        rebuilt.append(binding)
    body = relax.SeqExpr([relax.BindingBlock(rebuilt)], main.body.body)
    planned = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
    return planned.with_attr(ARENA, arena_bytes)


def _at(var: relax.Var, arena: relax.Var, offset_bytes: int) -> list[relax.VarBinding]:
    """Binds ``var`` to the memory at an offset. Kernels want it in the tensor's pointer, the VM puts it beside."""
    made = relax.op.memory.alloc_tensor(arena, offset_bytes, var.ty.shape, str(var.ty.dtype))
    if not offset_bytes:
        return [relax.VarBinding(var, made)]
    beside = relax.Var(f"{var.name}_at", var.ty)
    return [relax.VarBinding(beside, made), relax.VarBinding(var, relax.op.memory.ensure_zero_offset(beside))]


class _Tensors:
    """Which variable is whose memory, and when it is touched."""

    def __init__(self) -> None:
        self.size_bytes: dict[relax.Var, int] = {}
        self._inside: dict[relax.Var, tuple[relax.Var, int]] = {}
        self._touched: dict[relax.Var, list[int]] = {}

    def visit(self, step: int, var: relax.Var, value: Any) -> None:
        """One binding."""
        if _is_op(value, "relax.builtin.alloc_tensor"):
            self._allocate(step, var)
        elif isinstance(value, relax.Var):
            self._inside[var] = (value, 0)
        elif _is_op(value, "relax.reshape"):
            self._inside[var] = (value.args[0], 0)
        elif _is_op(value, "relax.concat"):
            self._allocate(step, var)
            self._enclose(var, value)
        for used in _variables(value):
            self._touched.setdefault(used, []).append(step)

    def _allocate(self, step: int, var: relax.Var) -> None:
        shape = [int(extent) for extent in var.ty.shape]
        self.size_bytes[var] = math.prod(shape) * tvm.DataType(var.ty.dtype).bits // 8
        self._touched[var] = [step]

    def _enclose(self, var: relax.Var, concat: relax.Call) -> None:
        start = 0
        for part in _variables(concat):
            root, offset = self.place(part)
            if root not in self.size_bytes or offset or start % ALIGNMENT_BYTES:
                raise ValueError(f"{part.name} cannot be made inside of {var.name}")
            self._inside[root] = (var, start)
            start += self.size_bytes[root]
        if start != self.size_bytes[var]:
            raise ValueError(f"the inputs of the concatenation {var.name} do not fill it")

    def place(self, var: relax.Var) -> tuple[relax.Var, int]:
        """The outermost tensor in which a variable's memory lies, and where in it, in bytes."""
        offset = 0
        while var in self._inside:
            var, inside = self._inside[var]
            offset += inside
        return var, offset

    def lives(self, results: Any) -> dict[relax.Var, Buffer]:
        """The memory that is ours: outermost tensors that are no results of the function."""
        escaping = {self.place(var)[0] for var in _variables(results)}
        touched: dict[relax.Var, list[int]] = {}
        for var, steps in self._touched.items():
            touched.setdefault(self.place(var)[0], []).extend(steps)
        return {
            root: Buffer(self.size_bytes[root], min(steps), max(steps))
            for root, steps in touched.items()
            if root in self.size_bytes and root not in escaping
        }


def _variables(value: Any) -> list[relax.Var]:
    """Variables that an expression reads, in order; tuples are looked into."""
    if isinstance(value, relax.Var):
        return [value]
    if isinstance(value, relax.Tuple):
        return [var for field in value.fields for var in _variables(field)]
    if isinstance(value, relax.Call):
        return [var for arg in value.args for var in _variables(arg)]
    return []


def _is_op(value: Any, name: str) -> bool:
    return isinstance(value, relax.Call) and getattr(value.op, "name", None) == name
