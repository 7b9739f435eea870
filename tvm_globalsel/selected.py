"""What selection hands on to the phases after it."""

from __future__ import annotations

from dataclasses import dataclass

import tvm

from te_kernels.gpu import Gpu
from te_kernels.machine import Machine
from te_kernels.task import Task
from te_kernels.variant import Variant
from tvm_globalsel.choices import task_of
from tvm_globalsel.demands import Demands, answer, restrict
from tvm_globalsel.graph import Network
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.measure import Tuning
from tvm_globalsel.rewrite import KernelNames
from tvm_globalsel.search.loop import Found
from tvm_globalsel.selection import Costs, Measured, Selection, build_problem, interpret


@dataclass(frozen=True)
class Selected:
    """A network with its measured choices and the exact answer; lowering adds ``arena_bytes`` and ``kernels``."""

    network: Network
    costs: Costs
    selection: Selection
    tuning: Tuning
    rejections: dict[str, tuple[tuple[str, str], ...]]
    machine: Machine | Gpu
    target: tvm.target.Target
    context: Context
    demands: Demands
    solver: str
    log: TuningLog
    arena_bytes: int | None = None
    kernels: KernelNames | None = None
    search: Found | None = None

    @property
    def kernels_run(self) -> list[tuple[Task, Measured]]:
        """Everything measured that the plan runs: of each operator, and of each transform that moves data."""
        variants = self.selection.variants
        chosen = [(task_of(op, variants[op.name].variant), variants[op.name]) for op in self.network.operators]
        moved = [
            (t.task, self.costs.transforms[t.task.key]) for t in self.selection.transforms if t.variant is not None
        ]
        return [(task, measured) for task, measured in [*chosen, *moved] if measured.record is not None]

    def kernel(self, task: Task, variant: Variant) -> str | None:
        """What the module calls the kernel, None where nothing runs or nothing has been lowered."""
        return self.kernels.of(task, variant) if self.kernels else None


def solved(network: Network, costs: Costs, demands: Demands, solver: str) -> Selection:
    """The answer for these costs. Raises :class:`UserError` when demands cannot be met or nothing was measured."""
    problem = restrict(network, costs, build_problem(network, costs), demands)
    return interpret(network, costs, problem, answer(network, costs, problem, demands, solver))
