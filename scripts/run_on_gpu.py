"""Everything that needs a GPU, in one command on a machine that has one: correctness, tuning log, benchmark.

Here, where the compiler is (no GPU needed):

    scripts/run_on_gpu pack -o FOLDER [--target nvidia/nvidia-h100] [--python 3.12] [--precision float16] [MODEL ...]

There, with nothing but Python, numpy, NVIDIA's driver and, for the comparison, PyTorch:

    python3 FOLDER/run_on_gpu.py -o RESULTS [--minutes 9]

``FOLDER`` holds a bundle for each precision and this script, in 60 MiB or less. ``RESULTS`` gets ``log.jsonl`` (for
``globalsel compile --tuning-log``), ``<precision>.json`` (every network: global, local and best single layout beside
PyTorch) and ``report.txt``. Every kernel is compared with float64 before it is timed; those that differ are errors in
the log and counted in the report. ``--device cpu`` packs for this machine's processor: the same path without a GPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

_FOLDER_BYTES = 60 << 20
_NETWORKS = ("resnet50", "vgg19", "inception_v1", "squeezenet")
_TUNING_SHARE = 0.5


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["pack"]:
        return pack(arguments[1:])
    return run(arguments[1:] if arguments[:1] == ["run"] else arguments)


def pack(arguments: list[str]) -> int:
    """Build one bundle for each precision."""
    import onnx

    light = Path(onnx.__file__).parent / "backend/test/data/light"
    parser = argparse.ArgumentParser(prog="run_on_gpu pack")
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.onnx",
                        help=f"default: {', '.join(_NETWORKS)} (weights are made by seed over there)",
                        default=[light / f"light_{name}.onnx" for name in _NETWORKS])  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--target", default="nvidia/nvidia-h100")
    parser.add_argument("--python", help="Python over there (default: this one's)")
    parser.add_argument("--wheels", help="wheel files for it")
    parser.add_argument("--precision", action="append", choices=("float32", "float16"))
    parser.add_argument("--batch", action="append", type=int, help="default: 1, 8 and 64")
    parser.add_argument("--max-kernels", type=int, help="of each bundle")
    parser.add_argument("--no-numpy", action="store_true", default=False)
    args = parser.parse_args(arguments)
    cuda = args.device == "cuda"
    precisions = args.precision or (["float32", "float16"] if cuda else ["float32"])
    args.output.mkdir(parents=True, exist_ok=True)
    for precision in precisions:
        command = [
            sys.executable, "-m", "tvm_globalsel", "pack-tuning", *args.models,
            "-o", args.output / f"{precision}.pyz", "--target", args.target if cuda else "host",
            "--max-size", _FOLDER_BYTES // len(precisions) - (1 << 16),
            "--tuning-log", args.output / "nothing-known.jsonl",
        ]  # fmt: skip
        command += ["--precision", precision] if cuda else []
        command += ["--no-numpy"] if cuda or args.no_numpy else []
        for batch in args.batch or (1, 8, 64):
            command += ["--batch", batch]
        for name, value in (("--python", args.python), ("--wheels", args.wheels), ("--max-kernels", args.max_kernels)):
            command += [name, value] if value else []
        code = subprocess.run([str(part) for part in command], check=False).returncode
        if code:
            return code
    for script in (Path(__file__), Path(__file__).with_name("bench_cuda.py")):
        shutil.copy(script, args.output / script.name)
    size = sum(path.stat().st_size for path in args.output.iterdir())
    print(f"{args.output}: {size / (1 << 20):.1f} MiB; over there: python3 {args.output.name}/run_on_gpu.py -o RESULTS")
    return 0


def run(arguments: list[str]) -> int:
    """Tune and benchmark every bundle beside this script. Standard library only."""
    parser = argparse.ArgumentParser(prog="run_on_gpu.py")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RESULTS")
    parser.add_argument("--bundles", type=Path, default=Path(__file__).resolve().parent, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=8.5, help="of all together (default 8.5)")
    parser.add_argument(
        "--torch", default=sys.executable, metavar="PYTHON", help="interpreter that has PyTorch, or none"
    )
    parser.add_argument("--compile", action="store_true", help='torch.compile(mode="max-autotune") too: takes minutes')
    args = parser.parse_args(arguments)
    bundles = sorted(args.bundles.glob("*.pyz"))
    if not bundles:
        print(f"run_on_gpu: error: {args.bundles} holds no bundle; make one with 'run_on_gpu pack'", file=sys.stderr)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    log, end = args.output / "log.jsonl", time.monotonic() + args.minutes * 60
    report: list[str] = []
    code = 0
    for number, bundle in enumerate(bundles):
        left_s = (end - time.monotonic()) / (len(bundles) - number)
        tuned = _bundle(bundle, "-o", log, "--budget", left_s * _TUNING_SHARE, "--timeout", 120)
        if tuned not in (0, 1):  # 1: the time was up before all was measured
            report.append(f"{bundle.stem}: tuning failed with exit code {tuned}")
            code = tuned
            continue
        left_s = (end - time.monotonic()) / (len(bundles) - number)
        results = args.output / f"{bundle.stem}.json"
        more = ["--compile"] if args.compile else []
        benched = _bundle(
            bundle, "bench", "--log", log, "-o", results, "--budget", left_s, "--torch", args.torch, *more
        )
        code = code or benched
        report += table(results)
    report += correctness(log)
    (args.output / "report.txt").write_text("\n".join(report) + "\n")
    print("\n".join(report))
    return code


def _bundle(bundle: Path, *arguments: object) -> int:
    return subprocess.run([sys.executable, str(bundle), *map(str, arguments)], check=False).returncode


def correctness(log: Path) -> list[str]:
    """How many kernels were compared with float64, and every kind of failure."""
    if not log.exists():
        return ["no kernel ran"]
    records = [json.loads(line) for line in log.read_text().splitlines()]
    failed = [record for record in records if record["error"]]
    lines = [f"{len(records)} kernels ran and were compared with float64, {len(failed)} failed"]
    kinds = Counter(f"{r['variant']}: {r['error'].split(':')[0]}" for r in failed)
    return lines + [f"  {count} x {kind}" for kind, count in kinds.most_common()]


def table(results: Path) -> list[str]:
    """Rows of a bundle's results: milliseconds."""
    if not results.exists():
        return []
    body = json.loads(results.read_text())
    lines = [
        f"{results.stem} on {body['device']}, milliseconds, median",
        "| network | batch | global | predicted | local | single layout | PyTorch, fastest way | error |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in body["rows"]:
        if "error" in row:
            lines.append(f"| {row['network']} | {row['batch']} | {row['error']} | | | | | |")
            continue
        single = next((value for name, value in row.items() if name.startswith("single:")), {})
        cells = [
            row["network"], str(row["batch"]), _ms(row["global"].get("measured_ms")),
            _ms(row["global"]["predicted_ms"]), _ms(row["local"].get("measured_ms")), _ms(single.get("measured_ms")),
            _fastest(row.get("torch", {})), f"{row['global']['relative_error'] or float('nan'):.1e}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _fastest(torch: dict[str, object]) -> str:
    ways = torch.get("ms")
    if not isinstance(ways, dict) or not ways:
        return str(torch.get("error", torch.get("failed", "left out")))[:60]
    name = min(ways, key=lambda way: float(ways[way]))
    return f"{_ms(ways[name])} ({name})"


def _ms(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-"


if __name__ == "__main__":
    sys.exit(main())
