"""Prices from inside of the network: what they are made of, and that a plan refined by them is sound."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import onnx
import pytest

from te_kernels.machine import describe, host_target
from te_kernels.task import ConvTask, TransformTask
from te_kernels.variant import all_variants
from tests.globalsel import nets
from tests.globalsel.commands import command
from tvm_globalsel.inside import priced_inside
from tvm_globalsel.log import Context, Record, TuningLog, make_record
from tvm_globalsel.options import Options
from tvm_globalsel.pipeline import compile
from tvm_globalsel.record import INSIDE, inside_record, key_at, parse
from tvm_globalsel.selection import Costs, Measured
from tvm_globalsel.verify import verify

CONTEXT = Context("llvm:test", "device", 1, "0", "memory")
FIRST, SECOND = ConvTask(1, 16, 8, 8, 16, 3, 1), ConvTask(1, 16, 8, 8, 32, 1, 1)
MACHINE = describe(host_target(1), 1)


def _measured(task: ConvTask, name: str, cost_s: float) -> Measured:
    variant = next(iter(all_variants()[name].candidates(task, MACHINE)))
    return Measured(variant, cost_s, make_record(CONTEXT, task, variant, costs_s=(cost_s,)))


@pytest.fixture
def costs() -> Costs:
    first = (
        _measured(FIRST, "direct_nhwc", 1.0),
        _measured(FIRST, "sum2d", 1.04),
        _measured(FIRST, "direct_nchw", 2.0),
    )
    second = (_measured(SECOND, "direct_nhwc", 3.0), _measured(SECOND, "sum2d", 5.0))
    return Costs({FIRST.key: first, SECOND.key: second}, {})


def _record(measured: Measured) -> Record:
    assert measured.record is not None
    return measured.record


def test_unknown_inside_changes_nothing(costs: Costs) -> None:
    assert priced_inside(costs, TuningLog(), CONTEXT.origin) is costs


def _factor(pairs: list[tuple[float, float]]) -> float:
    """Of convolutions in ``costs``, whose cheapest plan takes 4 s: shrunk towards all kinds, and those towards 1."""
    alone, inside = (sum(column) for column in zip(*pairs, strict=True))
    overall = (inside + 0.1 * 4.0) / (alone + 0.1 * 4.0)
    imagined = 3 * alone / len(pairs)
    return (inside + overall * imagined) / (alone + imagined)


def test_another_machines_network_says_nothing_of_what_was_measured_here(costs: Costs) -> None:
    """A trusted log of a machine twice as fast: its choice would win by the machine, not by the kernel."""
    slow = _record(costs.choices[FIRST.key][2])
    other = dataclasses.replace(CONTEXT.origin, device="faster")
    log = TuningLog()
    log.append([inside_record(slow, other, (0.5,))])
    log.trust(CONTEXT.origin)
    assert log.get(key_at(slow, CONTEXT.origin, INSIDE)) is not None
    assert priced_inside(costs, log, CONTEXT.origin) is costs


def test_a_short_kernel_of_another_network_says_little(costs: Costs) -> None:
    """A softmax of 0.1 ms takes eighty times as long inside: the convolutions are not eighty times as dear for it."""
    variant = costs.choices[FIRST.key][0].variant
    short = make_record(CONTEXT, TransformTask((1, 16, 8, 8), "NCHW", "NHWC"), variant, costs_s=(1e-4,))
    log = TuningLog()
    log.append([inside_record(short, CONTEXT.origin, (8e-3,))])
    priced = priced_inside(Costs(costs.choices, {"a": Measured(variant, 1e-4, short)}), log, CONTEXT.origin)
    assert priced.transforms["a"].cost_s == 8e-3
    for found, before in ((priced.choices[task.key], costs.choices[task.key]) for task in (FIRST, SECOND)):
        assert [m.cost_s for m in found] == pytest.approx([m.cost_s for m in before], rel=0.03)


def test_prices_inside(costs: Costs) -> None:
    log = TuningLog()
    first, second = costs.choices[FIRST.key], costs.choices[SECOND.key]
    log.append([inside_record(_record(first[0]), CONTEXT.origin, (1.2, 1.1, 1.3))])
    priced = priced_inside(costs, log, CONTEXT.origin)
    factor = _factor([(1.0, 1.2)])
    assert [m.cost_s for m in priced.choices[FIRST.key]] == pytest.approx(
        [1.2, 1.04 * factor * 1.03, 2.0 * factor * 1.03]
    )
    assert [m.inside for m in priced.choices[FIRST.key]] == [True, False, False]
    assert [m.cost_s for m in priced.choices[SECOND.key]] == pytest.approx(
        [3.0 * factor, 5.0 * factor]
    )  # no rival was inside
    assert priced_inside(priced, log, CONTEXT.origin) == priced  # prices are made from what kernels take alone
    log.append([inside_record(_record(second[1]), CONTEXT.origin, (4.8,))])
    factor = _factor([(1.0, 1.2), (5.0, 4.8)])
    priced = priced_inside(costs, log, CONTEXT.origin)
    assert [m.cost_s for m in priced.choices[SECOND.key]] == pytest.approx([3.0 * factor * 1.03, 4.8])


def test_factors_of_kinds(costs: Costs) -> None:
    move = TransformTask((1, 16, 8, 8), "NCHW", "NHWC")
    moved = Measured(costs.choices[FIRST.key][0].variant, 0.01, make_record(
        CONTEXT, move, costs.choices[FIRST.key][0].variant, costs_s=(0.01,)))  # fmt: skip
    other = dataclasses.replace(move, shape=(1, 16, 4, 4))
    unseen = Measured(moved.variant, 0.02, make_record(CONTEXT, other, moved.variant, costs_s=(0.02,)))
    log = TuningLog()
    log.append([inside_record(_record(costs.choices[FIRST.key][0]), CONTEXT.origin, (1.1,)),
                inside_record(_record(moved), CONTEXT.origin, (0.03,))])  # fmt: skip
    priced = priced_inside(Costs(costs.choices, {"a": moved, "b": unseen}), log, CONTEXT.origin)
    overall = (1.1 + 0.03 + 0.4) / (1.0 + 0.01 + 0.4)
    assert priced.transforms["a"].cost_s == pytest.approx(0.03)
    assert priced.transforms["b"].cost_s == pytest.approx(0.02 * (0.03 + 3 * 0.01 * overall) / (0.01 + 3 * 0.01))


def test_failed_and_missing_kernels_stay_impossible(costs: Costs) -> None:
    chosen, failed, missing = costs.choices[FIRST.key]
    broken = dataclasses.replace(failed, cost_s=float("inf"), record=make_record(
        CONTEXT, FIRST, failed.variant, error="crashed"))  # fmt: skip
    unknown = dataclasses.replace(missing, cost_s=float("inf"), record=None)
    log = TuningLog()
    log.append([inside_record(_record(chosen), CONTEXT.origin, (2.0,))])
    priced = priced_inside(Costs({FIRST.key: (chosen, broken, unknown)}, {}), log, CONTEXT.origin)
    assert [m.cost_s for m in priced.choices[FIRST.key]] == [2.0, float("inf"), float("inf")]


def test_both_places_have_keys_of_their_own(costs: Costs) -> None:
    alone = _record(costs.choices[FIRST.key][0])
    inside = inside_record(alone, CONTEXT.origin, (2.0, 3.0))
    again = parse(inside.to_json().encode())
    assert again is not None and again.key == inside.key == key_at(alone, CONTEXT.origin, INSIDE) != alone.key
    assert again.costs_s == (2.0, 3.0) and again.origin == CONTEXT.origin
    assert "place" not in json.loads(alone.to_json())["context"]  # logs of kernels alone are as they were
    line = json.loads(inside.to_json())
    line["context"]["place"] = "elsewhere"
    assert parse(json.dumps(line).encode()) is None


def test_refined_network(tmp_path: Path, log: Path, tiny: tuple[Path, Path]) -> None:
    own = tmp_path / "log.jsonl"
    shutil.copyfile(log, own)
    compiled = compile(tiny[0], tmp_path / "out", Options(tuning_log=own, refine=2))
    inside = compiled.plan["inside"]
    assert 0 < inside["measured_inside"] <= inside["kernels"]
    entries = [*compiled.plan["nodes"], *compiled.plan["transforms"]]
    assert sum(entry["cost_s"] for entry in entries) == pytest.approx(compiled.plan["certificate"]["cost_s"])
    assert compiled.plan["certificate"]["optimal"]
    assert verify(tmp_path / "out", tiny[0], None, 1e-4).passed
    records = [record for record in TuningLog(own) if record.context.get("place") == INSIDE]
    assert len(records) >= inside["measured_inside"]
    plain = compile(tiny[0], tmp_path / "plain", Options(tuning_log=own))  # what the log knows is used without asking
    assert plain.plan["tuning"]["measured"] == 0 and plain.plan["inside"]["measured_inside"] > 0
    assert plain.plan["certificate"]["cost_s"] == pytest.approx(compiled.plan["certificate"]["cost_s"])
    shown = command("explain", tmp_path / "out").stdout
    assert "inside of a network" in " ".join(shown.split())
    assert "inside of a network" in command("log", "show", own, "--limit", 10000).stdout


def test_only_what_runs_here_is_refined(tmp_path: Path, log: Path) -> None:
    onnx.save(nets.tiny(), tmp_path / "tiny.onnx")
    done = command("compile", tmp_path / "tiny.onnx", "-o", tmp_path / "out", "--target", "nvidia/nvidia-h100",
                   "--refine", 1, "--tuning-log", tmp_path / "log.jsonl")  # fmt: skip
    assert done.returncode == 2 and "--refine" in done.stderr
