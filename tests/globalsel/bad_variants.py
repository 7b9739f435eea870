"""Variants that fail in every way a kernel can; loaded through GLOBALSEL_VARIANTS by the measuring tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import te, tirx

from te_kernels.generic import _tir
from te_kernels.machine import Machine
from te_kernels.task import TransformTask
from te_kernels.variant import Layouts, Variant


@dataclass(frozen=True)
class Bad(Variant):
    family = "transform"
    task_type = TransformTask
    title = "broken on purpose"

    @classmethod
    def candidates(cls, task: Any, machine: Machine) -> Iterator[Variant]:
        yield cls()

    def layouts(self, task: Any) -> Layouts:
        return Layouts((task.source,), task.destination)

    def copy(self, task: Any, value: Any) -> tvm.tirx.PrimFunc:
        """Identity (both layouts of the test's task hold the same shape) with ``value`` applied to each element."""
        x = te.placeholder(task.shape, "float32", name="x")
        y = te.compute(task.shape, lambda *i: value(x[i]), name="y")
        return te.create_prim_func([x, y])


@dataclass(frozen=True)
class Correct(Bad):
    name = "test_correct"

    def prim_func(self, task: Any, machine: Machine) -> tvm.tirx.PrimFunc:
        return self.copy(task, lambda v: v + tirx.const(0, "float32"))


@dataclass(frozen=True)
class Wrong(Bad):
    name = "test_wrong"

    def prim_func(self, task: Any, machine: Machine) -> tvm.tirx.PrimFunc:
        return self.copy(task, lambda v: v * tirx.const(1.01, "float32"))


@dataclass(frozen=True)
class NotANumber(Bad):
    name = "test_nan"

    def prim_func(self, task: Any, machine: Machine) -> tvm.tirx.PrimFunc:
        return self.copy(task, lambda v: te.sqrt(te.min(v, -v) - tirx.const(1, "float32")))


@dataclass(frozen=True)
class Refuses(Bad):
    name = "test_refuses_to_schedule"

    def prim_func(self, task: Any, machine: Machine) -> tvm.tirx.PrimFunc:
        raise RuntimeError("no schedule for this on a Sunday")


@dataclass(frozen=True)
class Crashes(Bad):
    name = "test_crashes"

    def prim_func(self, task: Any, machine: Machine) -> tvm.tirx.PrimFunc:
        return self.copy(task, lambda v: v + tirx.call_extern("float32", "abort"))


@dataclass(frozen=True)
class Hangs(Bad):
    name = "test_hangs"

    def prim_func(self, task: Any, machine: Machine) -> tvm.tirx.PrimFunc:
        return self.copy(task, lambda v: v + tirx.call_extern("float32", "sleep", tirx.const(1000, "int32")))


@dataclass(frozen=True)
class Greedy(Bad):
    """Wants more memory than there is, but touches its ends only: harmless where nothing stops it."""

    name = "test_greedy"

    def prim_func(self, task: Any, machine: Machine) -> tvm.tirx.PrimFunc:
        from tvm_globalsel.worker_process import free_bytes  # not where a bundle of these is measured

        x, y = _tir.argument("x", task.shape), _tir.argument("y", task.shape)
        elements = tirx.const(int(1.5 * free_bytes()) // 4, "int64")
        huge = tirx.decl_buffer((elements,), "float32", name="huge")
        first, last = [tirx.const(0, "int64")], [elements - 1]

        def copy(i: Any) -> Any:
            both = [tirx.BufferStore(huge, x[i], end) for end in (first, last)]
            return tirx.SeqStmt([*both, y.store(i, tirx.max(*(tirx.BufferLoad(huge, end) for end in (first, last))))])

        size = task.shape[0] * task.shape[1] * task.shape[2] * task.shape[3]
        return _tir.prim_func([x, y], tirx.SeqStmt([tirx.AllocBuffer(huge), _tir.loop(size, copy, "i")]))
