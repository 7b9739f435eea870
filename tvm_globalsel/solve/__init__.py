"""Solvers: each is ``solve(problem, ...) -> Solution`` in a module of its own; :func:`solve` picks one by name."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from tvm_globalsel.errors import UserError
from tvm_globalsel.problem import Problem, Solution

#: Names of the solvers; ``single`` is followed by a colon and a layout.
SOLVERS = ("pbqp", "milp", "exhaustive", "local", "greedy", "single:<layout>", "sum2d")


def refuse_unknown(solver: str, layouts: Iterable[str]) -> None:
    """Raises :class:`UserError` for a solver that there is not, before anything is measured for it."""
    name, colon, layout = solver.partition(":")
    if name == "single" and colon:
        if layout not in layouts:
            raise UserError(f"--solver {solver}: there is no layout {layout!r}", f"choose {', '.join(sorted(layouts))}")
    elif name not in SOLVERS or colon:
        raise UserError(f"--solver {solver}: there is no such solver", f"choose {', '.join(SOLVERS)}")


def solve(problem: Problem, solver: str = "pbqp") -> Solution:
    """Solve with the solver called ``solver``, one of :data:`SOLVERS`.

    Raises ValueError for an unknown name or layout, Infeasible when no plan has a finite cost.
    """
    arguments: tuple[str, ...] = ()
    name, colon, layout = solver.partition(":")
    if f"{name}:<layout>" in SOLVERS and layout:
        arguments = (layout,)
    elif name not in SOLVERS or colon:
        raise ValueError(f"there is no solver {solver!r}; known are {', '.join(SOLVERS)}")
    # imported on demand: milp alone needs scipy.optimize, which takes longer to import than most networks to solve
    module = import_module(f"tvm_globalsel.solve.{name}")
    solution: Solution = module.solve(problem, *arguments)
    return solution
