"""Limits, pins and prohibitions from the command line to the plan; impossible demands name what can be had."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from tests.globalsel.commands import command
from tests.globalsel.test_cli import assert_refused
from tvm_globalsel.cli import _parser
from tvm_globalsel.frontends.onnx import import_onnx, load_model, prepare
from tvm_globalsel.options import Options
from tvm_globalsel.packing import packed_bytes
from tvm_globalsel.pipeline import select
from tvm_globalsel.selected import Selected


@pytest.fixture(scope="module")
def free(tiny: tuple[Path, Path], log: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The plan without limits, of the same measurements as plans under limits: all of them."""
    return compiled(tiny, log, tmp_path_factory.mktemp("free"), "--exhaustive")[0]


@pytest.fixture(scope="module")
def selected(tiny: tuple[Path, Path], log: Path) -> Selected:
    imported = import_onnx(prepare(load_model(tiny[0])))
    return select(imported.module, Options(tuning_log=log), imported.names)


def compiled(tiny: tuple[Path, Path], log: Path, folder: Path, *options: object) -> tuple[dict, str]:
    done = command("compile", tiny[0], "-o", folder, "--tuning-log", log, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "plan.json").read_text()), done.stdout


def refused(tiny: tuple[Path, Path], log: Path, folder: Path, *options: object) -> str:
    done = command("compile", tiny[0], "-o", folder, "--tuning-log", log, *options)
    assert_refused(done)
    assert not (folder / "plan.json").exists()
    return done.stderr.strip().splitlines()[-1]


def test_plan_accounts_for_memory_and_error(free: dict, selected: Selected) -> None:
    peak = free["peak_memory"]
    parts = [peak[f"{part}_bytes"] for part in ("activation", "workspace", "weight")]
    assert peak["total_bytes"] == sum(parts)
    weights = sum(op_bytes(selected, node) for node in free["nodes"])
    assert peak["weight_bytes"] == weights
    # conv0 writes 16x10x10, which conv1 reads and adds: at least two maps of that size live at once
    assert peak["activation_bytes"] >= 2 * 16 * 10 * 10 * 4
    assert free["accumulated_error"] == pytest.approx(sum(node["relative_error"] or 0.0 for node in free["nodes"]))
    assert free["constraints"] == {"max_memory_bytes": None, "max_error": None, "pin": [], "forbid": [], "slack": 0.0}
    assert free["slack"] is None


def op_bytes(selected: Selected, node: dict) -> int:
    op = next(o for o in selected.network.operators if o.name == node["name"])
    chosen = next(m.variant for m in selected.costs.choices[op.task.key]
                  if m.variant.name == node["variant"] and m.variant.knobs == node["knobs"])  # fmt: skip
    packed = sum(p.nbytes for p in chosen.pack(op.task, list(op.params)))
    assert packed == packed_bytes(op.task, chosen, tuple((p.shape, str(p.dtype)) for p in op.params))
    return packed


def test_impossible_memory_names_the_least_and_that_is_feasible(
    tiny: tuple[Path, Path], log: Path, tmp_path: Path, free: dict
) -> None:
    message = refused(tiny, log, tmp_path / "a", "--max-memory", 100)
    least = int(re.search(r"every plan needs at least (\d+) bytes", message).group(1))
    assert f"ask for --max-memory {least} or more" in message
    assert least < free["peak_memory"]["total_bytes"]
    plan, shown = compiled(tiny, log, tmp_path / "b", "--max-memory", least)
    assert plan["peak_memory"]["total_bytes"] == least and plan["constraints"]["max_memory_bytes"] == least
    assert plan["certificate"]["solver"] == "milp"
    assert plan["predicted_s"]["selected"] > free["predicted_s"]["selected"]
    assert f"Constraints: --max-memory {least}" in shown
    assert command("check", tmp_path / "b", tiny[0]).returncode == 0
    assert "cannot be kept" in refused(tiny, log, tmp_path / "c", "--max-memory", least - 1)


def test_impossible_error_names_the_least_and_that_is_feasible(
    tiny: tuple[Path, Path], log: Path, tmp_path: Path, free: dict
) -> None:
    message = refused(tiny, log, tmp_path / "a", "--max-error", 1e-12)
    least = re.search(r"ask for --max-error (\S+) or more", message).group(1)
    plan, _ = compiled(tiny, log, tmp_path / "b", "--max-error", least)
    assert plan["accumulated_error"] <= float(least) < free["accumulated_error"] * 1.01
    assert plan["accumulated_error"] == pytest.approx(sum(n["relative_error"] or 0.0 for n in plan["nodes"]))


def test_loose_limits_change_nothing(tiny: tuple[Path, Path], log: Path, tmp_path: Path, free: dict) -> None:
    plan, _ = compiled(tiny, log, tmp_path / "a", "--max-memory", "1GiB", "--max-error", 1)
    assert plan["predicted_s"] == free["predicted_s"] and plan["certificate"]["optimal"]


