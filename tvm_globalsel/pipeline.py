"""The whole compiler as one readable list of phases. Data flows one way; ``dump_dir`` keeps every phase's artefact."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import tvm

from te_kernels.gpu import FLOAT32, Gpu, dtype_of, machine_of
from te_kernels.machine import Machine, host_target
from te_kernels.task import Task, TransformTask
from te_kernels.variant import Variant
from tvm_globalsel import build as building
from tvm_globalsel.candidates import (
    Candidates,
    candidates_of,
    layouts_and_families,
    measuring_order,
    refinements,
    transform_tasks,
    with_kernels,
)
from tvm_globalsel.demands import Demands, account, answer, restrict, unlimited
from tvm_globalsel.device import device_name, warn_of_threads
from tvm_globalsel.devices import choose_device, known_of
from tvm_globalsel.errors import UserError, located
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx
from tvm_globalsel.frontends.read import read_model
from tvm_globalsel.fuse import simplify
from tvm_globalsel.graph import Network, weight_bytes
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.logs.trust import consult
from tvm_globalsel.measure import Measurer, Progress, Request, Tuning, tune
from tvm_globalsel.memory_plan import arena_bytes
from tvm_globalsel.offline import gpu_context, log_target, predictor, tuning_from_log
from tvm_globalsel.plan import PLAN, make_plan
from tvm_globalsel.precision import in_precision
from tvm_globalsel.remote import remote_devices
from tvm_globalsel.rewrite import lower_transforms, rewrite
from tvm_globalsel.runtime import fingerprint
from tvm_globalsel.search.live import search
from tvm_globalsel.search.loop import Found
from tvm_globalsel.search.space import Space
from tvm_globalsel.selection import (
    Costs,
    Selection,
    build_problem,
    costs_from_log,
    interpret,
    transform_candidates,
)
from tvm_globalsel.solve import refuse_unknown
from tvm_globalsel.weights import WEIGHTS, write_weights

if TYPE_CHECKING:
    from tvm_globalsel.limits import Point


@dataclass(frozen=True)
class Options:
    """What a compilation may be told.

    ``target`` is ``"host"`` or a TVM target as JSON or tag; ``budget_s`` bounds the time spent measuring;
    ``tuning_log`` is the log file (None: the user's cache folder); ``device`` whose measurements in it count (None:
    this machine's; for another target than the host's see ``devices``); with ``trust_log``, what it holds of other
    machines, thread counts or versions is used too; with ``rpc_tracker`` (``HOST:PORT``), kernels are measured on the
    devices that registered there with ``rpc_key``; ``weights`` is a Caffe network's ``.caffemodel``; ``demands`` are
    side constraints on the plan. ``precision`` is what a CUDA network computes in: float32, or float16 with sums in
    float32.
    Measuring ends when no plan is estimated to be better by more than ``tolerance``, a part of the plan's time;
    ``exhaustive`` measures all candidates instead, as do other solvers than exact ones, limits, and remote devices.
    """

    target: str = "host"
    precision: str = FLOAT32
    threads: int = 1
    tuning_log: Path | None = None
    trust_log: bool = False
    budget_s: float = 300.0
    solver: str = "pbqp"
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    seed_weights: int | None = None
    weights: Path | None = None
    dump_dir: Path | None = None
    device: str | None = None
    rpc_tracker: str | None = None
    rpc_key: str | None = None
    demands: Demands = field(default_factory=Demands)
    tolerance: float = 0.01
    exhaustive: bool = False

    @property
    def searches(self) -> bool:
        """Whether only what can change the answer is measured.

        That is known for the fastest plan only: other solvers and limits compare candidates that it never needs.
        And it is known of this machine only, whose rates bound the candidates' times from below.
        """
        limited = self.demands.max_memory_bytes is not None or self.demands.max_error is not None
        here = self.rpc_tracker is None
        return here and not self.exhaustive and self.solver in ("pbqp", "milp") and not limited


Say = Callable[[str], None]

#: Host code beside CUDA kernels: what every x86-64 server of the last ten years runs.
CUDA_HOST = {"kind": "llvm", "mcpu": "x86-64-v3"}


@dataclass(frozen=True)
class Selected:
    """A network with its measured choices and the exact answer."""

    network: Network
    costs: Costs
    selection: Selection
    tuning: Tuning
    rejections: dict[str, tuple[tuple[str, str], ...]]
    machine: Machine | Gpu
    target: tvm.target.Target
    context: Context
    demands: Demands
    arena_bytes: int | None = None
    search: Found | None = None


@dataclass(frozen=True)
class Compiled:
    """Result of :func:`compile`: the deployable folder and its plan."""

    folder: Path
    plan: dict[str, Any]


def compile(
    model: str | Path | onnx.ModelProto,
    output: str | Path,
    options: Options | None = None,
    progress: Progress | None = None,
    say: Say = lambda text: None,
) -> Compiled:
    """Compile an ONNX model or a Caffe network into ``output``: ``model.so``, ``weights.bin`` and ``plan.json``.

    Raises :class:`UserError` with a message that names what was wrong, where, and what to do.
    """
    options = options or Options()
    label = str(model) if not isinstance(model, onnx.ModelProto) else model.graph.name or "model"
    folder = writable_folder(Path(output))
    prepared = read_model(model, options.shapes, options.seed_weights, options.weights)
    imported = import_onnx(prepared, label)
    dump = Dump(options.dump_dir)
    dump.module("1-imported", imported.module)
    selected = select(imported.module, options, imported.names, progress, say, dump, label)
    selected, lowered = fit(selected, options.solver, dump)
    say("building and exporting the module")
    built = building.build_apart(lowered, selected.target)
    plan = make_plan(selected, label, imported.input_names, imported.output_names, options.seed_weights)
    deploy(built, plan, folder)
    return Compiled(folder, plan)


@dataclass(frozen=True)
class Listing:
    """A network with everything that could be measured for it, before anything is."""

    network: Network
    found: dict[str, Candidates]
    moves: list[TransformTask]
    move_candidates: dict[str, Candidates]
    weights: str

    @property
    def everything(self) -> list[Candidates]:
        """Candidates of all tasks that take time, operators first."""
        return [with_kernels(c) for c in (*self.found.values(), *self.move_candidates.values())]


def list_candidates(network: Network, machine: Machine | Gpu) -> Listing:
    """Everything that could be measured for a network."""
    found = candidates_of(network, machine)
    moves = transform_tasks(network, found)
    weights = "cache" if weight_bytes(network) <= machine.l3_bytes // 2 else "memory"
    return Listing(network, found, moves, transform_candidates(moves, machine), weights)


def select(
    module: tvm.IRModule, options: Options, names: dict[str, list[str]] | None = None,
    progress: Progress | None = None, say: Say = lambda text: None, dump: Dump | None = None, label: str = "",
) -> Selected:  # fmt: skip
    """Relax to a selected plan: extract, list candidates, measure, solve. ``label`` names the model in errors."""
    dump = dump or Dump(None)
    target = parse_target(options.target, options.threads)
    machine = describe_target(target, options)
    device = device_name()
    remote = None  # this machine is measured
    if isinstance(machine, Machine):
        remote = remote_devices(options.rpc_tracker, options.rpc_key)
        if remote is None:
            warn_of_threads(options.threads)
        else:
            machine, device = remote.describe(machine, target)
    log = TuningLog(options.tuning_log or default_log())

    with located(label):
        network = in_precision(simplify(extract(module, names)), dtype_of(machine))
    listing = list_candidates(network, machine)
    found, moves = listing.found, listing.moves
    dump.text("2-network", "\n".join(f"{o.name} = {o.task}({', '.join(o.inputs)})" for o in network.operators))
    here = gpu_context(machine, options.target, "").device if isinstance(machine, Gpu) else device
    foreign = options.target != "host" and remote is None
    identity = log_target(machine, target)
    device = choose_device(log, identity, machine.threads, options.device, here, foreign)
    context = Context(identity, device, machine.threads, tvm.__version__, listing.weights)
    consult(log, context.origin, options.trust_log, say)
    refuse_unknown(options.solver, *layouts_and_families(found.values()))
    say(f"{len(network.operators)} operators, {len(found)} distinct tasks, {len(moves)} layout transforms")
    found_by_search: Found | None = None
    if isinstance(machine, Gpu):
        tuning = tuning_from_log(listing.everything, log, context, options.target, options.budget_s)
    elif device != here:  # nothing can be measured here
        tuning = known_of(listing.everything, log, context)
        say(f"measurements of {device}: {tuning.known} in the log, {tuning.skipped} not")
    elif options.searches:
        known = costs_from_log(found, moves, listing.move_candidates, log, context).choices
        space = Space(network, known, listing.move_candidates, options.demands)
        measurer = Measurer(target, machine, context, remote)
        found_by_search = search(space, log, measurer, options.tolerance, options.budget_s, progress)
        tuning = found_by_search.tuning
    else:
        tuning = _tune(listing.everything, log, Measurer(target, machine, context, remote), options.budget_s, progress)
    predict = predictor(machine) if isinstance(machine, Gpu) else None
    costs = costs_from_log(found, moves, listing.move_candidates, log, context, predict)
    problem = build_problem(network, costs)
    problem = restrict(network, costs, problem, options.demands)
    solution = answer(network, costs, problem, options.demands, options.solver)
    dump.text("3-solution", f"{solution}")
    selection = interpret(network, costs, problem, solution)
    rejections = {key: tuple((r.variant, r.reason) for r in c.rejections) for key, c in found.items()}
    return Selected(network, costs, selection, tuning, rejections, machine, target, context, options.demands,
                    search=found_by_search)  # fmt: skip


def pareto(
    model: str | Path | onnx.ModelProto, options: Options | None = None, points: int = 8,
    progress: Progress | None = None, say: Say = lambda text: None,
) -> tuple[list[Point], list[Point]]:  # fmt: skip
    """The fronts of time against peak memory and against accumulated error, ``points`` plans each at most.

    Measures as :func:`compile` does; pins and prohibitions of ``options.demands`` hold, its limits are left out.
    """
    from tvm_globalsel.limits import error_front, memory_front  # scipy is slow to import, and few need it

    options = options or Options()
    options = dataclasses.replace(options, solver="pbqp", demands=unlimited(options.demands), exhaustive=True)
    label = str(model) if not isinstance(model, onnx.ModelProto) else model.graph.name or "model"
    imported = import_onnx(read_model(model, options.shapes, options.seed_weights, options.weights), label)
    selected = select(imported.module, options, imported.names, progress, say, label=label)
    needs = account(selected.network, selected.costs, selected.selection.problem)
    seconds = options.demands.time_limit_s
    say("solving for time against memory")
    by_memory = memory_front(needs, points, seconds)
    say("solving for time against error")
    return by_memory, error_front(needs, points, seconds)


def _tune(
    everything: list[Candidates], log: TuningLog, measurer: Measurer, budget_s: float, progress: Progress | None
) -> Tuning:
    """Measure the first instance of every variant, then further knobs of those that came near the best."""

    def cost_s(task: Task, variant: Variant) -> float:
        record = log.get(measurer.context.key(task, variant))
        return record.cost_s if record else math.inf

    ordered = [Request(t, v) for t, v in measuring_order(everything)]
    tasks = sum(bool(candidates.variants) for candidates in everything)
    first = tune(ordered, log, measurer, budget_s, progress, required=tasks)
    more = [Request(t, v) for t, v in refinements(everything, cost_s)]
    if first.skipped:
        return dataclasses.replace(first, skipped=first.skipped + len(more))
    return first + tune(more, log, measurer, budget_s - first.seconds, progress)


def lower(selected: Selected, dump: Dump | None = None) -> tvm.IRModule:
    """The selected plan as Relax with scheduled kernels only."""
    dump = dump or Dump(None)
    rewritten = rewrite(selected.network, selected.selection, selected.machine)
    dump.module("4-rewritten", rewritten)
    lowered = lower_transforms(rewritten, lambda task: selected.costs.transforms[task.key].variant, selected.machine)
    dump.module("5-lowered", lowered)
    return lowered


def fit(selected: Selected, solver: str, dump: Dump | None = None) -> tuple[Selected, tvm.IRModule]:
    """The lowered plan, under ``--max-memory`` another one should addresses need more than what the model counts.

    The selection counts what is live. Memory that is made early for a concatenation in place, or lost between
    neighbours of unequal size, is known when there are addresses: the excess then tightens the limit.
    """
    if isinstance(selected.machine, Gpu):
        return selected, lower(selected, dump)  # TVM's planner lays memory out, inside of the captured graph
    limit = selected.demands.max_memory_bytes
    tightened = selected.demands
    while True:
        lowered = lower(selected, dump)
        problem, solution = selected.selection.problem, selected.selection.solution
        peak = account(selected.network, selected.costs, problem, solution).peak(solution)
        arena = arena_bytes(lowered)
        excess = 0 if limit is None else arena + peak.workspace_bytes + peak.weight_bytes - limit
        if excess <= 0 or tightened.max_memory_bytes is None:
            return dataclasses.replace(selected, arena_bytes=arena), lowered
        tightened = dataclasses.replace(tightened, max_memory_bytes=tightened.max_memory_bytes - excess)
        solution = answer(selected.network, selected.costs, problem, tightened, solver)
        again = interpret(selected.network, selected.costs, problem, solution)
        selected = dataclasses.replace(selected, selection=again)


def deploy(built: building.Built, plan: dict[str, Any], folder: Path) -> None:
    """Write ``model.so``, ``weights.bin`` and ``plan.json``; the folder changes only when all are complete."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
        library = building.export(built.executable, Path(temporary))
        record = write_weights(built.weights, Path(temporary) / WEIGHTS)
        plan = {**plan, "library": fingerprint(library), "weights": record}
        (Path(temporary) / PLAN).write_text(json.dumps(plan, indent=1, allow_nan=False) + "\n")
        for name in (building.LIBRARY, WEIGHTS, PLAN):
            os.replace(Path(temporary) / name, folder / name)


