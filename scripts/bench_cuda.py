"""Latency of whole networks on a GPU: global, local and best single layout beside PyTorch, every way of running it.

    python3 bench_cuda.py --bundles FOLDER --log log.jsonl -o RESULTS

``FOLDER`` is what ``scripts/run_on_gpu pack`` made, ``log.jsonl`` what ``run_on_gpu.py`` wrote on this machine.
PyTorch runs with ``cudnn.benchmark``, without TF32, contiguous and channels_last, eager, from a CUDA graph and by
``torch.compile(mode="max-autotune")``, on the same seeded weights; both sides are timed by events around one
inference, medians in milliseconds. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from run_on_gpu import table


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench_cuda")
    parser.add_argument("--bundles", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--log", type=Path, required=True, metavar="LOG.jsonl")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RESULTS")
    parser.add_argument("--minutes", type=float, default=30.0, help="of each bundle (default 30)")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--torch", default=sys.executable, metavar="PYTHON", help="interpreter that has PyTorch, or none"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes minutes")
    args = parser.parse_args()
    bundles = sorted(args.bundles.glob("*.pyz"))
    if not bundles:
        print(f"bench_cuda: error: {args.bundles} holds no bundle; make one with 'run_on_gpu pack'", file=sys.stderr)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    code = 0
    for bundle in bundles:
        results = args.output / f"{bundle.stem}.json"
        command = [
            sys.executable, bundle, "bench", "--log", args.log, "-o", results, "--budget", args.minutes * 60,
            "--rounds", args.rounds, "--torch", args.torch, *([] if args.no_compile else ["--compile"]),
        ]  # fmt: skip
        code = subprocess.run([str(part) for part in command], check=False).returncode or code
        print("\n".join([*table(results), *pytorch(results)]))
    return code


def pytorch(results: Path) -> list[str]:
    """Every way of running PyTorch, by network."""
    if not results.exists():
        return []
    rows = [row for row in json.loads(results.read_text())["rows"] if row.get("torch", {}).get("ms")]
    ways = list(dict.fromkeys(way for row in rows for way in row["torch"]["ms"]))
    if not ways:
        return ["PyTorch: no results"]
    lines = ["| PyTorch | batch | " + " | ".join(ways) + " |", "| --- | --- |" + " --- |" * len(ways)]
    for row in rows:
        cells = [f"{row['torch']['ms'][way]:.3f}" if way in row["torch"]["ms"] else "-" for way in ways]
        lines.append(f"| {row['network']} | {row['batch']} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
