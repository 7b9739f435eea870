"""``scripts/solver_scale``: its table is made of solved, proven networks; what it needs it asks for."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def scale(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/solver_scale.py", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)


def test_rows_are_proven_and_the_solvers_agree(tmp_path: Path) -> None:
    done = scale("--sizes", "60,120", "--milp-up-to", 60, "--no-plot", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    rows = {(row["case"], row["solver"]): row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert {("60", "pbqp"), ("120", "pbqp"), ("densenet201", "pbqp"), ("60", "milp")} <= set(rows)
    assert ("120", "milp") not in rows
    for (case, solver), row in rows.items():
        if solver == "pbqp":
            assert row["optimal"] and row["operators"] >= 60 and 0 < row["peak_mib"] < 1024, case
    assert rows["60", "milp"]["cost_s"] == pytest.approx(rows["60", "pbqp"]["cost_s"], rel=1e-9)
    assert done.stdout.count("\n") == len(rows) + 2


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is not None, reason="matplotlib is installed")
def test_without_matplotlib_it_says_so_before_solving() -> None:
    done = scale("--sizes", "60")
    assert done.returncode == 2 and done.stdout == ""
    assert "matplotlib" in done.stderr and "--no-plot" in done.stderr


@pytest.mark.parametrize("args", [("--sizes", "many"), ("--solvers", "magic"), ("--sizes", "0")])
def test_wrong_arguments(args: tuple[str, ...]) -> None:
    assert scale(*args).returncode == 2
