"""Whole plans on the target: ``python3 BUNDLE bench --log log.jsonl -o results.json``.

Every packed network is solved from the log as global, local and best single layout, each plan is put together from the
measured kernels, compared with float64 and timed in turns; then the same network with the same weights in PyTorch, in
a process of its own under the interpreter that has it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.bundle.compiler_free import prepare_imports
from tvm_globalsel.errors import UserError

_ROUNDS = 30
_SECONDS_PER_NETWORK = 10.0


def parser() -> argparse.ArgumentParser:
    """Arguments behind ``bench``."""
    options = argparse.ArgumentParser(
        prog="bench", description="Time whole plans on this machine, PyTorch beside them."
    )
    options.add_argument("--log", type=Path, required=True, metavar="LOG.jsonl", help="from this bundle's tuning")
    options.add_argument("-o", "--output", type=Path, required=True, metavar="RESULTS.json")
    options.add_argument("--torch", default=sys.executable, metavar="PYTHON",
                         help="interpreter that has PyTorch (default: this one); 'none' leaves it out")  # fmt: skip
    options.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS")
    options.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N")
    options.add_argument("--compile", action="store_true", help='PyTorch by torch.compile(mode="max-autotune") too')
    options.add_argument("--device-name", metavar="NAME", help="as it was given for tuning")
    return options


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 for an error of the user."""
    folder, options = Path(arguments[0]), parser().parse_args(arguments[1:])
    try:
        return bench(folder, options)
    except UserError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 2


def bench(folder: Path, options: argparse.Namespace) -> int:
    """All networks; results are written after each."""
    prepare_imports()
    from tvm_globalsel.bundle import seeded
    from tvm_globalsel.bundle.contents import open_bundle
    from tvm_globalsel.bundle.device import open_device
    from tvm_globalsel.bundle.torch_side import torch_rows
    from tvm_globalsel.log import TuningLog

    manifest = open_bundle(folder)
    try:
        device, name = open_device(manifest.device)
    except RuntimeError as error:
        raise UserError(str(error), "run this on the machine the bundle was made for") from error
    base = manifest.context(options.device_name or name)
    if not options.log.is_file():
        raise UserError(f"{options.log}: no such tuning log", "tune first: python3 BUNDLE -o LOG.jsonl")
    log = TuningLog(options.log)
    start = time.monotonic()
    rows: list[dict[str, Any]] = []
    for packed in manifest.networks:
        left_s = options.budget - (time.monotonic() - start)
        if left_s <= 0:
            rows.append({"network": packed.name, "batch": packed.batch, "error": "the time was up"})
        else:
            params, given = seeded.weights(packed.network), seeded.inputs(packed.network)
            expected = first_sample(packed, params, given)
            row = _network(folder, manifest, packed, log, base, device, options.rounds, (params, given, expected))
            if options.torch != "none" and "error" not in row:
                row["torch"] = torch_rows(
                    packed, expected, manifest, options.torch, options.rounds, options.compile, left_s
                )
            rows.append(row)
        options.output.write_text(json.dumps({"device": base.device, "rows": rows}, indent=1) + "\n")
        print(describe(rows[-1]), flush=True)
    return 0