def test_slack_buys_smaller_weights(tiny: tuple[Path, Path], log: Path, tmp_path: Path, free: dict) -> None:
    plan, shown = compiled(tiny, log, tmp_path / "a", "--slack", 0.5)
    bought, fastest = plan["slack"], free["predicted_s"]["selected"]
    assert bought["fastest_s"] == fastest and bought["fastest_weight_bytes"] == free["peak_memory"]["weight_bytes"]
    assert bought["weight_bytes"] == plan["peak_memory"]["weight_bytes"] < bought["fastest_weight_bytes"]
    assert bought["least_weight_bytes"] <= bought["weight_bytes"]
    assert fastest < plan["predicted_s"]["selected"] <= 1.5 * fastest
    assert not plan["certificate"]["optimal"] and "At most 50.0% slower than the fastest plan by pbqp" in shown
    assert command("check", tmp_path / "a", tiny[0]).returncode == 0
    here = tmp_path / "b"
    assert "--slack goes with neither" in refused(tiny, log, here, "--slack", 0.1, "--max-memory", "1GiB")
    assert "--solver local cannot keep --slack" in refused(tiny, log, here, "--slack", 0.1, "--solver", "local")
    assert "'1.5' is not a part" in command("compile", tiny[0], "-o", here, "--slack", 1.5).stderr


@pytest.mark.parametrize("solver", ["pbqp", "milp", "local", "greedy"])
def test_pin_and_forbid_with_every_solver(
    solver: str, tiny: tuple[Path, Path], log: Path, tmp_path: Path, free: dict
) -> None:
    first, second = free["nodes"][0], free["nodes"][1]
    other = next(a for a in first["alternatives"] if a["variant"] != first["variant"] and a["cost_s"] is not None)
    knobs = ",".join(f"{k}={v}" for k, v in other["knobs"].items())
    label = f"{other['variant']}[{knobs}]" if knobs else other["variant"]
    plan, _ = compiled(
        tiny, log, tmp_path / "a", "--solver", solver,
        "--pin", f"{first['name']}={label}", "--forbid", second["variant"],
    )  # fmt: skip
    assert (plan["nodes"][0]["variant"], plan["nodes"][0]["knobs"]) == (other["variant"], other["knobs"])
    assert all(node["variant"] != second["variant"] for node in plan["nodes"])
    assert plan["constraints"]["pin"] == [[first["name"], label]]
    assert plan["constraints"]["forbid"] == [second["variant"]]


def test_wrong_pins_and_prohibitions(tiny: tuple[Path, Path], log: Path, tmp_path: Path, free: dict) -> None:
    name = free["nodes"][0]["name"]
    here = tmp_path / "a"
    assert "no operator 'nowhere'" in refused(tiny, log, here, "--pin", "nowhere=sum2d")
    assert "did you mean sum2d" in refused(tiny, log, here, "--pin", f"{name}=sum2")
    assert "did you mean sum2d" in refused(tiny, log, here, "--forbid", "sum2")
    message = refused(tiny, log, here, "--pin", f"{name}=sum2d", "--forbid", "sum2d")
    assert "contradict" in message
    forbids = [part for a in {n["variant"] for n in free["nodes"][0]["alternatives"]} | {free["nodes"][0]["variant"]}
               for part in ("--forbid", a)]  # fmt: skip
    assert f"leaves operator '{name}' without a variant" in refused(tiny, log, here, *forbids)
    assert "--solver local cannot keep" in refused(tiny, log, here, "--solver", "local", "--max-memory", 1 << 30)


@pytest.mark.parametrize(
    ("text", "value"), [("1000", 1000), ("64MiB", 64 << 20), ("1.5G", 3 << 29), ("2k", 2048), ("0", 0)]
)
def test_sizes(text: str, value: int) -> None:
    args = _parser().parse_args(["compile", "m", "-o", "o", "--max-memory", text])
    assert args.max_memory == value


@pytest.mark.parametrize(
    ("option", "text"),
    [("--max-memory", "much"), ("--max-memory", "-1"), ("--max-error", "nan"), ("--pin", "conv"), ("--pin", "=x")],
)
def test_wrong_values(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["compile", "m", "-o", "o", f"{option}={text}"])
    assert "is not" in capsys.readouterr().err


def test_a_pin_may_name_knobs() -> None:
    args = _parser().parse_args(["compile", "m", "-o", "o", "--pin", "a=b=direct_nhwc[pixels=7,vectors=2]"])
    assert args.pin == [("a=b", "direct_nhwc[pixels=7,vectors=2]")]


def test_pareto(tiny: tuple[Path, Path], log: Path, free: dict) -> None:
    done = command("pareto", tiny[0], "--tuning-log", log, "--points", 4, "--json")
    assert done.returncode == 0, done.stderr
    fronts = json.loads(done.stdout)
    for name, key in (("memory", "peak_bytes"), ("error", "error")):
        front = fronts[name]
        assert front[0]["cost_s"] == pytest.approx(free["predicted_s"]["global"])
        assert front[0]["peak_bytes"] == free["peak_memory"]["total_bytes"]
        assert len(front) > 1
        for faster, slower in itertools.pairwise(front):
            assert faster["cost_s"] <= slower["cost_s"] and faster[key] > slower[key]
    shown = command("pareto", tiny[0], "--tuning-log", log, "--points", 3)
    assert "time against peak memory" in shown.stdout and "time against accumulated error" in shown.stdout
