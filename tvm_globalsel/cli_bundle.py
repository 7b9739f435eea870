"""Arguments of ``pack-tuning`` and ``run-tuning``: tuning on a machine that has no compiler."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from tvm_globalsel.bundle.launch import launch

_Command = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
_Type = Callable[[str], object]


def add_commands(command: _Command, positive: _Type, size: _Type, shape: _Type, seed: _Type) -> None:
    """Add both commands; the other arguments are the command line's own argument types."""
    p = command("pack-tuning", _pack, "build all kernels of a model into one file for a machine without a compiler")
    p.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="BUNDLE.pyz")
    p.add_argument("--target", default="host", help="'host', a TVM target tag, or a target as JSON")
    p.add_argument("--precision", choices=("float32", "float16"), default="float32", help="of a CUDA network")
    p.add_argument("--threads", type=positive, default=1, metavar="N")
    p.add_argument("--tuning-log", type=Path, metavar="FILE", help="what it has already is left out")
    p.add_argument("--device", metavar="NAME", help="whose measurements in the log (default: the only one's)")
    p.add_argument("--shape", action="append", default=[], type=shape, metavar="NAME=1,3,224,224")
    p.add_argument("--batch", action="append", default=[], type=positive, metavar="N", help="may be repeated")
    p.add_argument("--seed-weights", type=seed, metavar="N", help="replace the weights by seeded random ones")
    p.add_argument("--python", type=_python, metavar="3.12", help="Python of the target machine (default: this one's)")
    p.add_argument("--wheels", type=Path, metavar="DIR", help="wheel files for it, from 'pip download'")
    p.add_argument("--no-numpy", action="store_true", help="leave numpy out: the target machine has it")
    p.add_argument("--max-size", type=size, default=60 << 20, metavar="BYTES",
                   help="least promising kernels beyond it are left out (default 60MiB)")  # fmt: skip
    p.add_argument("--max-kernels", type=positive, metavar="N")

    r = command("run-tuning", _run, "measure a bundle's kernels on this machine into a tuning log")
    r.add_argument("bundle", type=Path, metavar="BUNDLE.pyz", help="contains code: run only what you trust")
    r.add_argument("-o", "--output", type=Path, required=True, metavar="LOG.jsonl")
    r.add_argument("--budget", metavar="SECONDS", help="default: no limit")
    r.add_argument("--timeout", metavar="SECONDS", help="of the kernels of one library together (default 40)")
    r.add_argument("--device-name", metavar="NAME", help="default: what the driver or the system calls it")


def _python(text: str) -> str:
    if not re.fullmatch(r"3\.[1-9][0-9]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version of Python such as 3.12")
    return text


def _pack(args: argparse.Namespace) -> int:
    from tvm_globalsel.bundle.pack import Packing, pack_tuning
    from tvm_globalsel.pipeline import Options
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
