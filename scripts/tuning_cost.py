"""Plan quality against measuring time: the search beside measuring everything, in the compiler's order and at random.

usage: scripts/tuning_cost NET_OR_MODEL.onnx ... [--replay LOG] [--tolerance T] [--budget S] [--plot FILE.png]

NET is one of the light networks that ship with the ``onnx`` package (seeded weights). With ``--replay`` nothing is
measured: costs, and the seconds each measurement took, come from a log that holds (nearly) all candidates; half a
second for each round, and the search's own CPU time, are added. The candidates are then those of the log; the search
starts without any record, or with those of ``--known LOG`` that are not of the network's own tasks.
Live, every strategy measures into a log of its own, one after the other, for ``--budget`` seconds each; all plans are
then priced alike, a kernel by the median of all that was measured of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import tvm

from te_kernels.machine import Machine, describe, host_target
from tvm_globalsel.candidates import Candidates, candidates_of, measuring_order, transform_tasks
from tvm_globalsel.demands import Demands
from tvm_globalsel.device import device_name, target_identity
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx, load_model, prepare
from tvm_globalsel.fuse import simplify
from tvm_globalsel.listing import where_weights_lie
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.measure import Measurer, Request, Tuning, tune
from tvm_globalsel.search import trace
from tvm_globalsel.search.bounds import Rates, machine_rates
from tvm_globalsel.search.loop import Search
from tvm_globalsel.search.predict import Predictor
from tvm_globalsel.search.replay import Replay
from tvm_globalsel.search.space import Space
from tvm_globalsel.selection import costs_from_log, transform_candidates

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
EXHAUSTIVE_WAVE = 96


@dataclasses.dataclass(frozen=True)
class Job:
    """A network's candidates, and everything needed to search them."""

    name: str
    space: Space
    context: Context
    found: list[Candidates]
    machine: Machine
    target: tvm.target.Target


def job(net: str, threads: int, full: TuningLog | None) -> Job:
    path = Path(net) if net.endswith(".onnx") else LIGHT / f"light_{net}.onnx"
    seed = None if net.endswith(".onnx") else 0  # the light networks ship with constant weights
    imported = import_onnx(prepare(load_model(path), {}, seed), net)
    network = simplify(extract(imported.module, imported.names))
    target = host_target(threads)
    machine = describe(target, threads)
    weights = where_weights_lie(network, machine)
    context = Context(target_identity(target), device_name(), threads, tvm.__version__, weights)
    log = TuningLog()
    keep: Callable[[Candidates], Candidates] = Replay(full, log, context).only_known if full else lambda c: c
    found = {key: keep(c) for key, c in candidates_of(network, machine).items()}
    moves = transform_tasks(network, found)
    move_candidates = {key: keep(c) for key, c in transform_candidates(moves, machine).items()}
    choices = costs_from_log(found, moves, move_candidates, log, context).choices
    space = Space(network, choices, move_candidates, Demands())
    return Job(net, space, context, [*found.values(), *move_candidates.values()], machine, target)


def orders(work: Job, seeds: int) -> dict[str, list[int]]:
    """Everything in the compiler's own order, and in random ones."""
    number = {(r.task.key, r.variant): i for i, r in enumerate(work.space.requests)}
    first = [number[task.key, v] for task, v in measuring_order(work.found) if (task.key, v) in number]
    rest = [i for i in range(len(work.space)) if i not in set(first)]
    shuffled = {f"random {s}": list(map(int, np.random.default_rng(s).permutation(len(work.space))))
                for s in range(seeds)}  # fmt: skip
    return {"exhaustive": first + rest, **shuffled}


