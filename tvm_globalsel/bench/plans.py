"""One network under many solvers: measured once, then every plan built and timed in turns with the others."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx

from te_kernels.task import ConvTask
from tvm_globalsel.apart import answer_of
from tvm_globalsel.build import build_apart
from tvm_globalsel.deploy import deploy, writable_folder
from tvm_globalsel.frontends.onnx import import_onnx
from tvm_globalsel.lowering import fit
from tvm_globalsel.measure import Progress, Tuning
from tvm_globalsel.options import Options, Say
from tvm_globalsel.pipeline import select
from tvm_globalsel.plan import make_plan
from tvm_globalsel.problem import Infeasible, NodeChoices, Problem, Solution
from tvm_globalsel.selected import Selected
from tvm_globalsel.selection import interpret
from tvm_globalsel.solve import solve
from tvm_globalsel.solve.family import families
from tvm_globalsel.verify import relative_error

_TURN_S = 2.0
_MOST_RUNS, _LEAST_RUNS = 50, 3
_SLOW_S = 1.0
_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Contender:
    """A plan to compare: what it is called, its solution, or why there is none."""

    name: str
    solver: str
    solution: Solution | None
    why_not: str = ""

    @property
    def predicted_s(self) -> float | None:
        """Of the whole network."""
        return self.solution.cost_s if self.solution else None


@dataclass(frozen=True)
class Study:
    """A network whose candidates are measured, and all plans to compare."""

    selected: Selected
    contenders: tuple[Contender, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    @property
    def tuning(self) -> Tuning:
        """What was measured for it."""
        return self.selected.tuning


def study(model: onnx.ModelProto, label: str, options: Options, progress: Progress | None, say: Say) -> Study:
    """Measure a prepared model's candidates and solve it in every way."""
    imported = import_onnx(model, label)
    everything = dataclasses.replace(options, exhaustive=True)  # a family's plan needs what the optimum does not
    selected = select(imported.module, everything, imported.names, progress, say)
    network = selected.network
    products = frozenset(
        number for number, op in enumerate(network.operators, len(network.inputs))
        if isinstance(op.task, ConvTask) and op.task.pointwise
    )  # fmt: skip
    found = contenders(selected.selection.problem, products)
    return Study(selected, found, tuple(imported.input_names), tuple(imported.output_names))


def contenders(problem: Problem, products: frozenset[int] = frozenset()) -> tuple[Contender, ...]:
    """sum2d, each family of convolutions alone, the best single layout, local, global.

    ``products`` are the nodes that are 1x1 convolutions without stride: the im2 and kn2 methods make of them the plain
    matrix product that the gemm and direct variants are, so that these count as both, and gemm is no family of its own.
    """
    alone = [name for name in families(problem) if name not in ("sum2d", "gemm")]
    singles = [_solved(problem, name, f"single:{name}") for name in problem.layouts if name != "plain"]
    best = min(singles, key=lambda c: np.inf if c.predicted_s is None else c.predicted_s)
    return (
        _solved(problem, "sum2d", "sum2d"),
        *(_solved(_with_products(problem, name, products), name, f"family:{name}") for name in alone),
        dataclasses.replace(best, name="best single layout"),
        _solved(problem, "local", "local"),
        _solved(problem, "global", "pbqp"),
    )


def _with_products(problem: Problem, family: str, products: frozenset[int]) -> Problem:
    """The problem in which a matrix product counts as im2 or kn2, if that is the ``family``."""
    if family not in ("im2", "kn2"):
        return problem

    def renamed(node: NodeChoices) -> NodeChoices:
        names = tuple(family if name in ("gemm", "direct") else name for name in node.families)
        return dataclasses.replace(node, families=names)

    nodes = tuple(renamed(node) if number in products else node for number, node in enumerate(problem.nodes))
    return dataclasses.replace(problem, nodes=nodes)


def _solved(problem: Problem, name: str, solver: str) -> Contender:
    try:
        solution = solve(problem, solver)
    except Infeasible as error:
        return Contender(name, solver, None, str(error))
    if solver == "sum2d" and not _complete(problem, solution):
        return Contender(name, solver, None, "sum2d is not measured for every convolution")
    return Contender(name, solver, solution)


def _complete(problem: Problem, solution: Solution) -> bool:
    """Whether all convolutions of a sum2d plan are sum2d."""
    return all(
        "sum2d" not in node.families or node.families[chosen] == "sum2d"
        for node, chosen in zip(problem.nodes, solution.choice, strict=True)
    )


def build(found: Study, contender: Contender, label: str, folder: Path) -> Path:
    """Compile one plan into ``folder``."""
    selected, solution = found.selected, contender.solution
    assert solution is not None, "only plans that exist can be built"
    selection = interpret(selected.network, selected.costs, selected.selection.problem, solution)
    chosen, lowered = fit(dataclasses.replace(selected, selection=selection, solver=contender.solver))
    built = build_apart(lowered, chosen.target)
    plan = make_plan(chosen, label, list(found.input_names), list(found.output_names))
    folder = writable_folder(folder)
    deploy(built, plan, folder)
    return folder


class Turns:
    """Times deployed folders in turns, each turn in a process of its own, and checks what they compute."""

    def __init__(self, inputs: dict[str, np.ndarray], expected: dict[str, np.ndarray], threads: int) -> None:
        self._expected, self._threads = expected, threads
        self._inputs = inputs
        self.seconds: dict[Path, list[float]] = {}
        self.errors: dict[Path, float] = {}

    def take(self, folder: Path, predicted_s: float) -> None:
        """One turn of one plan. One that takes seconds has a single turn of two runs, the first of them warming up."""
        slow = predicted_s > _SLOW_S
        if slow and folder in self.seconds:
            return
        runs = 1 if slow else max(_LEAST_RUNS, min(_MOST_RUNS, int(_TURN_S / predicted_s)))
        with tempfile.TemporaryDirectory() as scratch:
            given, got = Path(scratch) / "x.npz", Path(scratch) / "y.npz"
            np.savez(given, **self._inputs)  # type: ignore[arg-type]
            files = ("--input", given, "--output", got)
            how = ("--repeat", runs, "--warmup", 0 if slow else 3, "--threads", self._threads)
            taken = answer_of("run", folder, *files, *how, timeout_s=_TIMEOUT_S)
            with np.load(got, allow_pickle=False) as arrays:
                error = max(relative_error(arrays[name], value) for name, value in self._expected.items())
        self.seconds.setdefault(folder, []).append(taken["median_ms"] / 1e3)
        self.errors[folder] = max(error, self.errors.get(folder, 0.0))

    def measured_s(self, folder: Path) -> float:
        """Median of the turns' medians."""
        return median(self.seconds[folder])
