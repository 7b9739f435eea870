"""The triNNity tools' own tables of AlexNet as a problem: five convolutions in a chain, chw at both ends."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tvm_globalsel.problem import NodeChoices, Problem

FOLDER = Path(__file__).parents[1] / "data" / "trinnity"
LAYOUTS = ("chw", "hwc", "hcw")


def rows(name: str) -> dict[str, list[str]]:
    with (FOLDER / name).open(newline="") as file:
        return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in csv.reader(file) if row}


def alexnet() -> Problem:
    algorithms, primitives, transforms = (rows(f"{n}.csv") for n in ("algorithms", "primitives", "transforms"))
    layers = len(primitives["KERNELS"])
    boundary = (np.zeros(1, int), np.zeros((1, 1), int))
    nodes = [NodeChoices("input", np.zeros(1), boundary[0], np.zeros((1, 0), int), (), ("input",))]
    reads = np.array([[LAYOUTS.index(read)] for read, _ in algorithms.values()])
    writes = np.array([LAYOUTS.index(write) for _, write in algorithms.values()])
    for layer in range(layers):
        costs = np.array([float(primitives[name][layer]) for name in algorithms])
        nodes.append(
            NodeChoices(
                f"conv{layer + 1}",
                np.where(costs == 0, np.inf, costs),
                writes,
                reads,
                (layer,),
                tuple(algorithms),
                tuple("sum2d" if name == "direct-sum2d" else "other" for name in algorithms),
            )
        )
    nodes.append(NodeChoices("output", np.zeros(1), *boundary, (layers,), ("output",)))
    tables = np.zeros((layers + 2, len(LAYOUTS), len(LAYOUTS)))
    for i, source in enumerate(LAYOUTS):
        for j, destination in enumerate(LAYOUTS):
            if i != j:
                costs = [float(cost) for cost in transforms[f"{source}-to-{destination}"]]
                # a column is a convolution's input tensor; the last output is as large as the third input
                tables[:, i, j] = [*costs, costs[2], 0.0]
    return Problem(LAYOUTS, tuple(nodes), tuple(tables))
