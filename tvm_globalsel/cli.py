"""Argument parsing only: each subcommand calls one public function.

Imports are made inside the subcommands, so that ``run`` and ``explain`` load no compiler and start at once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.background import exit_interrupted
from tvm_globalsel.bench import command as bench_command
from tvm_globalsel.cli_bundle import add_commands
from tvm_globalsel.errors import UserError
from tvm_globalsel.logs.command import add_parser as add_log_parser

EXIT_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 1, 2, 130


_SOLVERS = "pbqp, milp, local, greedy, single:LAYOUT, family:NAME (its convolutions, else sum2d) or sum2d"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        code: int = args.function(args)
        return code
    except UserError as error:
        if args.debug:
            raise
        print(f"globalsel: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("globalsel: interrupted; what was measured is in the tuning log, run again to go on", file=sys.stderr)
        exit_interrupted(EXIT_INTERRUPTED)
    except BrokenPipeError:
        return EXIT_FAILED
    except Exception as error:
        if args.debug:
            raise
        text = str(error).strip().splitlines()
        print(f"globalsel: error: {type(error).__name__}: {text[-1][:300] if text else ''}; "
              "this is a defect of globalsel, run again with --debug and report it", file=sys.stderr)  # fmt: skip
        return EXIT_USER_ERROR


def _show_warning(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
    if not category.__name__.endswith("DeprecationWarning"):
        print(f"globalsel: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="globalsel", description="Globally optimal kernel selection for CNNs on TVM.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(function=function)
        return sub

    summary = "compile an ONNX model or a Caffe network into a folder: model.so, weights.bin and plan.json"
    c = command("compile", _compile, summary)
    c.add_argument("model", type=Path, metavar="MODEL", help="MODEL.onnx, or NET.prototxt")
    c.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    c.add_argument("--target", default="host", help="'host', a TVM target tag, or a target as JSON")
    c.add_argument("--precision", default="float32", choices=("float32", "float16"),
                   help="of a CUDA network (float16: sums, inputs and outputs stay float32)")  # fmt: skip
    c.add_argument("--threads", type=_positive, default=1, metavar="N")
    c.add_argument("--tuning-log", type=Path, metavar="FILE", help="default: in the user's cache folder")
    c.add_argument("--rpc-tracker", metavar="HOST:PORT", help="measure on devices behind TVM's RPC tracker")
    c.add_argument("--rpc-key", metavar="K", help="the key those devices registered with")
    c.add_argument("--trust-log", action="store_true", help="use what the log has of other machines, threads, versions")
    c.add_argument("--budget", type=_budget, default=300.0, metavar="SECONDS", help="time for measuring (default 300)")
    c.add_argument("--tolerance", type=_error, default=0.01, metavar="T",
                   help="stop when no plan is estimated to gain more than this part (default 0.01)")  # fmt: skip
    c.add_argument("--exhaustive", action="store_true", help="measure all candidates, not only what may matter")
    c.add_argument("--solver", default="pbqp", type=_solver, help=_SOLVERS)
    c.add_argument("--shape", action="append", default=[], type=_shape, metavar="NAME=1,3,224,224")
    c.add_argument("--seed-weights", type=_seed, metavar="N", help="replace the weights by seeded random ones")
    c.add_argument("--weights", type=Path, metavar="FILE", help="the .caffemodel of a .prototxt")
    c.add_argument("--max-memory", type=_bytes, metavar="BYTES", help="peak of activations, workspace and weights")
    c.add_argument("--max-error", type=_error, metavar="E", help="most accumulated relative error of the operators")
    c.add_argument("--pin", action="append", default=[], type=_pin, metavar="NODE=VARIANT",
                   help="take this variant (a name, or name[knobs]) for this operator; may be repeated")  # fmt: skip
    c.add_argument("--forbid", action="append", default=[], metavar="VARIANT", help="may be repeated")
    c.add_argument("--solver-time", type=_seconds, default=120.0, metavar="SECONDS", help="limit of milp (default 120)")
    c.add_argument("--device", metavar="NAME", help="whose measurements in the log (default: this machine's, or for a "
                   "target other than 'host' not measured here those of the log's only machine)")  # fmt: skip
    c.add_argument("--dump-dir", type=Path, metavar="D", help="write each phase's artefact into this folder")

    r = command("run", _run, "run a compiled folder with TVM's runtime only")
    r.add_argument("folder", type=Path, metavar="DIR")
    r.add_argument("--input", type=Path, metavar="X.npz", help="arrays by input name (default: seeded random)")
    r.add_argument("--output", type=Path, metavar="Y.npz")
    r.add_argument("--repeat", type=_positive, metavar="N", help="time N runs: median and minimum")
    r.add_argument("--warmup", type=_count, default=3, metavar="N", help="runs before the timed ones (default 3)")
    r.add_argument("--threads", type=_positive, metavar="N", help="default: those it was compiled for")
    r.add_argument("--json", action="store_true")

    e = command("explain", _explain, "what was chosen for every layer, why, and what the alternatives would cost")
    e.add_argument("folder", type=Path, metavar="DIR")
    e.add_argument("--node", metavar="NAME", help="all alternatives of one operator")
    e.add_argument("--json", action="store_true", help="print the plan itself")

    k = command("check", _check, "compare a compiled folder with ONNX Runtime on seeded inputs")
    k.add_argument("folder", type=Path, metavar="DIR")
    k.add_argument("model", type=Path, metavar="MODEL", help="MODEL.onnx, or NET.prototxt")
    k.add_argument("--tolerance", type=float, default=1e-4, help="largest relative error allowed (default 1e-4)")
    k.add_argument("--seed-weights", type=_seed, metavar="N", help="default: as it was compiled")
    k.add_argument("--weights", type=Path, metavar="FILE", help="the .caffemodel of a .prototxt")

    v = command("variants", _variants, "every variant; with a shape, which apply and why others do not")
    v.add_argument("--conv", type=_conv, metavar="C,H,W,K,R,S,STRIDE,PAD,GROUPS")
    v.add_argument("--target", default="host", help="'host', a TVM target tag, or a target as JSON")
    v.add_argument("--precision", default="float32", choices=("float32", "float16"), help="of a CUDA network")
    v.add_argument("--threads", type=_positive, default=1, metavar="N")

    s = command("solve", _solve, "solve cost tables of triNNity's form: the optimum and what others would choose")
    s.add_argument("--trinnity", type=Path, required=True, metavar="DIR",
                   help="folder with algorithms.csv, primitives.csv and transforms.csv")  # fmt: skip
    s.add_argument("--solver", default="pbqp", type=_solver, help=_SOLVERS)
    s.add_argument("--json", action="store_true")

    p = command("pareto", _pareto, "the fronts of time against memory and of time against accumulated error")
    p.add_argument("model", type=Path, metavar="MODEL", help="MODEL.onnx, or NET.prototxt")
    p.add_argument("--target", default="host", help="'host', a TVM target tag, or a target as JSON")
    p.add_argument("--threads", type=_positive, default=1, metavar="N")
    p.add_argument("--tuning-log", type=Path, metavar="FILE", help="default: in the user's cache folder")
    p.add_argument("--rpc-tracker", metavar="HOST:PORT", help="measure on devices behind TVM's RPC tracker")
    p.add_argument("--rpc-key", metavar="K", help="the key those devices registered with")
    p.add_argument("--trust-log", action="store_true", help="use what the log has of other machines, threads, versions")
    p.add_argument("--budget", type=_budget, default=300.0, metavar="SECONDS", help="time for measuring (default 300)")
    p.add_argument("--shape", action="append", default=[], type=_shape, metavar="NAME=1,3,224,224")
    p.add_argument("--seed-weights", type=_seed, metavar="N", help="replace the weights by seeded random ones")
    p.add_argument("--weights", type=Path, metavar="FILE", help="the .caffemodel of a .prototxt")
    p.add_argument("--pin", action="append", default=[], type=_pin, metavar="NODE=VARIANT")
    p.add_argument("--forbid", action="append", default=[], metavar="VARIANT")
    p.add_argument("--device", metavar="NAME", help="whose measurements in the log")
    p.add_argument("--points", type=_positive, default=8, metavar="N", help="plans on each front at most (default 8)")
    p.add_argument("--solver-time", type=_seconds, default=60.0, metavar="SECONDS", help="per plan (default 60)")
    p.add_argument("--json", action="store_true")

    add_log_parser(commands.add_parser("log", help="look into tuning logs, merge and prune them"))

    b = command("bench", bench_command.run, "whole networks against other engines, in turns, probed")
    b.add_argument("--threads", type=_positive, default=1, metavar="N")
    b.add_argument("--tuning-log", type=Path, metavar="FILE", help="default: in the user's cache folder")
    b.add_argument("--budget", type=_budget, default=300.0, metavar="SECONDS", help="for measuring a network")
    b.add_argument("--seed-weights", type=_seed, metavar="N", help="replace the weights by seeded random ones")
    bench_command.add_arguments(b)

    add_commands(command, _positive, _bytes, _shape, _seed)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _bytes(text: str) -> int:
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    number = text.lower().removesuffix("ib").removesuffix("b")
    factor = units.get(number[-1:], 1)
    try:
        value = int(float(number[:-1]) * factor) if factor > 1 else int(number)
    except (ValueError, OverflowError):
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give bytes, or e.g. 64MiB")
    return value


def _error(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an error; give e.g. 1e-5")
    return value


def _budget(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 63:
        raise argparse.ArgumentTypeError("must be between 0 and 2**63 - 1")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _pin(text: str) -> tuple[str, str]:
    # a label has "=" in its knobs, so the first one outside of brackets that is followed by a variant divides
    node, equals, variant = text.partition("[")[0].rpartition("=")
    if not equals or not node or not variant:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NODE=VARIANT")
    return node, text[len(node) + 1 :]


def _solver(text: str) -> str:
    if text in ("pbqp", "milp", "local", "greedy", "sum2d", "exhaustive") or text.startswith(("single:", "family:")):
        return text
    raise argparse.ArgumentTypeError(f"choose {_SOLVERS.partition(' (')[0]}, sum2d or exhaustive")


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, sizes = text.rpartition("=")
    try:
        if not equals or not name:
            raise ValueError
        return name, tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=1,3,224,224") from None


def _conv(text: str) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 9:
        raise argparse.ArgumentTypeError("give nine numbers: C,H,W,K,R,S,stride,pad,groups")
    return values


def _compile(args: argparse.Namespace) -> int:
    from tvm_globalsel.demands import Demands
    from tvm_globalsel.pipeline import Options, compile
    from tvm_globalsel.report.progress import tuning_progress
    from tvm_globalsel.report.tables import summary

    options = Options(
        target=args.target, precision=args.precision, threads=args.threads, tuning_log=args.tuning_log,
        trust_log=args.trust_log, rpc_tracker=args.rpc_tracker, rpc_key=args.rpc_key,
        budget_s=args.budget, solver=args.solver, shapes=dict(args.shape), seed_weights=args.seed_weights,
        dump_dir=args.dump_dir, device=args.device, weights=args.weights,
        demands=Demands(args.max_memory, args.max_error, tuple(args.pin), tuple(args.forbid), args.solver_time),
        tolerance=args.tolerance, exhaustive=args.exhaustive,
    )  # fmt: skip
    with tuning_progress(args.budget) as (progress, say):
        compiled = compile(args.model, args.output, options, progress, say)
    summary(compiled.plan, compiled.folder)
    return 0


def _run(args: argparse.Namespace) -> int:
    from tvm_globalsel.runtime import Deployed

    deployed = Deployed(args.folder, args.threads)
    arrays = _load_arrays(args.input) if args.input else deployed.random_inputs()
    result: dict[str, Any] = {"model": deployed.plan["model"], "threads": args.threads or deployed.plan["threads"]}
    outputs = deployed.run(arrays)
    if args.output:
        try:
            np.savez(args.output, **outputs)  # type: ignore[arg-type]
        except OSError as error:
            raise UserError(f"{args.output}: cannot be written ({error.strerror})", "choose another file") from error
    result["outputs"] = {name: list(array.shape) for name, array in outputs.items()}
    if args.repeat:
        taken = deployed.latencies_s(arrays, args.repeat, args.warmup)
        result |= {"median_ms": statistics.median(taken) * 1e3, "min_ms": min(taken) * 1e3, "repeat": args.repeat}
    if args.json:
        print(json.dumps(result))
        return 0
    for name, array in outputs.items():
        largest = f", largest at {int(array.argmax())}" if array.size else ""
        print(f"{name}: {array.dtype}{list(array.shape)}{largest}")
    if args.repeat:
        print(f"latency: median {result['median_ms']:.3f} ms, min {result['min_ms']:.3f} ms over {args.repeat} runs, "
              f"{result['threads']} thread(s)")  # fmt: skip
    return 0


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path}: not a readable .npz file of arrays ({type(error).__name__})",
            "write it with numpy.savez(path, input_name=array)",
        ) from error


def _explain(args: argparse.Namespace) -> int:
    from tvm_globalsel.report.tables import explain, explain_node
    from tvm_globalsel.runtime import read_plan

    plan = read_plan(args.folder)
    if args.json:
        print(json.dumps(plan))
    elif args.node:
        explain_node(plan, args.node)
    else:
        explain(plan)
    return 0


def _check(args: argparse.Namespace) -> int:
    from tvm_globalsel.verify import verify

    verdict = verify(args.folder, args.model, args.seed_weights, args.tolerance, weights=args.weights)
    word = "agrees with" if verdict.passed else "DIFFERS from"
    print(f"{word} ONNX Runtime: relative error {verdict.relative_error:.2e} "
          f"(allowed {verdict.tolerance:.0e}, {verdict.samples} seeded inputs)")  # fmt: skip
    return 0 if verdict.passed else EXIT_FAILED


def _variants(args: argparse.Namespace) -> int:
    from tvm_globalsel.pipeline import Options
    from tvm_globalsel.report.variants import list_variants

    list_variants(args.conv, Options(target=args.target, precision=args.precision, threads=args.threads))
    return 0


def _solve(args: argparse.Namespace) -> int:
    from tvm_globalsel.trinnity import read_tables, solve_tables

    result = solve_tables(read_tables(args.trinnity), args.solver)
    if args.json:
        print(json.dumps(result))
        return 0
    from tvm_globalsel.report.costs import print_costs

    print_costs(result)
    return 0


def _pareto(args: argparse.Namespace) -> int:
    from tvm_globalsel.demands import Demands
    from tvm_globalsel.pipeline import Options, pareto
    from tvm_globalsel.report.fronts import print_fronts, rows
    from tvm_globalsel.report.progress import tuning_progress

    options = Options(
        target=args.target, threads=args.threads, tuning_log=args.tuning_log, trust_log=args.trust_log,
        rpc_tracker=args.rpc_tracker, rpc_key=args.rpc_key, device=args.device,
        budget_s=args.budget, shapes=dict(args.shape), seed_weights=args.seed_weights, weights=args.weights,
        demands=Demands(pins=tuple(args.pin), forbids=tuple(args.forbid), time_limit_s=args.solver_time),
    )  # fmt: skip
    with tuning_progress(args.budget) as (progress, say):
        memory, error = pareto(args.model, options, args.points, progress, say)
    if args.json:
        print(json.dumps({"memory": rows(memory), "error": rows(error)}))
    else:
        print_fronts(memory, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
