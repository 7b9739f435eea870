"""Two operators by one kernel: where that may be, that solvers find when it pays, and that results are right."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from te_kernels.gpu import Gpu
from tests.globalsel import nets
from tests.globalsel.commands import command
from tests.globalsel.test_cli import assert_refused
from tests.search.spaces import CONTEXT, MACHINE
from tvm_globalsel.candidates import Candidates
from tvm_globalsel.choices import Deferred, layouts_of
from tvm_globalsel.deferral import DEFERRED, deferred_layout, shown, source_layout
from tvm_globalsel.demands import account
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx, prepare
from tvm_globalsel.fuse import simplify
from tvm_globalsel.graph import Network
from tvm_globalsel.listing import Listing, list_candidates
from tvm_globalsel.log import TuningLog, make_record
from tvm_globalsel.pairs import pair_up
from tvm_globalsel.selection import Costs, Measured, build_problem, costs_from_log, interpret
from tvm_globalsel.solve import exhaustive, greedy, local, milp, pbqp

FIRST, SECOND = ("conv0", "conv2"), ("conv6", "conv8")  # expansion and depthwise of the two blocks that may be paired


def network() -> Network:
    imported = import_onnx(prepare(nets.inverted_residuals()))
    return simplify(extract(imported.module, imported.names))


@pytest.fixture(scope="module")
def listing() -> Listing:
    return list_candidates(network(), MACHINE)


def test_only_where_nobody_else_reads_the_middle(listing: Listing) -> None:
    paired = {op.name: op.absorbs.name for op in listing.network.operators if op.absorbs}
    assert paired == {second: first for first, second in (FIRST, SECOND)}
    for op in listing.network.operators:
        assert (op.absorbed_by is not None) == (op.name in paired.values())
        assert (op.pair is not None) == (op.name in paired)
        if op.pair is not None and op.absorbs is not None:
            assert (op.pair.first, op.pair.second) == (op.absorbs.task, op.task)
            assert listing.found[op.pair.key].variants


def test_no_pairs_for_machines_without_such_kernels() -> None:
    gpu = Gpu("sm_90a", "float32", 132, 1.9e9, 4e12, 50 << 20, 227 << 10, 228 << 10)
    assert not any(op.absorbs or op.absorbed_by for op in pair_up(network(), gpu).operators)


def made_up(listing: Listing, seed: int, most: int) -> Costs:
    """``most`` candidates of each task at random costs; being fused is worth it about every second time."""
    rng = np.random.default_rng(seed)
    log = TuningLog()
    found: dict[str, Candidates] = {}
    for key, candidates in listing.found.items():
        kept = rng.permutation(len(candidates.variants))[:most]
        found[key] = dataclasses.replace(candidates, variants=tuple(candidates.variants[i] for i in sorted(kept)))
        scale = 2.0 if candidates.task.kind == "conv2d_pair" else 1.0
        for variant in found[key].variants:
            seconds = float(rng.uniform(0.5, 1.5) * scale)
            log.append([make_record(CONTEXT, candidates.task, variant, costs_s=(seconds,))])
    for candidates in listing.move_candidates.values():
        for variant in candidates.variants:
            seconds = float(rng.uniform(0.05, 0.5))
            log.append([make_record(CONTEXT, candidates.task, variant, costs_s=(seconds,))])
    return costs_from_log(found, listing.moves, listing.move_candidates, log, CONTEXT)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32 - 1))
def test_solvers_have_the_optimum(listing: Listing, seed: int) -> None:
    """Enumeration knows nothing of pairs but what plans cost."""
    costs = made_up(listing, seed, 1)
    problem = build_problem(listing.network, costs)
    best = exhaustive.solve(problem)
    for solver in (pbqp, milp):
        assert solver.solve(problem).cost_s == pytest.approx(best.cost_s, rel=1e-9, abs=0)
    selection = interpret(listing.network, costs, problem, best)
    for first, second in (FIRST, SECOND):  # never one without the other
        fused = selection.variants[second].variant.family == "fused"
        assert isinstance(selection.variants[first].variant, Deferred) == fused


def test_fused_when_that_is_faster(listing: Listing) -> None:
    seen = set()
    for seed in range(12):
        costs = made_up(listing, seed, 3)
        problem = build_problem(listing.network, costs)
        seen |= {
            selection.family
            for selection in (
                m.variant for m in interpret(listing.network, costs, problem, pbqp.solve(problem)).variants.values()
            )
        }
        for baseline in (local, greedy):  # they know operators only
            chosen = baseline.solve(problem).choice
            families = [node.families[c] for node, c in zip(problem.nodes, chosen, strict=True)]
            assert DEFERRED not in families and "fused" not in families
    assert {"fused", "depthwise"} <= seen


def test_what_is_deferred_is_charged_until_it_is_done(listing: Listing) -> None:
    """The expansion's input lives until the pair's kernel has run."""
    costs = made_up(listing, 0, 2)
    problem = build_problem(listing.network, costs)
    needs = account(listing.network, costs, problem)
    names = [node.name for node in problem.nodes]
    tensor_bytes = needs.memory.tensor_bytes[names.index(FIRST[0])]
    for number, name in enumerate(problem.layouts):
        if source_layout(name) is not None:
            assert tensor_bytes[number] == 16 * 12 * 12 * 4
    errors = needs.errors[names.index(FIRST[0])]
    deferred = [family == DEFERRED for family in problem.nodes[names.index(FIRST[0])].families]
    assert any(deferred) and not errors[deferred].any()


def test_names_of_layouts() -> None:
    assert source_layout(deferred_layout("NHWC")) == "NHWC" and source_layout("NHWC") is None
    assert shown(deferred_layout("NHWC")) == "(NHWC)" and shown("NCHW16c") == "NCHW16c"


def test_every_choice_of_a_pair_finds_its_deferral(listing: Listing) -> None:
    costs = made_up(listing, 3, 10**6)
    ops = {op.name: op for op in listing.network.operators}
    for first, second in (FIRST, SECOND):
        made = {layouts_of(ops[first], m.variant).output for m in costs.of(ops[first])}
        wanted = {layouts_of(ops[second], m.variant).inputs[0] for m in costs.of(ops[second])}
        deferred = {name for name in made | wanted if source_layout(name)}
        assert deferred and deferred <= made and deferred <= wanted
        assert all(isinstance(m, Measured) for m in costs.of(ops[first]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "net.onnx"
    onnx.save(nets.inverted_residuals(), path)
    return path


def test_compiled_and_compared(model: Path, log: Path, tmp_path: Path) -> None:
    """Each pair pinned to a kernel, from the command line to the results; and none at all."""
    pins = ["--pin", f"{FIRST[1]}=expand_depthwise_nhwc", "--pin", f"{SECOND[1]}=expand_depthwise_nhwc_nchwc"]
    done = command("compile", model, "-o", tmp_path / "a", "--tuning-log", log, *pins)
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads((tmp_path / "a" / "plan.json").read_text())
    nodes = {node["name"]: node for node in plan["nodes"]}
    for first, second in (FIRST, SECOND):
        assert nodes[first]["variant"] == DEFERRED and nodes[first]["kernel"] is None and nodes[first]["gflop"] == 0.0
        assert nodes[second]["with"] == first and nodes[second]["kernel"].startswith("conv2d_pair")
        assert nodes[first]["out"] == nodes[second]["in"][0] == deferred_layout(nodes[first]["in"][0])
    peak = plan["peak_memory"]
    assert 0 < peak["arena_bytes"] <= peak["activation_bytes"]
    checked = command("check", tmp_path / "a", model)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    explained = command("explain", tmp_path / "a").stdout
    assert "(NHWC)" in explained and "is never stored" in explained
    profiled = command("profile", tmp_path / "a")
    assert profiled.returncode == 0 and FIRST[1] in profiled.stdout and f"{FIRST[0]} " not in profiled.stdout

    done = command("compile", model, "-o", tmp_path / "b", "--tuning-log", log, "--forbid", DEFERRED)
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads((tmp_path / "b" / "plan.json").read_text())
    assert all(node["family"] not in (DEFERRED, "fused") and node["with"] is None for node in plan["nodes"])
    refused = command("compile", model, "-o", tmp_path / "c", "--tuning-log", log, "--pin", f"{FIRST[0]}={DEFERRED}",
                      "--forbid", "expand_depthwise_nhwc", "--forbid", "expand_depthwise_nchwc",
                      "--forbid", "expand_depthwise_nhwc_nchwc", "--forbid", "expand_depthwise_nchwc_nhwc")  # fmt: skip
    assert_refused(refused)


def test_pools_and_shuffles_are_absorbed(log: Path, tmp_path: Path) -> None:
    """The convolution by the pool behind it; the shuffle, moved behind the depthwise layer, by what follows there."""
    onnx.save(nets.pooled_and_shuffled(), tmp_path / "net.onnx")
    pins = ["--pin", "maxpool2=winograd_pool_nchw_nhwc", "--pin", "conv9=shuffle_pointwise_nhwc"]
    done = command("compile", tmp_path / "net.onnx", "-o", tmp_path / "out", "--tuning-log", log, *pins)
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = {n["name"]: n for n in json.loads((tmp_path / "out" / "plan.json").read_text())["nodes"]}
    assert nodes["maxpool2"]["with"] == "conv0" and nodes["conv0"]["variant"] == DEFERRED
    shuffle = nodes[nodes["conv9"]["with"]]
    assert shuffle["task"]["kind"] == "shuffle" and shuffle["kernel"] is None and shuffle["inputs"] == ["conv7"]
    checked = command("check", tmp_path / "out", tmp_path / "net.onnx")
    assert checked.returncode == 0, checked.stdout + checked.stderr
