"""Engines on one network, timed in turns, every block between two probes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from tvm_globalsel.bench.catalogue import Hosted
from tvm_globalsel.bench.gauge import Gauge
from tvm_globalsel.bench.process import EngineError, EngineProcess
from tvm_globalsel.verify import relative_error

_TIMEOUT_S = 600.0
_BLOCK_S = 0.12
_MOST_RUNS, _LEAST_RUNS = 60, 4
_SLOW_S = 1.0
_SLOW_BLOCKS = 2
_MEMORY_RUNS = 5


@dataclass(frozen=True)
class Entrant:
    """An engine with a model prepared for it."""

    label: str
    hosted: Hosted
    model: Path
    folder: Path


@dataclass(frozen=True)
class Figures:
    """Of one engine on one network. ``load_s`` and ``rss_bytes`` are medians over fresh processes."""

    median_s: float
    min_s: float
    runs: int
    max_rel_error: float
    import_s: float
    load_s: float
    rss_bytes: int


@dataclass
class _Racer:
    """An engine while it is being timed."""

    entrant: Entrant
    process: EngineProcess
    threads: int
    error: float = math.inf
    seconds: list[float] = field(default_factory=list)
    imports: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    once_s: float = 0.0
    blocks: int = 0

    def block(self) -> list[float]:
        """Seconds of one block's runs; fewer of them, unwarmed, where a run takes long."""
        runs = max(_LEAST_RUNS, min(_MOST_RUNS, int(_BLOCK_S / max(1e-6, self.once_s))))
        if self.once_s > _SLOW_S:
            runs = 1
        warm = 0 if self.once_s > _SLOW_S else runs // 4 + 1
        seconds: list[float] = self.process.ask(_TIMEOUT_S, time=runs, warm=warm)["seconds"]
        self.process.settle()
        return seconds


def race(
    entrants: list[Entrant], inputs: dict[str, np.ndarray], expected: tuple[np.ndarray, ...], threads: int,
    gauge: Gauge, rounds: int, loads: int, folder: Path, say: Callable[[str], None],
) -> tuple[dict[str, Figures], dict[str, str]]:  # fmt: skip
    """Figures of every entrant by label, and why others have none. ``loads`` fresh processes are started for each.

    Engines take turns so that drift hits all alike; the order is turned by one with every round.
    """
    np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]
    racers: list[_Racer] = []
    missing: dict[str, str] = {}
    os.sync()  # folders that were compiled a moment ago are still being written to the disk
    try:
        for turn in range(loads):
            for entrant in entrants:
                if entrant.label in missing:
                    continue
                try:
                    racer = _started(entrant, threads, folder, expected if turn == 0 else None)
                except EngineError as error:
                    missing[entrant.label] = str(error)
                    continue
                if turn == 0:
                    racers.append(racer)
                else:
                    first = next(r for r in racers if r.entrant is entrant)
                    first.imports += racer.imports
                    first.loads += racer.loads
                    first.memory += racer.memory
                    racer.process.close()
        for turn in range(rounds):
            say(f"round {turn + 1} of {rounds}")
            start = turn % max(1, len(racers))
            for racer in [*racers[start:], *racers[:start]]:
                _take_turn(racer, gauge, missing)
        results = {r.entrant.label: _figures(r) for r in racers if r.entrant.label not in missing}
    finally:
        for racer in racers:
            racer.process.close()
    return results, missing


def _started(entrant: Entrant, threads: int, folder: Path, expected: tuple[np.ndarray, ...] | None) -> _Racer:
    """A loaded engine that has run a few times; its outputs compared where ``expected`` is given."""
    process = EngineProcess(entrant.hosted, threads)
    try:
        racer = _Racer(entrant, process, threads)
        answer = process.ask(
            _TIMEOUT_S, load=str(entrant.model), folder=str(entrant.folder), threads=threads,
            inputs=str(folder / "inputs.npz"),
        )  # fmt: skip
        racer.imports.append(answer["import_s"])
        racer.loads.append(answer["load_s"])
        if expected is not None:
            process.ask(_TIMEOUT_S, run=str(folder / "outputs.npz"))
            racer.error = _error(folder / "outputs.npz", expected)
        (racer.once_s,) = process.ask(_TIMEOUT_S, time=1, warm=1)["seconds"]
        if racer.once_s < _SLOW_S:
            racer.once_s = min(process.ask(_TIMEOUT_S, time=_MEMORY_RUNS, warm=0)["seconds"])
        racer.memory.append(process.ask(_TIMEOUT_S, memory=True)["rss_bytes"])
    except BaseException:
        process.close()
        raise
    return racer


def _error(written: Path, expected: tuple[np.ndarray, ...]) -> float:
    with np.load(written, allow_pickle=False) as file:
        got = [file[str(i)] for i in range(len(file.files))]
    if len(got) != len(expected):
        raise EngineError(f"it has {len(got)} outputs, the model {len(expected)}")
    for array, wanted in zip(got, expected, strict=True):
        if array.size != wanted.size:
            raise EngineError(f"an output has the shape {list(array.shape)}, not {list(wanted.shape)}")
    # engines differ in whether they keep axes of size 1
    return max(relative_error(a.reshape(w.shape), w) for a, w in zip(got, expected, strict=True))


def _take_turn(racer: _Racer, gauge: Gauge, missing: dict[str, str]) -> None:
    label = racer.entrant.label
    if label in missing or (racer.once_s > _SLOW_S and racer.blocks >= _SLOW_BLOCKS):
        return
    try:
        seconds, _ = gauge.undisturbed(racer.block, racer.process.cpu_share)
    except EngineError as error:
        missing[label] = str(error)
        return
    racer.seconds += seconds
    racer.blocks += 1


def _figures(racer: _Racer) -> Figures:
    return Figures(
        median(racer.seconds), min(racer.seconds), len(racer.seconds), racer.error, median(racer.imports),
        median(racer.loads), int(median(racer.memory)),
    )  # fmt: skip
