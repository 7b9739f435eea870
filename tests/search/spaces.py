"""A small network's candidates with made-up costs: structured like real ones, seeded, and independent of the host."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from te_kernels.machine import Machine
from tests.globalsel import nets
from tvm_globalsel.candidates import candidates_of, transform_tasks
from tvm_globalsel.demands import Demands
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx, prepare
from tvm_globalsel.fuse import simplify
from tvm_globalsel.log import Context, TuningLog, make_record
from tvm_globalsel.measure import Request, Tuning
from tvm_globalsel.search.bounds import Rates
from tvm_globalsel.search.loop import Search
from tvm_globalsel.search.predict import Predictor
from tvm_globalsel.search.space import Space
from tvm_globalsel.selection import costs_from_log, transform_candidates

MACHINE = Machine("llvm", "znver5", 16, 32, 48 << 10, 1 << 20, 32 << 20, 1)
CONTEXT = Context("llvm:test", "made up", 1, "0.27.0.post1")
RATES = Rates(4e-12, 2e-12, 9e-12, 3e-11)


def everything() -> Space:
    """The candidates of ``nets.everything``."""
    imported = import_onnx(prepare(nets.everything()))
    network = simplify(extract(imported.module, imported.names))
    found = candidates_of(network, MACHINE)
    moves = transform_candidates(transform_tasks(network, found), MACHINE)
    choices = costs_from_log(found, [], {}, TuningLog(), CONTEXT).choices
    return Space(network, choices, moves, Demands())


@dataclass
class Bench:
    """Measures made-up kernels: a family is slow or fast on a task, and a candidate deviates a little from that."""

    space: Space
    seed: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        self.predictor = Predictor(self.space.requests, RATES, CONTEXT)
        self.log = TuningLog()
        self.search = Search(self.space, self.predictor, self.log, CONTEXT)
        self.rng = np.random.default_rng(self.seed + 1)
        self.measured: list[int] = []
        self.number = {id(request): i for i, request in enumerate(self.space.requests)}
        self.truth_s = np.array([
            bound * 1.1 + 3e-7 + bound * self._excess(request)
            for bound, request in zip(self.predictor.bound_s, self.space.requests, strict=True)
        ])  # fmt: skip

    def _excess(self, request: Request) -> float:
        kind = zlib.crc32(f"{self.seed} {request.task.key} {request.variant.family}".encode())
        own = zlib.crc32(f"{self.seed} {request.task.key} {request.variant.label}".encode())
        slow = 50.0 if request.variant.family == "sum2d" else 1.0
        return slow * float(
            np.random.default_rng(kind).lognormal(0.0, 0.6) * np.random.default_rng(own).lognormal(0, 0.1)
        )

    def measure(self, requests: list[Request], required: bool = False) -> Tuning:
        """Five blocks each, with noise that only ever slows down."""
        records = []
        for request in requests:
            candidate = self.number[id(request)]
            self.measured.append(candidate)
            blocks = self.truth_s[candidate] * (1 + self.noise * np.abs(self.rng.standard_cauchy(5)).clip(0, 1))
            records.append(make_record(CONTEXT, request.task, request.variant, costs_s=tuple(map(float, blocks))))
        self.log.append(records)
        return Tuning(len(records), 0, 0, 0, 0.0)

    @property
    def optimum_s(self) -> float:
        """Of all candidates."""
        return self.space.best(self.truth_s).cost_s
