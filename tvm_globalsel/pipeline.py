"""The whole compiler as one readable list of phases. Data flows one way; ``dump_dir`` keeps every phase's artefact."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import tvm

from te_kernels.gpu import Gpu, dtype_of
from te_kernels.machine import Machine
from tvm_globalsel.build import build_apart
from tvm_globalsel.candidates import layouts_and_families
from tvm_globalsel.demands import account, unlimited
from tvm_globalsel.deploy import deploy, writable_folder
from tvm_globalsel.device import device_name, warn_of_threads
from tvm_globalsel.devices import choose_device, known_of
from tvm_globalsel.dump import Dump
from tvm_globalsel.errors import located
from tvm_globalsel.exhaustive import tune_exhaustively
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx
from tvm_globalsel.frontends.read import read_model
from tvm_globalsel.fuse import simplify
from tvm_globalsel.inside import priced_inside
from tvm_globalsel.listing import list_candidates
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.logs.trust import consult
from tvm_globalsel.lowering import fit
from tvm_globalsel.measure import Measurer, Progress
from tvm_globalsel.offline import gpu_context, log_target, predictor, tuning_from_log
from tvm_globalsel.options import Options, Say, default_log
from tvm_globalsel.plan import make_plan
from tvm_globalsel.precision import in_precision
from tvm_globalsel.remote import remote_devices
from tvm_globalsel.search.live import search
from tvm_globalsel.search.loop import Found
from tvm_globalsel.search.space import Space
from tvm_globalsel.selected import Selected, solved
from tvm_globalsel.selection import costs_from_log
from tvm_globalsel.settle import refuse_elsewhere, settle
from tvm_globalsel.solve import refuse_unknown
from tvm_globalsel.targets import describe_target, parse_target

if TYPE_CHECKING:
    from tvm_globalsel.limits import Point


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
    refuse_elsewhere(options)
    label = str(model) if not isinstance(model, onnx.ModelProto) else model.graph.name or "model"
    folder = writable_folder(Path(output))
    prepared = read_model(model, options.shapes, options.seed_weights, options.weights)
    imported = import_onnx(prepared, label)
    dump = Dump(options.dump_dir)
    dump.module("1-imported", imported.module)
    selected = select(imported.module, options, imported.names, progress, say, dump, label)
    selected, lowered = fit(selected, dump)
    say("building and exporting the module")
    built = build_apart(lowered, selected.target)

    def plan_of(chosen: Selected) -> dict[str, Any]:
        return make_plan(chosen, label, imported.input_names, imported.output_names, options.seed_weights)

    if options.refine:
        selected, built = settle(selected, built, options.refine, options.tolerance, plan_of, say)
    plan = plan_of(selected)
    deploy(built, plan, folder)
    return Compiled(folder, plan)


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
    network, found, moves = listing.network, listing.found, listing.moves
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
        measurer = Measurer(target, machine, context, remote)
        tuning = tune_exhaustively(listing.everything, log, measurer, options.budget_s, progress)
    predict = predictor(machine) if isinstance(machine, Gpu) else None
    costs = costs_from_log(found, moves, listing.move_candidates, log, context, predict)
    costs = priced_inside(costs, log, context.origin)
    selection = solved(network, costs, options.demands, options.solver)
    dump.text("3-solution", f"{selection.solution}")
    rejections = {key: tuple((r.variant, r.reason) for r in c.rejections) for key, c in found.items()}
    return Selected(network, costs, selection, tuning, rejections, machine, target, context, options.demands,
                    options.solver, log, search=found_by_search)  # fmt: skip


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
