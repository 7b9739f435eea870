"""Whole networks against other engines: what ``globalsel bench`` does, in order."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from te_kernels.machine import describe, host_target
from tvm_globalsel.bench.catalogue import Hosted, find
from tvm_globalsel.bench.gauge import Gauge, stay_on_cpus
from tvm_globalsel.bench.prepared import Cache, Model, default_cache, our_entrant, peer_entrant, static_model
from tvm_globalsel.bench.process import EngineError
from tvm_globalsel.bench.race import Entrant, Figures, race
from tvm_globalsel.bench.reference import reference
from tvm_globalsel.environment import environment
from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.onnx import load_model, random_inputs
from tvm_globalsel.options import Options

PEERS = ("onnxruntime", "openvino", "torch", "ncnn", "mnn", "tflite", "tvm")
#: TVM's setting of how long idle threads spin.
_SPIN = "TVM_THREAD_POOL_SPIN_COUNT"
#: An engine whose result is further off than this has not computed the network.
_WRONG = 0.05


@dataclass(frozen=True)
class BenchOptions:
    """``compiling`` are the options of our own compilations; ``loads`` fresh processes measure loading and memory."""

    compiling: Options
    against: tuple[str, ...] = PEERS
    selections: tuple[str, ...] = ("global",)
    batch: int | None = None
    rounds: int = 8
    loads: int = 1
    pythons: tuple[str, ...] = ()
    cache: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class NetworkResult:
    """One network. ``missing`` says why engines have no figures; ``peak_gflops`` is that of all threads together."""

    model: str
    threads: int
    batch: int
    gflop: float
    peak_gflops: float
    engines: dict[str, Figures] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def best_peer(self) -> str | None:
        """The engine with the lowest median that is not ours."""
        peers = {label: f.median_s for label, f in self.engines.items() if not is_ours(label)}
        return min(peers, key=peers.__getitem__, default=None)

    def speedup(self, label: str) -> float | None:
        """Of one engine over the best peer."""
        if self.best_peer is None or label not in self.engines:
            return None
        return self.engines[self.best_peer].median_s / self.engines[label].median_s


def is_ours(label: str) -> bool:
    """Whether this is one of our own plans."""
    return label.split(" ")[0] == "globalsel"


@dataclass(frozen=True)
class _Ready:
    model: Model
    entrants: list[Entrant]
    missing: dict[str, str]


def bench(
    models: list[Path], options: BenchOptions, say: Callable[[str], None],
    report: Callable[[NetworkResult], None], progress: Callable[[int, int, str], None] | None = None,
) -> int:  # fmt: skip
    """Compile and convert everything, then time network by network; ``report`` gets each result at once.

    Returns how many blocks found no undisturbed moment and stand as they are.

    Raises :class:`UserError` for a model that cannot be compiled or read, and for a thread count that the machine
    does not have: engines that share CPUs measure nothing.
    """
    threads, available = options.compiling.threads, len(os.sched_getaffinity(0))
    if threads > available:
        raise UserError(f"--threads {threads}: only {available} CPU(s) may be used here", "bench with fewer threads")
    hosted, missing = find(list(options.against), list(dict.fromkeys([sys.executable, *options.pythons])))
    cache = Cache(options.cache or default_cache())
    ready = [_ready(path, options, hosted, missing, cache, say, progress) for path in models]

    stay_on_cpus(threads)
    gauge = _gauge(threads)
    for one in ready:
        report(_raced(one, options, gauge, say))
    return gauge.slowed_blocks


def _gauge(threads: int) -> Gauge:
    """The probe's idle threads must not spin beside an engine for long; engines keep their own setting."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
    with environment(_SPIN, "1000"):  # until the first probe has started the threads
        target = host_target(threads)
        return Gauge(target, describe(target, threads), threads)


def _ready(
    path: Path, options: BenchOptions, hosted: list[Hosted], missing: dict[str, str], cache: Cache,
    say: Callable[[str], None], progress: Callable[[int, int, str], None] | None,
) -> _Ready:  # fmt: skip
    compiling = options.compiling
    model = static_model(path, compiling, options.batch, cache)
    callbacks: dict[str, Any] = {"progress": progress, "say": lambda text: say(f"{model.name}: {text}")}
    entrants, absent = [], dict(missing)
    for selection in options.selections:
        entrants.append(our_entrant(model, selection, compiling, cache, callbacks))
    for one in hosted:
        say(f"{model.name}: preparing {one.engine.name}")
        try:
            entrants.append(peer_entrant(model, one, compiling.threads, cache))
        except EngineError as error:
            absent[one.engine.name] = str(error)
    return _Ready(model, entrants, absent)


def _raced(ready: _Ready, options: BenchOptions, gauge: Gauge, say: Callable[[str], None]) -> NetworkResult:
    model, threads = ready.model, options.compiling.threads
    proto = load_model(model.path)
    inputs = random_inputs(proto, options.seed)
    say(f"{model.name}: reference in float64")
    expected = reference(proto, inputs, model.name)
    with tempfile.TemporaryDirectory(prefix="globalsel-bench-") as folder:
        engines, failed = race(
            ready.entrants, inputs, expected.outputs, threads, gauge, options.rounds, options.loads, Path(folder),
            lambda text: say(f"{model.name}: {text}"),
        )  # fmt: skip
    for label in [label for label, figures in engines.items() if not figures.max_rel_error <= _WRONG]:
        failed[label] = f"wrong result: relative error {engines.pop(label).max_rel_error:.1e}"
    batch = next(iter(inputs.values())).shape[0] if inputs else 1
    return NetworkResult(
        model.name, threads, batch, expected.gflop, gauge.peak_gflops, engines, {**ready.missing, **failed}
    )
