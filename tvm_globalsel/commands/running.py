"""``run``, ``check`` and ``profile``: what a compiled folder computes, and where its time goes."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.commands import types
from tvm_globalsel.commands.arguments import Commands, add_command, add_shared
from tvm_globalsel.errors import EXIT_FAILED, UserError


def add_run(commands: Commands) -> None:
    """``globalsel run``."""
    parser = add_command(commands, "run", _run, "run a compiled folder with TVM's runtime only")
    add_shared(parser, "folder")
    add_shared(parser, "--input")
    parser.add_argument("--output", type=Path, metavar="Y.npz")
    parser.add_argument("--repeat", type=types.positive, metavar="N", help="time N runs: median and minimum")
    parser.add_argument(
        "--warmup", type=types.count, default=3, metavar="N", help="runs before the timed ones (default 3)"
    )
    add_shared(parser, "--threads", default=None, help="default: those it was compiled for")
    add_shared(parser, "--json")


def add_check(commands: Commands) -> None:
    """``globalsel check``."""
    summary = "compare a compiled folder with ONNX Runtime on seeded inputs"
    parser = add_command(commands, "check", _check, summary)
    add_shared(parser, "folder", "model")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative error allowed (default 1e-4)")
    add_shared(parser, "--seed-weights", help="default: as it was compiled")
    add_shared(parser, "--weights")


def add_profile(commands: Commands) -> None:
    """``globalsel profile``."""
    summary = "time every kernel of a compiled folder inside of the network, beside what the plan expects"
    parser = add_command(commands, "profile", _profile, summary)
    add_shared(parser, "folder")
    add_shared(parser, "--input")
    parser.add_argument("--repeat", type=types.positive, default=30, metavar="N", help="inferences (default 30)")
    parser.add_argument(
        "--most", type=types.positive, default=30, metavar="N", help="kernels to show, the slowest (default 30)"
    )
    add_shared(parser, "--threads", default=None, help="default: those it was compiled for")
    add_shared(parser, "--json")


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


def _profile(args: argparse.Namespace) -> int:
    from tvm_globalsel.profile import profile
    from tvm_globalsel.report.profiles import print_profile
    from tvm_globalsel.runtime import Deployed

    deployed = Deployed(args.folder, args.threads)
    arrays = _load_arrays(args.input) if args.input else deployed.random_inputs()
    found = profile(deployed, arrays, args.repeat)
    if args.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print_profile(found, args.most)
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


def _check(args: argparse.Namespace) -> int:
    from tvm_globalsel.verify import verify

    verdict = verify(args.folder, args.model, args.seed_weights, args.tolerance, weights=args.weights)
    word = "agrees with" if verdict.passed else "DIFFERS from"
    print(f"{word} ONNX Runtime: relative error {verdict.relative_error:.2e} "
          f"(allowed {verdict.tolerance:.0e}, {verdict.samples} seeded inputs)")  # fmt: skip
    return 0 if verdict.passed else EXIT_FAILED
