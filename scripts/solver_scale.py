"""How the exact solvers grow: chains of residual, inception and dense blocks, and DenseNets, of random costs.

Every case is solved in a process of its own, so that its peak memory is its own (the interpreter with numpy, and with
scipy for milp, included). Time is the solver's: from the problem in memory to the proven plan.

usage: scripts/solver_scale [--sizes N,...] [--solvers pbqp,milp] [--json FILE] [--no-plot]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the networks are those of the solvers' tests

CHOICES, LAYOUTS, SEED = 30, 5, 1
DENSENETS = {"densenet121": (6, 12, 24, 16), "densenet201": (6, 12, 48, 32)}
DENSENET_OPERATORS = {"densenet121": 243, "densenet201": 403}
SIZES = (100, 300, 1000, 3000, 10000)


def solve_one(case: str, solver: str, time_limit_s: float) -> dict[str, Any]:
    """Build and solve one case here; what the table says of it."""
    from tests.solve.large import blocks, densenet
    from tvm_globalsel.solve import milp, solve

    problem = (
        densenet(DENSENETS[case], LAYOUTS, CHOICES, SEED)
        if case in DENSENETS
        else blocks(int(case), LAYOUTS, CHOICES, SEED)
    )
    found = milp.solve(problem, time_limit_s=time_limit_s) if solver == "milp" else solve(problem, solver)
    return {
        "operators": len(problem.nodes), "seconds": found.seconds, "cost_s": found.cost_s,
        "optimal": found.optimal, "gap": found.gap if math.isfinite(found.gap) else None,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "reductions": dict(found.reductions),
    }  # fmt: skip


def run(case: str, solver: str, time_limit_s: float) -> dict[str, Any]:
    """One case in a process of its own."""
    result: dict[str, Any] = {"case": case, "solver": solver, "choices": CHOICES, "layouts": LAYOUTS}
    command = [sys.executable, __file__, "--one", case, solver, "--time-limit", str(time_limit_s)]
    try:
        # building the problem and what HiGHS does beyond its limit come on top
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=3 * time_limit_s + 60, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return result | {"error": f"not solved in {time_limit_s:.0f} s"}
    if done.returncode:
        return result | {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:200]}
    return result | json.loads(done.stdout)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory against operators, both logarithmic; a line of slope 1 to compare with."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5))
    for axis, key, label in ((axes[0], "seconds", "seconds"), (axes[1], "peak_mib", "peak memory of the process, MiB")):
        for solver in dict.fromkeys(row["solver"] for row in rows):
            found = [r for r in rows if r["solver"] == solver and "error" not in r]
            chain = [r for r in found if r["case"] not in DENSENETS]
            (line,) = axis.plot([r["operators"] for r in chain], [r[key] for r in chain], "o-", label=solver)
            for row in found:
                if row["case"] in DENSENETS:
                    axis.plot(row["operators"], row[key], "s", color=line.get_color(), fillstyle="none")
                    axis.annotate(row["case"], (row["operators"], row[key]), fontsize=7)
                if not row["optimal"]:
                    axis.annotate("unproven", (row["operators"], row[key]), fontsize=7, color="red")
            if key == "seconds" and solver == "pbqp" and chain:
                first = chain[0]
                linear = [first[key] * r["operators"] / first["operators"] for r in chain]
                axis.plot([r["operators"] for r in chain], linear, ":", color="grey", label="linear growth")
        axis.set(xscale="log", yscale="log", xlabel="operators", ylabel=label)
        axis.grid(True, which="both", alpha=0.3)
        axis.legend()
    figure.suptitle(f"{CHOICES} choices x {LAYOUTS} layouts: residual, inception and dense blocks in a chain")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def shown(row: dict[str, Any]) -> str:
    """A row of the table."""
    if "error" in row:
        return f"| {row['case']} | {row['solver']} | - | - | - | {row['error']} | |"
    proof = "optimal" if row["optimal"] else "unproven" + (f", gap {row['gap']:.1%}" if row["gap"] is not None else "")
    did = ", ".join(f"{name} {count}" for name, count in row["reductions"].items() if count)
    return (f"| {row['case']} | {row['solver']} | {row['operators']} | {row['seconds']:.2f} | {row['peak_mib']:.0f} | "
            f"{proof} | {did} |")  # fmt: skip


def main() -> int:
    """Solve every case, print the table, plot it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="operators of the chains")
    parser.add_argument("--solvers", default="pbqp,milp")
    parser.add_argument("--milp-up-to", type=int, default=300, metavar="N", help="largest network that milp is given")
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="SECONDS", help="of milp, per case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--plot", type=Path, default=Path("out/solver_scale.png"), metavar="FILE")
    parser.add_argument("--no-plot", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(solve_one(*args.one, args.time_limit)))
        return 0
    try:
        sizes = [int(size) for size in args.sizes.split(",") if size]
    except ValueError:
        parser.error(f"--sizes {args.sizes}: give numbers, e.g. 100,1000")
    solvers = args.solvers.split(",")
    if not set(solvers) <= {"pbqp", "milp"} or any(size < 3 for size in sizes):
        parser.error("--solvers are pbqp and milp; --sizes are at least 3")
    if not args.no_plot and importlib.util.find_spec("matplotlib") is None:
        print("error: the plot needs matplotlib, which is not installed; .venv/bin/pip install -e '.[plots]', "
              "or run with --no-plot", file=sys.stderr)  # fmt: skip
        return 2
    rows = []
    print("| network | solver | operators | seconds | peak MiB | proof | how |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for solver in solvers:
        for case in [*map(str, sizes), *DENSENETS]:
            if solver == "milp" and (DENSENET_OPERATORS.get(case) or int(case)) > args.milp_up_to:
                continue
            rows.append(run(case, solver, args.time_limit))
            print(shown(rows[-1]), flush=True)
    best = {row["case"]: row["cost_s"] for row in rows if row.get("optimal") and row["solver"] == "pbqp"}
    for row in rows:
        if row.get("optimal") and abs(row["cost_s"] - best.get(row["case"], row["cost_s"])) > 1e-9 * row["cost_s"]:
            print(f"error: {row['solver']} and pbqp disagree on {row['case']}", file=sys.stderr)
            return 1
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    if not args.no_plot:
        plot(rows, args.plot)
        print(f"wrote {args.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
