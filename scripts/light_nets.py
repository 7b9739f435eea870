"""Compile, check and time the nine networks that ship with the onnx package; prints the README's table.

usage: .venv/bin/python scripts/light_nets.py [--threads N] [--budget SECONDS] [--tuning-log FILE] [NET ...]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import onnx

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def globalsel(*args: object) -> str:
    """One command; its output, or exit with its error."""
    done = subprocess.run(
        [sys.executable, "-m", "tvm_globalsel", *map(str, args)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"globalsel {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """A row for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=sorted(p.stem[6:] for p in LIGHT.glob("light_*.onnx")))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=300)
    parser.add_argument("--tuning-log", type=Path, default=Path("out/light_nets.jsonl"))
    args = parser.parse_args()
    print(
        "| network | sum2d | best single layout | local | global | measured | error | transforms | solved in | tuning |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for net in args.nets:
        model, folder = LIGHT / f"light_{net}.onnx", Path("out") / f"{net}-{args.threads}"
        start = time.monotonic()
        globalsel("compile", model, "-o", folder, "--seed-weights", 0, "--threads", args.threads,
                  "--budget", args.budget, "--tuning-log", args.tuning_log)  # fmt: skip
        compile_s = time.monotonic() - start
        error = re.search(r"relative error (\S+)", globalsel("check", folder, model))
        timed = json.loads(globalsel("run", folder, "--repeat", 30, "--json"))
        plan = json.loads((folder / "plan.json").read_text())
        totals, proof, tuning = plan["predicted_s"], plan["certificate"], plan["tuning"]
        singles = [v for k, v in totals.items() if k.startswith("single:") and v is not None]
        cells = [
            net, *(_ms(v) for v in (totals["sum2d"], min(singles, default=None), totals["local"], totals["global"])),
            f"{timed['median_ms']:.2f}", error.group(1) if error else "?", str(len(plan["transforms"])),
            f"{proof['seconds'] * 1e3:.0f} ms{'' if proof['optimal'] else ' UNPROVEN'}",
            f"{tuning['measured']} kernels, {compile_s:.0f} s",
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |", flush=True)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.2f}"


if __name__ == "__main__":
    main()
