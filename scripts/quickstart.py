"""The main job on one network: compile, run, check, explain. Without an argument: SqueezeNet with seeded weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx

#: Measurements of machines that we have; used where this one is one of them.
SHIPPED = sorted((Path(__file__).parent.parent / "tuning_logs").glob("*.jsonl"))


def main() -> int:
    """Each step is a command that a user would type; it is printed before it runs."""
    if len(sys.argv) > 1:
        model, seed = Path(sys.argv[1]), []
    else:
        model = Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
        seed = ["--seed-weights", "0"]  # the model ships with constant weights, on which any check is vacuous
    folder = Path("out") / model.stem
    log = Path("out/quickstart.jsonl")
    begin = [] if log.exists() else [["log", "merge", "-o", str(log), *map(str, SHIPPED)]]
    log.parent.mkdir(exist_ok=True)
    steps = [
        *begin,
        ["compile", str(model), "-o", str(folder), "--tuning-log", str(log), "--budget", "150", *seed],
        ["explain", str(folder)],
        ["check", str(folder), str(model)],
        ["run", str(folder), "--repeat", "50"],
    ]
    for step in steps:
        print(f"\n$ globalsel {' '.join(step)}", flush=True)
        code = subprocess.run([sys.executable, "-m", "tvm_globalsel", *step], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
