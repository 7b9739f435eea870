"""The whole-network comparison of Anderson and Gregg (CGO 2018), normalised to sum2d, predicted and measured.

Bars, for AlexNet, VGG-B, -C, -E and GoogLeNet (float32, batch 1, seeded weights):
  sum2d               the textbook loop nest for every convolution: the denominator
  direct, im2, ...    a family alone: its fastest variant for each convolution where one applies, sum2d elsewhere
                      (e.g. Winograd leaves strided convolutions to sum2d); the layouts and kernels of all other
                      operators and the transforms are chosen to be optimal for that. A 1x1 convolution without
                      stride is a matrix product for im2 and kn2 alike, as the direct and gemm variants compute it
  best single layout  the best plan in which every operator that can stays in one layout, the best such layout
  local               the fastest variant of every layer by itself, and the transforms that this needs
  global              the optimum
  oneDNN              PyTorch, whose convolutions oneDNN runs (the authors compared with MKL-DNN): the fastest of NCHW
                      and NHWC, eager and frozen for inference
"Predicted" is what the solver minimised, a sum of measured kernels; "measured" is the deployed network, end to end: the
median of the medians of --rounds turns, every turn a process of its own. Every result is compared with ONNX Runtime.

A run goes on where the last one stopped: kernels through the tuning log, networks through --json (a network is done
when --budget did not cut its measuring short).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from cgo18_nets import NETS, prototxt
from cgo18_report import tables

from tvm_globalsel.bench import network_files
from tvm_globalsel.bench.peers import installed
from tvm_globalsel.bench.plans import Contender, Turns, build, study
from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.onnx import random_inputs
from tvm_globalsel.frontends.read import read_model
from tvm_globalsel.options import Options
from tvm_globalsel.report.progress import tuning_progress
from tvm_globalsel.verify import reference_session

SEED = 0
_TORCH_TIMEOUT_S = 900
_TURN_S = 2.0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/reproduce_cgo18", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", default=",".join(NETS), help=f"some of {','.join(NETS)}")
    parser.add_argument("--threads", default="1,2", help="numbers of threads (default 1,2)")
    parser.add_argument("--budget", type=float, default=300, metavar="SECONDS",
                        help="for measuring kernels, a network and number of threads (default 300)")  # fmt: skip
    parser.add_argument("--tune-only", action="store_true", help="fill the tuning log; build and time nothing")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every plan (default 3; sum2d has one)")
    parser.add_argument("--tuning-log", type=Path, default=Path("out/cgo18.jsonl"), metavar="FILE")
    parser.add_argument("--json", type=Path, default=Path("out/cgo18.json"), metavar="F", help="results, kept there")
    parser.add_argument("--plot", type=Path, metavar="F.png")
    parser.add_argument("--peer-python", action="append", default=[], metavar="PYTHON",
                        help="a further interpreter in which torch may be installed")  # fmt: skip
    args = parser.parse_args()
    args.nets, args.threads = args.nets.split(","), args.threads.split(",")
    if unknown := set(args.nets) - set(NETS):
        parser.error(f"--nets: {', '.join(sorted(unknown))} is not one of {', '.join(NETS)}")
    if not all(t.isdigit() and int(t) for t in args.threads) or args.rounds < 1 or not args.budget >= 0:
        parser.error("--threads are numbers such as 1,2; --rounds is at least 1; --budget is a number of seconds")
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: .venv/bin/pip install -e '.[plots]'")
    return args


def main() -> None:
    args = parse()
    results: dict[str, Any] = json.loads(args.json.read_text()) if args.json.is_file() else {}
    torch = dict(installed([sys.executable, *args.peer_python])).get("torch")
    for net in args.nets:
        for threads in args.threads:
            known = results.get(net, {}).get(threads)
            if known and not known["tuning"]["out_of_time"]:
                continue
            found = one(net, int(threads), torch, args)
            if found is None:
                continue
            results.setdefault(net, {})[threads] = found
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(results, indent=1) + "\n")
    done = {net: results[net] for net in args.nets if net in results}
    shown = {net: {t: done[net][t] for t in args.threads if t in done[net]} for net in done}
    if not shown:
        return
    print(tables(shown))
    if args.plot:
        from cgo18_report import plot

        args.plot.parent.mkdir(parents=True, exist_ok=True)
        plot(shown, args.plot)
        print(f"wrote {args.plot}")


def one(net: str, threads: int, torch: str | None, args: argparse.Namespace) -> dict[str, Any] | None:
    """Measure, solve, build and time one network on so many threads."""
    with tempfile.TemporaryDirectory(prefix="cgo18-") as name, tuning_progress(args.budget) as (progress, say):
        folder = Path(name)
        path, shapes = prototxt(net, folder)
        model = read_model(path, shapes, SEED)
        options = Options(threads=threads, tuning_log=args.tuning_log, budget_s=args.budget)
        say(f"{net}, {threads} thread(s)")
        found = study(model, net, options, progress, say)
        if args.tune_only:
            print(f"{net}, {threads} thread(s): {found.tuning.skipped} kernels are left to measure", flush=True)
            return None
        plans, built = {}, {}
        for contender in found.contenders:
            if contender.solution is not None:
                say(f"building {contender.name}")
                choice = contender.solution.choice
                if choice not in built:
                    built[choice] = build(found, contender, net, folder / f"plan{len(built)}")
                plans[contender.name] = built[choice]
        say(f"timing {len(built)} plans")
        inputs = random_inputs(model, SEED)
        session = reference_session(model)
        expected = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))
        del session
        turns = Turns(inputs, expected, threads)
        peer = Peer(torch, model, inputs, expected, threads, folder)
        for _ in range(args.rounds):
            for contender in found.contenders:
                if contender.name in plans and contender.solution is not None:
                    turns.take(plans[contender.name], contender.solution.cost_s)
            peer.take()
        context = found.selected.context
        return {
            "device": context.device, "target": context.target, "tvm": context.tvm,
            "date": time.strftime("%Y-%m-%d"), "rounds": args.rounds,
            "tuning": {"measured": found.tuning.measured, "from_log": found.tuning.known,
                       "out_of_time": found.tuning.skipped, "failed": found.tuning.failed},
            "plans": {c.name: _described(c, plans.get(c.name), turns) for c in found.contenders},
            "onednn": peer.result(),
        }  # fmt: skip


def _described(contender: Contender, folder: Path | None, turns: Turns) -> dict[str, Any]:
    if folder is None:
        return {"solver": contender.solver, "error": contender.why_not}
    return {
        "solver": contender.solver, "predicted_s": contender.predicted_s, "measured_s": turns.measured_s(folder),
        "relative_error": turns.errors[folder],
    }  # fmt: skip


class Peer:
    """The network in PyTorch, a process a turn."""

    def __init__(
        self, python: str | None, model: onnx.ModelProto, inputs: dict[str, np.ndarray],
        expected: dict[str, np.ndarray], threads: int, folder: Path,
    ) -> None:  # fmt: skip
        self._python, self._threads, self._folder = python, threads, folder / "torch"
        self._answers: list[dict[str, Any]] = []
        self._error = None if python else "torch is not installed (--peer-python names another interpreter)"
        if python:
            self._folder.mkdir()
            (x,), (y,) = inputs.values(), expected.values()
            network_files.write(model, x, y, self._folder)

    def take(self) -> None:
        """One turn."""
        if self._error is not None:
            return
        script = str(Path(network_files.__file__).with_name("torch_network.py"))  # importing it needs torch
        done = subprocess.run(
            [str(self._python), script, str(self._folder), str(self._threads), str(_TURN_S)],
            capture_output=True, text=True, check=False, timeout=_TORCH_TIMEOUT_S,
            env={**os.environ, "OMP_NUM_THREADS": str(self._threads)},
        )  # fmt: skip
        if done.returncode:
            self._error = (done.stderr.strip().splitlines() or ["it failed"])[-1][:200]
        else:
            self._answers.append(json.loads(done.stdout.splitlines()[-1]))

    def result(self) -> dict[str, Any]:
        """Seconds and versions, or the error."""
        if self._error is not None:
            return {"error": self._error}
        last = self._answers[-1]
        return {
            "measured_s": median(median(answer["seconds"]) for answer in self._answers),
            **{key: last[key] for key in ("relative_error", "order", "torch", "onednn")},
        }


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
