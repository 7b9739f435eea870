"""Cost tables in the form of the triNNity tools (Anderson and Gregg, CGO 2018): read, solve, compare. Numpy only.

A folder holds ``algorithms.csv`` (primitive, input layout, output layout), ``primitives.csv`` (cost of each primitive
on each convolution, one column a layer, 0 where it does not apply) and ``transforms.csv`` (cost of each layout
transform, ``a-to-b``, on each convolution's INPUT tensor). Rows in capitals (KERNELS, CHANNELS, ...) describe the
layers. The layers are taken as a chain whose input and output are in ``chw``; the unit of cost is the tables' own.
The files are untrusted data: whatever is wrong with them is a :class:`UserError` with the file and the row.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.errors import UserError
from tvm_globalsel.problem import Infeasible, NodeChoices, Problem, Solution, transforms_of_plan
from tvm_globalsel.solve import solve
from tvm_globalsel.solve.restrict import best_within, restricted
from tvm_globalsel.solve.single import only_in

_MAX_BYTES = 32 << 20
_MAX_LAYOUTS = 64
_BOUNDARY = "chw"
_FAMILIES = ("sum2d", "direct", "im2row", "im2col", "kn2row", "kn2col", "mec", "gemm", "winograd", "fft")
_EXACT = ("pbqp", "milp", "exhaustive")
_REMEDY = "see the form in tests/data/trinnity/README.md"


@dataclass(frozen=True, eq=False)
class Tables:
    """A folder's tables as a problem: node 0 is the input, then a node a layer, then the output.

    ``notes`` are sentences about what had to be assumed or left out.
    """

    problem: Problem
    notes: tuple[str, ...]


def read_tables(folder: Path) -> Tables:
    """The tables of ``folder`` as a chain of convolutions. Raises :class:`UserError`."""
    algorithms = _algorithms(folder / "algorithms.csv")
    primitives, about = _numbers(folder / "primitives.csv")
    moves, about_moves = _numbers(folder / "transforms.csv")
    notes: list[str] = []
    unknown = sorted(set(primitives) - set(algorithms))
    if unknown:
        raise UserError(
            f"{folder}/primitives.csv: {_some(unknown)} not in algorithms.csv, so its layouts are unknown", _REMEDY
        )
    unmeasured = sorted(set(algorithms) - set(primitives))
    if unmeasured:
        notes.append(f"not in primitives.csv and left out: {_some(unmeasured)}")
    if not primitives:
        raise UserError(f"{folder}/primitives.csv: no primitive has a row", _REMEDY)
    names = [name for name in algorithms if name in primitives]
    layers = len(primitives[names[0]])
    if any(len(row) != layers for row in moves.values()):
        raise UserError(f"{folder}/transforms.csv: its columns are not the {layers} layers of primitives.csv", _REMEDY)
    for key in sorted(set(about) & set(about_moves)):
        if not np.array_equal(about[key], about_moves[key]):
            raise UserError(f"{folder}/transforms.csv: its row {key} is not that of primitives.csv", _REMEDY)
    layouts = tuple(dict.fromkeys(layout for name in names for layout in algorithms[name]))
    boundary = _BOUNDARY if _BOUNDARY in layouts else layouts[0]
    layouts = (boundary, *(layout for layout in layouts if layout != boundary))
    if len(layouts) > _MAX_LAYOUTS:
        raise UserError(f"{folder}/algorithms.csv: {len(layouts)} layouts", f"at most {_MAX_LAYOUTS} are supported")
    if boundary != _BOUNDARY:
        notes.append(f"no primitive knows {_BOUNDARY}: the network's input and output are taken to be in {boundary}")
    index = {layout: number for number, layout in enumerate(layouts)}
    reads = np.array([[index[algorithms[name][0]]] for name in names])
    writes = np.array([index[algorithms[name][1]] for name in names])
    nodes = [NodeChoices("input", np.zeros(1), np.zeros(1, int), np.zeros((1, 0), int), (), ("input",))]
    for layer in range(layers):
        costs = np.array([primitives[name][layer] for name in names])
        if not costs.any():
            raise UserError(
                f"{folder}/primitives.csv: no primitive applies to layer {layer + 1} (all its costs are 0)",
                "measure at least one primitive for every layer",
            )
        families = tuple(_family(name) for name in names)
        costs = np.where(costs == 0, np.inf, costs)
        nodes.append(NodeChoices(f"conv{layer + 1}", costs, writes, reads, (layer,), tuple(names), families))
    nodes.append(NodeChoices("output", np.zeros(1), np.zeros(1, int), np.zeros((1, 1), int), (layers,), ("output",)))
    tables = np.full((layers + 2, len(layouts), len(layouts)), np.inf)
    tables[:, range(len(layouts)), range(len(layouts))] = 0.0
    column, factor, note = _output_column(about, layers)
    if note:
        notes.append(note)
    for i, source in enumerate(layouts):
        for j, destination in enumerate(layouts):
            row = moves.get(f"{source}-to-{destination}")
            if i != j and row is not None:
                tables[:layers, i, j] = row
                tables[layers, i, j] = row[column] * factor
    return Tables(Problem(layouts, tuple(nodes), tuple(tables)), tuple(notes))


def _output_column(about: dict[str, np.ndarray], layers: int) -> tuple[int, float, str]:
    """Which layer's input prices transforms of the network's output, by what factor, and what to say about it."""
    wanted = [about.get(key) for key in ("KERNELS", "CHANNELS", "HEIGHT", "WIDTH")]
    if any(row is None for row in wanted):
        return layers - 1, 1.0, "the shape of the output is unknown: its transforms cost what the last input's cost"
    kernels, channels, height, width = (np.asarray(row) for row in wanted)
    stride = about.get("STRIDE", np.ones(layers))[-1] or 1.0
    shape = (kernels[-1], math.ceil(height[-1] / stride), math.ceil(width[-1] / stride))
    alike = [i for i in range(layers) if (channels[i], height[i], width[i]) == shape]
    if alike:
        return alike[-1], 1.0, ""
    elements = channels * height * width
    size = math.prod(shape)
    if size <= 0 or (elements <= 0).any():
        return layers - 1, 1.0, "the shape of the output is unknown: its transforms cost what the last input's cost"
    nearest = int(np.abs(np.log(elements / size)).argmin())
    factor = float(size / elements[nearest])
    return nearest, factor, (
        f"no layer reads a tensor of the output's shape: its transforms cost {factor:.3g} times those of "
        f"layer {nearest + 1}'s input, in proportion to their sizes"
    )  # fmt: skip


def solve_tables(tables: Tables, solver: str = "pbqp") -> dict[str, Any]:
    """The optimum and the plans of others, as JSON data: null where a plan does not exist.

    ``global`` comes from ``solver`` where that is exact, else from PBQP; ``selected``, ``plan`` and ``transforms`` are
    what ``solver`` chose. Raises :class:`UserError` when there is no plan, or for a solver that cannot be used.
    """
    problem = tables.problem
    try:
        chosen = solve(problem, solver)
        best = chosen if solver in _EXACT else solve(problem)
    except Infeasible as error:
        raise UserError(f"no plan has a finite cost: {error}", "add the transforms that are missing") from error
    except ValueError as error:
        raise UserError(f"--solver {solver}: {error}", "choose another solver") from error
    return {
        "global": best.cost_s,
        "local": _cost(problem, "local"),
        "greedy": _cost(problem, "greedy"),
        "sum2d": _of_family(problem, "sum2d"),
        "single": {name: _single(problem, number) for number, name in enumerate(problem.layouts)},
        "optimal": best.optimal,
        "lower_bound": best.lower_bound_s if math.isfinite(best.lower_bound_s) else None,
        "gap": best.gap if math.isfinite(best.gap) else None,
        "solver": best.solver,
        "seconds": best.seconds,
        "selected": {"solver": chosen.solver, "cost": chosen.cost_s},
        "plan": _layers(problem, chosen),
        "transforms": [
            {"after": node.name, "from": problem.layouts[a], "to": problem.layouts[b], "cost": float(table[a, b])}
            for node, table, arcs in
            zip(problem.nodes, problem.transform_s, transforms_of_plan(problem, chosen.choice), strict=True)
            for a, b in arcs
        ],
        "notes": list(tables.notes),
    }  # fmt: skip


def _layers(problem: Problem, solution: Solution) -> list[dict[str, Any]]:
    return [
        {
            "layer": node.name, "primitive": node.labels[c], "in": problem.layouts[int(node.in_layouts[c, 0])],
            "out": problem.layouts[int(node.out_layout[c])], "cost": float(node.costs_s[c]),
        }
        for node, c in zip(problem.nodes[1:-1], solution.choice[1:-1], strict=True)
    ]  # fmt: skip


def _cost(problem: Problem, solver: str) -> float | None:
    try:
        return solve(problem, solver).cost_s
    except Infeasible:
        return None


def _single(problem: Problem, layout: int) -> float | None:
    """The best plan in one layout; None unless every layer has a primitive that stays in it."""
    inside = [np.isfinite(n.costs_s) & (n.out_layout == layout) & (n.in_layouts == layout).all(1)
              for n in problem.nodes[1:-1]]  # fmt: skip
    if not all(mask.any() for mask in inside):
        return None
    allowed = [only_in(problem.nodes[0], layout), *inside, only_in(problem.nodes[-1], layout)]
    try:
        return best_within(problem, allowed, "single").cost_s
    except Infeasible:
        return None


def _of_family(problem: Problem, family: str) -> float | None:
    """The best plan with nothing but one family; None unless it applies to every layer."""
    ends = np.ones(1, dtype=bool)
    inside = [np.array([name == family for name in node.families]) for node in problem.nodes[1:-1]]
    try:
        return solve(restricted(problem, [ends, *inside, ends])).cost_s
    except Infeasible:
        return None


def _family(name: str) -> str:
    return next((family for family in _FAMILIES if family in name.lower()), "other")


def _some(names: list[str]) -> str:
    return ", ".join(repr(n[:60]) for n in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: larger than {_MAX_BYTES >> 20} MiB, more than any such table", _REMEDY)
        with path.open(newline="", encoding="utf-8-sig") as file:
            found = [(number, [cell.strip() for cell in row]) for number, row in enumerate(csv.reader(file), 1)]
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror})",
            "give a folder with algorithms.csv, primitives.csv and transforms.csv",
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table of comma-separated text ({error})", _REMEDY) from error
    return [(number, row) for number, row in found if any(row)]


def _algorithms(path: Path) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for number, row in _rows(path):
        if len(row) != 3 or not all(row):
            raise UserError(f"{path}, line {number}: {len(row)} cells; a row is primitive,input,output", _REMEDY)
        if row[0] in found:
            raise UserError(f"{path}, line {number}: {row[0][:60]!r} occurs twice", "leave one of the rows out")
        found[row[0]] = (row[1], row[2])
    if not found:
        raise UserError(f"{path}: it has no rows", _REMEDY)
    return found


def _numbers(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Rows of costs, and the rows in capitals that describe the layers."""
    costs: dict[str, np.ndarray] = {}
    about: dict[str, np.ndarray] = {}
    width = 0
    for number, row in _rows(path):
        name, cells = row[0], row[1:]
        while cells and not cells[-1]:  # a comma at the end of the line
            cells.pop()
        if name in costs or name in about:
            raise UserError(f"{path}, line {number}: {name[:60]!r} occurs twice", "leave one of the rows out")
        width = width or len(cells)
        if not name or not cells or len(cells) != width:
            raise UserError(f"{path}, line {number}: {len(cells)} numbers where other rows have {width}", _REMEDY)
        try:
            values = np.array([float(cell) for cell in cells])
        except ValueError as error:
            raise UserError(
                f"{path}, line {number} ({name[:60]}): {error}", "give one number for each layer"
            ) from error
        if not np.isfinite(values).all() or (values < 0).any():
            raise UserError(f"{path}, line {number} ({name[:60]}): a number is negative or not finite", _REMEDY)
        (about if name.isupper() else costs)[name] = values
    return costs, about
