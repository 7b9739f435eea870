"""Measure the FMA peak, the bandwidths and every layer's kernels in one run, on one thread, beside other engines.

Candidates are ranked through the tuning log first (a second run finds them there); then the leaders of each group and
the installed engines (onnxruntime, openvino, torch, ncnn, mnn) take turns, probed. Rates count the direct algorithm's
FLOPs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ["TVM_NUM_THREADS"] = "1"

import onnx
import tvm

from te_kernels.machine import describe, host_target
from tvm_globalsel.bench.contest import Result, play
from tvm_globalsel.bench.gauge import Gauge, stay_on_one_cpu
from tvm_globalsel.bench.kernels import rank
from tvm_globalsel.bench.layers import Layer, distinct, of_network, read_table
from tvm_globalsel.bench.peers import Peer, installed
from tvm_globalsel.bench.report import HEADER, as_json, geometric_mean, ratios, row
from tvm_globalsel.device import device_name, target_identity
from tvm_globalsel.errors import UserError
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.measure import Measurer
from tvm_globalsel.options import default_log

TABLE = Path(__file__).parent.parent / "tests/data/conv_layers.csv"
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/kernel_peaks", description=__doc__)
    parser.add_argument("--layers", type=Path, default=TABLE, help="CSV of layers (default: the 22 layers)")
    parser.add_argument("--nets", action="store_true", help="also every distinct convolution of the nine light nets")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--rounds", type=int, default=5, help="turns of the final comparison")
    parser.add_argument("--budget", type=float, default=3600, metavar="SECONDS", help="for ranking the candidates")
    parser.add_argument("--tuning-log", type=Path, help="where candidates' measurements are kept")
    parser.add_argument(
        "--peer-python", action="append", default=[], metavar="PYTHON",
        help="a further interpreter in which engines are installed",
    )  # fmt: skip
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    return args


def progress(done: int, total: int, what: str) -> None:
    print(f"  {done}/{total} {what}", file=sys.stderr, flush=True)


def main() -> None:
    args = parse()
    layers = read_table(args.layers)
    if args.nets:
        layers = distinct(layers + [layer for path in sorted(LIGHT.glob("light_*.onnx")) for layer in of_network(path)])
    target = host_target(1)
    machine = describe(target, 1)
    context = Context(target_identity(target), device_name(), 1, tvm.__version__)
    log = TuningLog(args.tuning_log or default_log())
    leaders, tuning = rank(layers, log, Measurer(target, machine, context), machine, args.budget, progress)
    print(
        f"{device_name()} ({machine.mcpu}), one thread, TVM {tvm.__version__}; candidates ranked: "
        f"{tuning.known} known, {tuning.measured} measured ({tuning.failed} failed), {tuning.skipped} left out, "
        f"{tuning.seconds:.0f} s"
    )

    stay_on_one_cpu()
    gauge = Gauge(target, machine)
    bandwidths = gauge.bandwidths()
    print(f"FMA peak {gauge.peak_gflops:.1f} GFLOP/s")
    for b in bandwidths:
        print(f"{b.level}: read {b.read_gbs:.0f} GB/s, copy {b.copy_gbs:.0f} GB/s (bytes read plus bytes written)")
    peers = [Peer(engine, python) for engine, python in installed([sys.executable, *args.peer_python])]
    print(f"engines: {', '.join(peer.engine for peer in peers)}\n\n{HEADER}", flush=True)

    start = time.monotonic()
    results: list[Result] = []
    for leader in leaders:
        results.append(play(leader, peers, gauge, target, machine, args.rounds))
        print(row(results[-1], gauge.peak_gflops, bandwidths, machine), flush=True)
        if args.json:
            args.json.write_text(json.dumps(as_json(results, gauge.peak_gflops), indent=1) + "\n")
    for peer in peers:
        peer.close()
    summary(results, gauge, time.monotonic() - start)


def summary(results: list[Result], gauge: Gauge, seconds: float) -> None:
    every = ratios(results)
    square = ratios(r for r in results if _is_3x3_stride_1(r.layer))
    print(
        f"\nFMA peak at the end {gauge.peak_gflops:.1f} GFLOP/s; {gauge.slowed_blocks} blocks found no undisturbed "
        f"moment; {seconds:.0f} s"
    )
    if every:
        of_3x3 = f", {geometric_mean(square):.2f} over {len(square)} layers of 3x3 stride 1" if square else ""
        print(
            f"ours / best peer: geometric mean {geometric_mean(every):.2f} over {len(every)} layers{of_3x3}, behind by "
            f"more than 3 % on {sum(x < 0.97 for x in every)}"
        )
    notes = [f"{r.layer.label}: {note}" for r in results for note in r.notes]
    if notes:
        print("\nnot timed:\n" + "\n".join(f"- {note}" for note in notes))


def _is_3x3_stride_1(layer: Layer) -> bool:
    t = layer.task
    return (t.r, t.s, t.stride, t.groups) == (3, 3, (1, 1), 1)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
