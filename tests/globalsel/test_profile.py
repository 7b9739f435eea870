"""The profile of a deployed network: every kernel of the plan, once for each time it runs."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.globalsel.commands import command


@pytest.fixture
def folder(tiny: tuple[Path, Path]) -> Path:
    return tiny[1]


def _profiled(folder: Path) -> dict:
    done = command("profile", folder, "--repeat", 5, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_steps_are_the_plan_and_add_up(folder: Path) -> None:
    found, plan = _profiled(folder), json.loads((folder / "plan.json").read_text())
    planned = Counter(node["name"] for node in plan["nodes"] if node["kernel"])
    planned.update(f"transform of {move['value']}" for move in plan["transforms"] if move["kernel"])
    assert Counter(step["name"] for step in found["steps"]) == planned and planned
    assert sum(step["measured_s"] for step in found["steps"]) == pytest.approx(found["total_s"])
    assert found["planned_s"] == pytest.approx(plan["certificate"]["cost_s"])
    assert all(step["measured_s"] >= 0 for step in found["steps"])


def test_table_shows_the_slowest(folder: Path) -> None:
    done = command("profile", folder, "--repeat", 3, "--most", 1)
    assert done.returncode == 0, done.stderr
    variants = [step["variant"] for step in _profiled(folder)["steps"]]
    assert sum(line.count(variant) for variant in set(variants) for line in done.stdout.splitlines()) == 1
    assert f"{len(variants) - 1} " in done.stdout and "not shown" in done.stdout
    assert "ms measured" in done.stdout


def test_plan_without_kernel_names_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "old"
    shutil.copytree(folder, copy)
    plan = json.loads((copy / "plan.json").read_text())
    for node in plan["nodes"]:
        del node["kernel"]
    (copy / "plan.json").write_text(json.dumps(plan))
    done = command("profile", copy)
    assert done.returncode == 2 and "compile the model again" in done.stderr


def test_library_of_another_plan_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other"
    shutil.copytree(folder, copy)
    plan = json.loads((copy / "plan.json").read_text())
    next(node for node in plan["nodes"] if node["kernel"])["kernel"] = "another"
    (copy / "plan.json").write_text(json.dumps(plan))
    done = command("profile", copy)
    assert done.returncode == 2 and "other kernels than the plan" in done.stderr
