"""The nine real networks, end to end; minutes each on a cold log, so only with --slow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.globalsel import nets
from tests.globalsel.commands import command


@pytest.mark.slow
@pytest.mark.parametrize("name", nets.LIGHT_NETS)
def test_compile_and_check(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    done = command("compile", nets.light(name), "-o", folder, "--seed-weights", 0, "--budget", 300)
    assert done.returncode == 0, done.stderr
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["certificate"]["optimal"] and plan["certificate"]["seconds"] < 2
    totals = {k: v for k, v in plan["predicted_s"].items() if v is not None}
    assert all(totals["global"] <= total * (1 + 1e-12) for total in totals.values())
    checked = command("check", folder, nets.light(name))
    assert checked.returncode == 0, checked.stdout + checked.stderr
