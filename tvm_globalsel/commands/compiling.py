"""``compile`` and ``pareto``: from a model to plans."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_globalsel.commands import types
from tvm_globalsel.commands.arguments import MEASURING, READING, Commands, add_command, add_shared

if TYPE_CHECKING:
    from tvm_globalsel.demands import Demands
    from tvm_globalsel.options import Options


def add_compile(commands: Commands) -> None:
    """``globalsel compile``."""
    summary = "compile an ONNX model or a Caffe network into a folder: model.so, weights.bin and plan.json"
    parser = add_command(commands, "compile", _compile, summary)
    add_shared(parser, "model")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    add_shared(parser, "--target")
    add_shared(parser, "--precision", help="of a CUDA network (float16: sums, inputs and outputs stay float32)")
    add_shared(parser, *MEASURING)
    parser.add_argument("--tolerance", type=types.error, default=0.01, metavar="T",
                        help="stop when no plan is estimated to gain more than this part (default 0.01)")  # fmt: skip
    parser.add_argument("--exhaustive", action="store_true", help="measure all candidates, not only what may matter")
    parser.add_argument("--refine", type=types.count, default=0, metavar="N",
                        help="profile the built network, and solve and build again with what its kernels take inside, "
                        "until the plan stands, at most N times (default 0)")  # fmt: skip
    add_shared(parser, "--solver", *READING)
    parser.add_argument(
        "--max-memory", type=types.size, metavar="BYTES", help="peak of activations, workspace and weights"
    )
    parser.add_argument(
        "--max-error", type=types.error, metavar="E", help="most accumulated relative error of the operators"
    )
    parser.add_argument("--slack", type=types.part, default=0.0, metavar="P",
                        help="take up to this part longer than the fastest plan for smaller weights "
                        "(default 0)")  # fmt: skip
    add_shared(parser, "--pin",
               help="take this variant (a name, or name[knobs]) for this operator; may be repeated")  # fmt: skip
    add_shared(parser, "--forbid", help="may be repeated")
    add_shared(parser, "--solver-time", default=120.0, help="limit of milp (default 120)")
    add_shared(parser, "--device", help="whose measurements in the log (default: this machine's, or for a "
               "target other than 'host' not measured here those of the log's only machine)")  # fmt: skip
    parser.add_argument("--dump-dir", type=Path, metavar="D", help="write each phase's artefact into this folder")


def add_pareto(commands: Commands) -> None:
    """``globalsel pareto``."""
    summary = "the fronts of time against memory and of time against accumulated error"
    parser = add_command(commands, "pareto", _pareto, summary)
    add_shared(parser, "model", "--target", *MEASURING, *READING, "--pin", "--forbid", "--device")
    parser.add_argument(
        "--points", type=types.positive, default=8, metavar="N", help="plans on each front at most (default 8)"
    )
    add_shared(parser, "--solver-time", default=60.0, help="per plan (default 60)")
    add_shared(parser, "--json")


def _compile(args: argparse.Namespace) -> int:
    from tvm_globalsel.demands import Demands
    from tvm_globalsel.pipeline import compile
    from tvm_globalsel.report.progress import tuning_progress
    from tvm_globalsel.report.tables import summary

    demands = Demands(args.max_memory, args.max_error, tuple(args.pin), tuple(args.forbid), args.solver_time,
                      args.slack)  # fmt: skip
    options = _options(
        args, demands, precision=args.precision, solver=args.solver, dump_dir=args.dump_dir, tolerance=args.tolerance,
        exhaustive=args.exhaustive, refine=args.refine,
    )  # fmt: skip
    with tuning_progress(args.budget) as (progress, say):
        compiled = compile(args.model, args.output, options, progress, say)
    summary(compiled.plan, compiled.folder)
    return 0


def _pareto(args: argparse.Namespace) -> int:
    from tvm_globalsel.demands import Demands
    from tvm_globalsel.pipeline import pareto
    from tvm_globalsel.report.fronts import print_fronts, rows
    from tvm_globalsel.report.progress import tuning_progress

    options = _options(args, Demands(pins=tuple(args.pin), forbids=tuple(args.forbid), time_limit_s=args.solver_time))
    with tuning_progress(args.budget) as (progress, say):
        memory, error = pareto(args.model, options, args.points, progress, say)
    if args.json:
        print(json.dumps({"memory": rows(memory), "error": rows(error)}))
    else:
        print_fronts(memory, error)
    return 0


def _options(args: argparse.Namespace, demands: Demands, **more: Any) -> Options:
    """What both commands say, and ``more``."""
    from tvm_globalsel.options import Options

    return Options(
        target=args.target, threads=args.threads, tuning_log=args.tuning_log, trust_log=args.trust_log,
        rpc_tracker=args.rpc_tracker, rpc_key=args.rpc_key, device=args.device, budget_s=args.budget,
        shapes=dict(args.shape), seed_weights=args.seed_weights, weights=args.weights, demands=demands, **more,
    )  # fmt: skip
