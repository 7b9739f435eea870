"""``pack-tuning`` and ``run-tuning``: tuning on a machine that has no compiler."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tvm_globalsel.bundle.launch import launch
from tvm_globalsel.commands import types
from tvm_globalsel.commands.arguments import Commands, add_command, add_shared


def add_pack_tuning(commands: Commands) -> None:
    """``globalsel pack-tuning``."""
    summary = "build all kernels of a model into one file for a machine without a compiler"
    parser = add_command(commands, "pack-tuning", _pack, summary)
    add_shared(parser, "models")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="BUNDLE.pyz")
    add_shared(parser, "--target", "--precision", "--threads")
    add_shared(parser, "--tuning-log", help="what it has already is left out")
    add_shared(parser, "--device", help="whose measurements in the log (default: the only one's)")
    add_shared(parser, "--shape")
    parser.add_argument(
        "--batch", action="append", default=[], type=types.positive, metavar="N", help="may be repeated"
    )
    add_shared(parser, "--seed-weights")
    parser.add_argument(
        "--python", type=_python, metavar="3.12", help="Python of the target machine (default: this one's)"
    )
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="wheel files for it, from 'pip download'")
    parser.add_argument("--no-numpy", action="store_true", help="leave numpy out: the target machine has it")
    parser.add_argument("--max-size", type=types.size, default=60 << 20, metavar="BYTES",
                        help="least promising kernels beyond it are left out (default 60MiB)")  # fmt: skip
    parser.add_argument("--max-kernels", type=types.positive, metavar="N")


def add_run_tuning(commands: Commands) -> None:
    """``globalsel run-tuning``."""
    parser = add_command(commands, "run-tuning", _run, "measure a bundle's kernels on this machine into a tuning log")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE.pyz", help="contains code: run only what you trust")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="LOG.jsonl")
    parser.add_argument("--budget", metavar="SECONDS", help="default: no limit")
    parser.add_argument("--timeout", metavar="SECONDS", help="of the kernels of one library together (default 40)")
    parser.add_argument("--device-name", metavar="NAME", help="default: what the driver or the system calls it")


def _python(text: str) -> str:
    if not re.fullmatch(r"3\.[1-9][0-9]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version of Python such as 3.12")
    return text


def _pack(args: argparse.Namespace) -> int:
    from tvm_globalsel.bundle.pack import Packing, pack_tuning
    from tvm_globalsel.options import Options
    from tvm_globalsel.report.progress import tuning_progress

    options = Options(
        target=args.target, threads=args.threads, tuning_log=args.tuning_log, device=args.device,
        shapes=dict(args.shape), seed_weights=args.seed_weights, precision=args.precision,
    )  # fmt: skip
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    packing = Packing(
        args.python or here, args.wheels, args.max_size, args.max_kernels, tuple(args.batch), not args.no_numpy
    )
    with tuning_progress(float("inf"), "building") as (progress, say):
        packed = pack_tuning(args.models, args.output, options, packing, progress, say)
    size_mib = packed.size_bytes / (1 << 20)
    print(f"{packed.path}: {packed.kernels} kernels, {size_mib:.1f} MiB, Python {packing.python}; "
          f"{packed.known} in the log, {packed.failed} failed to build, {packed.left_out} left out")  # fmt: skip
    print(f"on the target machine: python{packing.python} {packed.path.name} -o log.jsonl")
    return 0


def _run(args: argparse.Namespace) -> int:
    arguments = ["-o", str(args.output)]
    for name, value in (("--budget", args.budget), ("--timeout", args.timeout), ("--device-name", args.device_name)):
        arguments += [name, value] if value is not None else []
    return launch(args.bundle, [*arguments, "--debug"] if args.debug else arguments)
