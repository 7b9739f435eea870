"""Solvers: each is ``solve(problem, ...) -> Solution`` in a module of its own; :func:`solve` picks one by name."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from tvm_globalsel.errors import UserError
from tvm_globalsel.problem import Problem, Solution

#: Names of the solvers; ``single`` is followed by a colon and a layout, ``family`` by a colon and a family of variants.
SOLVERS = ("pbqp", "milp", "exhaustive", "local", "greedy", "single:<layout>", "family:<name>", "sum2d")


def refuse_unknown(solver: str, layouts: Iterable[str], families: Iterable[str]) -> None:
    """Raises :class:`UserError` for a solver, layout or family that there is not: before anything is measured."""
    name, colon, argument = solver.partition(":")
    known = {"single": ("layout", layouts), "family": ("family", families)}
    if colon and name in known:
        what, names = known[name]
        if argument not in names:
            raise UserError(f"--solver {solver}: there is no {what} {argument!r}", f"choose {', '.join(sorted(names))}")
    elif name not in SOLVERS or colon:
        raise UserError(f"--solver {solver}: there is no such solver", f"choose {', '.join(SOLVERS)}")


def solve(problem: Problem, solver: str = "pbqp") -> Solution:
    """Solve with the solver called ``solver``, one of :data:`SOLVERS`.

    Raises ValueError for an unknown name, layout or family, Infeasible when no plan has a finite cost.
    """
    arguments: tuple[str, ...] = ()
    name, colon, argument = solver.partition(":")
    if argument and any(known.startswith(f"{name}:<") for known in SOLVERS):
        arguments = (argument,)
    elif name not in SOLVERS or colon:
        raise ValueError(f"there is no solver {solver!r}; known are {', '.join(SOLVERS)}")
    # imported on demand: milp alone needs scipy.optimize, which takes longer to import than most networks to solve
    module = import_module(f"tvm_globalsel.solve.{name}")
    solution: Solution = module.solve(problem, *arguments)
    return solution
