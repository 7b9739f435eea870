"""``bench``: whole networks beside other engines."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tvm_globalsel.commands import types
from tvm_globalsel.commands.arguments import Commands, add_command, add_shared
from tvm_globalsel.errors import UserError


def add_bench(commands: Commands) -> None:
    """``globalsel bench``."""
    summary = "whole networks against other engines, in turns, probed"
    parser = add_command(commands, "bench", _bench, summary)
    add_shared(parser, "--threads", "--tuning-log")
    add_shared(parser, "--budget", help="for measuring a network")
    add_shared(parser, "--seed-weights", "models")
    parser.add_argument("--against", default="onnxruntime,openvino,torch,ncnn,mnn,tflite,tvm", metavar="ENGINES",
                        help="engines, comma-separated (default: all of them, tvm is slow)")  # fmt: skip
    parser.add_argument("--selections", default="global", metavar="LIST",
                        help="our plans: global, local, greedy, single:LAYOUT, sum2d, comma-separated")  # fmt: skip
    parser.add_argument("--batch", type=types.positive, metavar="N", help="batch size (default: the model's)")
    parser.add_argument(
        "--rounds", type=types.positive, default=8, metavar="N", help="turns that engines take (default 8)"
    )
    parser.add_argument(
        "--load", action="store_true", help="load each engine 3 times; columns for load time and memory"
    )
    parser.add_argument("--peer-python", action="append", default=[], metavar="PYTHON",
                        help="a further interpreter in which engines are installed")  # fmt: skip
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where compiled and converted models are kept")
    parser.add_argument("--json", type=Path, metavar="F", help="write the figures there, after every network")
    parser.add_argument("--plot", type=Path, metavar="F.png", help="bars of speed relative to the best peer")


def _bench(args: argparse.Namespace) -> int:
    from rich.console import Console

    from tvm_globalsel.bench import network_report
    from tvm_globalsel.bench.networks import BenchOptions, NetworkResult, bench
    from tvm_globalsel.options import Options
    from tvm_globalsel.report.progress import tuning_progress

    compiling = Options(threads=args.threads, tuning_log=args.tuning_log, budget_s=args.budget,
                        seed_weights=args.seed_weights)  # fmt: skip
    options = BenchOptions(
        compiling, _names(args.against), _names(args.selections), args.batch, args.rounds, 3 if args.load else 1,
        tuple(args.peer_python), args.cache,
    )  # fmt: skip
    if not options.selections:
        raise UserError("--selections names no plan", "e.g. --selections global,local")
    console = Console(width=None if sys.stdout.isatty() else 140)
    done: list[NetworkResult] = []

    def report(result: NetworkResult) -> None:
        done.append(result)
        network_report.print_network(result, args.load, console)
        if args.json:
            _write(args.json, json.dumps(network_report.as_json(done), indent=1, allow_nan=False) + "\n")

    with tuning_progress(args.budget) as (progress, say):
        slowed = bench(args.models, options, say, report, progress)
    network_report.print_summary(done, slowed, console)
    if args.plot:
        network_report.plot(done, args.plot)
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        print(text, file=sys.stdout)  # the figures took minutes; they must not be lost
        raise UserError(f"{path}: cannot be written ({error.strerror})", "choose another file with --json") from error