def _network(
    folder: Path, manifest: Any, packed: Any, log: Any, base: Any, device: Any, rounds: int, data: Any
) -> dict[str, Any]:
    """Our plans; ``data`` are the weights, the inputs and what the first sample's outputs should be."""
    from tvm_globalsel.bundle.assemble import Assembled
    from tvm_globalsel.bundle.contents import Functions
    from tvm_globalsel.bundle.plans import plans_of
    from tvm_globalsel.pairs import pair_up

    packed = dataclasses.replace(packed, network=pair_up(packed.network, manifest.machine_model()))
    row: dict[str, Any] = {"network": packed.name, "batch": packed.batch, "dtype": manifest.dtype}
    try:
        plans = plans_of(packed, manifest, log, base)
    except UserError as error:
        return row | {"error": str(error)}
    functions, (params, given, expected) = Functions(folder, manifest), data
    runs: dict[str, Callable[[], float]] = {}
    for plan in plans:
        if plan.name == "sum2d":  # the textbook's loops take minutes on large networks: predicted only
            row[plan.name] = {"predicted_ms": plan.predicted_s * 1e3}
            continue
        assembled = Assembled(packed.network, plan.selection, params, functions.of, device, manifest.dtype)
        assembled.set_inputs(given)
        assembled.run()
        row[plan.name] = {
            "predicted_ms": plan.predicted_s * 1e3,
            "kernels": assembled.kernels,
            "transforms": len(plan.selection.transforms),
            "relative_error": _error([out[:1] for out in assembled.outputs()], expected),
        }
        runs[plan.name] = stopwatch(device, assembled, manifest.device)
    for name, seconds in in_turns(runs, rounds).items():
        row[name] |= {"measured_ms": statistics.median(seconds) * 1e3, "min_ms": min(seconds) * 1e3}
    return row


def first_sample(
    packed: Any, params: dict[str, list[np.ndarray]], given: dict[str, np.ndarray]
) -> list[np.ndarray] | None:
    """Outputs for the first sample in float64; None when an operator has no oracle."""
    from te_kernels.task import OpaqueTask
    from tvm_globalsel.bundle import seeded
    from tvm_globalsel.bundle.networks import with_batch

    if any(isinstance(op.task, OpaqueTask) for op in packed.network.operators):
        return None
    single = packed.network if packed.batch == 1 else with_batch(packed.network, 1, packed.batch)
    return seeded.reference(single, params, {name: array[:1] for name, array in given.items()})


def _error(got: list[np.ndarray], expected: list[np.ndarray] | None) -> float | None:
    """Largest error relative to the largest expected element; None when there is nothing to compare with."""
    if expected is None:
        return None
    errors = []
    for a, b in zip(got, expected, strict=True):
        error = float(np.abs(a - b).max()) / (float(np.abs(b).max()) or 1.0)
        errors.append(error if np.isfinite(a).all() else float("inf"))
    return max(errors)


def stopwatch(device: Any, assembled: Any, kind: str) -> Callable[[], float]:
    """Seconds of one run: by the host's clock, or on a GPU by events around the replay of a captured graph."""
    if kind == "cuda":
        from tvm_globalsel.bundle.cuda_graph import CudaGraph

        return CudaGraph(device, assembled.run).seconds

    def seconds() -> float:
        start = time.perf_counter()
        assembled.run()
        device.sync()
        return time.perf_counter() - start

    return seconds


def in_turns(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run, A B C A B C, after a warm-up; fewer rounds where they take long."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    start = time.monotonic()
    for number in range(rounds + 2):
        for name, run in runs.items():
            seconds = run()
            if number >= 2:
                taken[name].append(seconds)
        if number >= 4 and time.monotonic() - start > _SECONDS_PER_NETWORK:
            break
    return taken


def describe(row: dict[str, Any]) -> str:
    """One network's results on a line."""
    label = f"{row['network']}, batch {row['batch']}"
    if "error" in row:
        return f"{label}: {row['error']}"
    parts = [
        f"{name} {plan['measured_ms']:.3f} ms (predicted {plan['predicted_ms']:.3f})"
        for name, plan in row.items()
        if isinstance(plan, dict) and "measured_ms" in plan
    ]
    torch = row.get("torch", {})
    parts += [f"torch {name} {value:.3f} ms" for name, value in torch.get("ms", {}).items()]
    parts += [f"torch: {torch['error']}"] if "error" in torch else []
    error = row["global"]["relative_error"]
    return (
        f"{label}, {row['dtype']}: "
        + ", ".join(parts)
        + f"; error {'not checked' if error is None else f'{error:.1e}'}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