def writable_folder(folder: Path) -> Path:
    """The folder, made if need be; raises :class:`UserError` before any work is done when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write into the output folder ({error.strerror})", "choose another one with -o"
        ) from error
    return folder.resolve()


def parse_target(text: str, threads: int) -> tvm.target.Target:
    """``host``, a tag, or a target as JSON."""
    if text == "host":
        return host_target(threads)
    try:
        target = tvm.target.Target(json.loads(text) if text.lstrip().startswith("{") else text)
    except Exception as error:  # TVM raises many types for a bad target
        raise UserError(
            f"--target {text!r} is not a TVM target ({str(error).strip().splitlines()[-1][:120]})",
            'use \'host\', a tag, or JSON such as \'{"kind": "llvm", "mcpu": "haswell"}\'',
        ) from error
    if target.kind.name == "cuda":
        return tvm.target.Target(target, host=tvm.target.Target(CUDA_HOST)) if target.host is None else target
    if target.kind.name != "llvm":
        raise UserError(f"--target {text!r}: neither an llvm nor a cuda target", "use 'host', or a target such as "
                        "nvidia/nvidia-h100")  # fmt: skip
    return target


def describe_target(target: tvm.target.Target, options: Options) -> Machine | Gpu:
    """The machine model of a target, or :class:`UserError`."""
    try:
        return machine_of(target, options.threads, options.precision)
    except ValueError as error:
        raise UserError(f"--target {options.target!r}: {error}", "choose another target or --precision") from error


def default_log() -> Path:
    """The user's own tuning log."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tvm-globalsel" / "tuning.jsonl"


class Dump:
    """Writes each phase's artefact into a folder, or nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = writable_folder(folder) if folder is not None else None
        self._start = time.monotonic()

    def text(self, name: str, text: str) -> None:
        """A text file."""
        if self._folder is not None:
            (self._folder / f"{name}.txt").write_text(text + "\n")

    def module(self, name: str, module: tvm.IRModule) -> None:
        """A module as TVMScript, constants omitted."""
        if self._folder is not None:
            (self._folder / f"{name}.py").write_text(module.script(show_meta=False))