def runs(work: Job, args: argparse.Namespace, full: TuningLog | None, rates: Rates) -> dict[str, list[trace.Point]]:
    """Points of every strategy."""
    results, blocks = {}, [list[float]() for _ in work.space.requests]
    names = {"search": None, **orders(work, args.random)}
    for name, order in names.items():
        log = TuningLog()
        if full is not None:
            replay = Replay(full, log, work.context)
            started = time.process_time()
            computing = name == "search"  # its own work counts, solving after every wave of the others does not
            clock = lambda r=replay, c=computing, t=started: r.seconds + (time.process_time() - t if c else 0.0)  # noqa: E731
            measure = replay.measure
        else:
            measurer, clock = Measurer(work.target, work.machine, work.context), time.monotonic

            def measure(requests: list[Request], required: bool, m: Measurer = measurer, g: TuningLog = log) -> Tuning:
                return tune(requests, g, m, args.budget, required=len(requests))

        if args.known and name == "search":
            own = {c.task.key for c in work.found}
            others = (r for r in TuningLog(args.known) if _key(r.task) not in own)
            log.append(list(others))
        state = Search(work.space, Predictor(work.space.requests, rates, work.context), log, work.context)
        if order is None:
            results[name], found = trace.of_search(state, measure, clock, args.tolerance, args.budget)
            print(f"{work.name}: stopped after {found.rounds} rounds, proven gap {_percent(found.proven_gap)}, "
                  f"estimated {_percent(found.estimated_gap)}", flush=True)  # fmt: skip
        else:
            results[name] = trace.of_order(state, work.space, order, EXHAUSTIVE_WAVE, measure, clock, args.budget)
        for request, every in zip(work.space.requests, blocks, strict=True):
            record = log.get(work.context.key(request.task, request.variant))
            every += record.costs_s if record is not None and record.error is None else ()
    costs_s = np.array([np.median(every) if every else np.inf for every in blocks])
    return {name: trace.repriced(points, work.space, costs_s) for name, points in results.items()}


def _key(task: dict[str, object]) -> str:
    return json.dumps(task, separators=(",", ":"))


def _percent(gap: float | None) -> str:
    return "-" if gap is None else f"{gap:.2%}"


def table(work: Job, results: dict[str, list[trace.Point]]) -> float:
    """Prints the rows; returns the optimum, the best that any strategy has found."""
    best = min(point.cost_s for points in results.values() for point in points)
    whole = results["exhaustive"][-1]
    for name, points in results.items():
        last, near = points[-1], trace.reached(points, 1.01 * best)
        within = f"{near.seconds:.0f} s ({near.seconds / whole.seconds:.0%})" if near else "never"
        print(f"| {work.name} | {name} | {last.kernels} | {last.seconds:.0f} | {last.seconds / whole.seconds:.0%} | "
              f"+{last.cost_s / best - 1:.2%} | {within} |", flush=True)  # fmt: skip
    return best


def plot(path: Path, everything: dict[str, tuple[float, dict[str, list[trace.Point]]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(everything), figsize=(5 * len(everything), 4), squeeze=False)
    for axis, (net, (best, results)) in zip(axes[0], everything.items(), strict=True):
        for name, points in results.items():
            shown = [(p.seconds, 100 * (p.cost_s / best - 1)) for p in points if np.isfinite(p.cost_s)]
            axis.step(*zip(*shown, strict=True), where="post", label=name, alpha=0.4 if "random" in name else 1.0)
        axis.set(
            title=net, xlabel="seconds of measuring", ylabel="% above the best plan", yscale="symlog", ylim=(0, None)
        )
        axis.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="+")
    parser.add_argument("--replay", type=Path, metavar="LOG")
    parser.add_argument("--known", type=Path, metavar="LOG", help="records of other networks that the search may use")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds of each strategy")
    parser.add_argument("--random", type=int, default=2, help="random orders (default 2)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="needs matplotlib (the extra 'plots')")
    args = parser.parse_args()
    full = TuningLog(args.replay) if args.replay else None
    everything = {}
    header = "| network | strategy | kernels | s | of exhaustive | above the best | within 1 % after |"
    for net in args.nets:
        work = job(net, args.threads, full)
        known = TuningLog()  # rates of this machine, unless the log has them; the file is not written to
        known.append(list(full or ()))
        rates = machine_rates(known, work.target, work.machine, work.context)
        results = runs(work, args, full, rates)
        print(f"{header}\n|{' --- |' * 7}")
        everything[net] = table(work, results), results
    if args.plot:
        plot(args.plot, everything)
        print(f"wrote {args.plot}")


if __name__ == "__main__":
    main()
