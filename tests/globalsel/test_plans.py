"""Plans of many solvers, side by side: what they are, what they predict, what they compute."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.globalsel import nets
from tests.solve.large import blocks
from tvm_globalsel.bench import network_files
from tvm_globalsel.bench.plans import Turns, build, contenders, study
from tvm_globalsel.frontends.onnx import load_model, prepare, random_inputs
from tvm_globalsel.options import Options
from tvm_globalsel.problem import Problem
from tvm_globalsel.verify import reference_session


def problem() -> Problem:
    made = blocks(60, 3, 6, 1)
    nodes = []
    for node in made.nodes:
        named = ("sum2d", "direct", "direct", "winograd", "winograd", "winograd")
        nodes.append(dataclasses.replace(node, families=named if node.size == 6 else ("generic",) * node.size))
    return dataclasses.replace(made, nodes=tuple(nodes))


def test_every_way_to_choose_is_there_and_none_beats_the_optimum() -> None:
    found = {c.name: c for c in contenders(problem())}
    assert list(found) == ["sum2d", "direct", "winograd", "best single layout", "local", "global"]
    best = found["global"].predicted_s
    assert best is not None
    assert all(c.predicted_s is None or c.predicted_s >= best * (1 - 1e-12) for c in found.values())
    assert found["best single layout"].solver.startswith("single:L")


def test_a_matrix_product_is_im2_and_kn2_and_no_family_of_its_own() -> None:
    made = problem()
    names = ("sum2d", "direct", "gemm", "im2", "im2", "kn2")
    nodes = [dataclasses.replace(n, families=names) if n.size == 6 else n for n in made.nodes]
    some = [number for number, node in enumerate(nodes) if node.size == 6][:3]
    for number in some:  # 1x1: im2 and kn2 do not apply
        nodes[number] = dataclasses.replace(nodes[number], families=("sum2d", "direct", "gemm", *("depthwise",) * 3))
    made = dataclasses.replace(made, nodes=tuple(nodes))
    found = {c.name: c for c in contenders(made, frozenset(some))}
    assert list(found)[1:5] == ["depthwise", "direct", "im2", "kn2"]
    strict = {c.name: c for c in contenders(made)}
    for name in ("im2", "kn2"):
        solution, other = found[name].solution, strict[name].solution
        assert solution is not None and other is not None
        assert all(solution.choice[number] in (1, 2) and other.choice[number] == 0 for number in some)
        assert all(
            made.nodes[n].families[c] in (name, "generic") for n, c in enumerate(solution.choice) if n not in some
        )
    assert found["direct"].predicted_s == strict["direct"].predicted_s


def test_sum2d_that_was_not_measured_everywhere_is_no_baseline() -> None:
    made = problem()
    index = next(i for i, node in enumerate(made.nodes) if "sum2d" in node.families)
    costs_s = made.nodes[index].costs_s.copy()
    costs_s[0] = np.inf
    nodes = list(made.nodes)
    nodes[index] = dataclasses.replace(nodes[index], costs_s=costs_s)
    found = {c.name: c for c in contenders(dataclasses.replace(made, nodes=tuple(nodes)))}
    assert found["sum2d"].predicted_s is None and "sum2d is not measured" in found["sum2d"].why_not
    assert found["direct"].predicted_s is not None


def test_plans_are_built_and_timed_and_compute_the_same(tiny: tuple[Path, Path], log: Path, tmp_path: Path) -> None:
    model = prepare(load_model(tiny[0]))
    found = study(model, "tiny", Options(tuning_log=log), None, lambda text: None)
    inputs = random_inputs(model)
    session = reference_session(model)
    names = [o.name for o in session.get_outputs()]
    expected = dict(zip(names, session.run(names, inputs), strict=True))
    turns = Turns(inputs, expected, 1)
    wanted = [c for c in found.contenders if c.name in ("sum2d", "global")]
    assert len(wanted) == 2
    for contender in wanted:
        folder = build(found, contender, "tiny", tmp_path / contender.name)
        turns.take(folder, contender.predicted_s or 0.0)
        assert turns.errors[folder] < 1e-5 and turns.measured_s(folder) > 0
    wrong = Turns(inputs, {name: array + 1 for name, array in expected.items()}, 1)
    wrong.take(folder, 1.0)
    assert wrong.errors[folder] > 1e-3


def test_the_same_network_in_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from tvm_globalsel.bench import torch_network

    net = nets.NetBuilder()
    x = net.node("LRN", [net.node("Relu", [net.conv("x", 3, 8, 3, 2, 1)])], size=3, alpha=0.1)
    x = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    model = prepare(net.model(net.node("Concat", [x, x], axis=1)))
    inputs = random_inputs(model)
    expected = reference_session(model).run(None, inputs)[0]
    network_files.write(model, inputs["x"], expected, tmp_path)
    graph, weights = torch_network.read(tmp_path)
    got = torch_network.Network(graph, weights)(torch.from_numpy(inputs["x"])).numpy()
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


def test_files_of_a_network_hold_all_of_it(tmp_path: Path) -> None:
    model = prepare(nets.tiny())
    x, y = np.ones((1, 3, 20, 20), np.float32), np.ones(1, np.float32)
    network_files.write(model, x, y, tmp_path)
    graph = json.loads((tmp_path / "network.json").read_text())
    assert [op["type"] for op in graph["operators"]] == [node.op_type for node in model.graph.node]
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as file:
        for tensor in model.graph.initializer:
            assert np.array_equal(file[graph["weights"][tensor.name]], onnx.numpy_helper.to_array(tensor))
