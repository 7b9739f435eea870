"""Extraction and simplification: the network, run by the tasks' own float64 oracles, equals ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from te_kernels.task import OpaqueTask
from tests.globalsel import nets
from tvm_globalsel.errors import UserError
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx, load_model, prepare, random_inputs
from tvm_globalsel.fuse import fuse_epilogues, simplify
from tvm_globalsel.graph import Network
from tvm_globalsel.verify import reference_session, relative_error


def evaluate(network: Network, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run a network on the oracles of its tasks (opaque ones on their unscheduled lowering)."""
    values = {v.name: a for v, a in zip(network.inputs, inputs.values(), strict=True)}
    for op in network.operators:
        arrays = [values[name] for name in op.inputs]
        run = run_lowered if isinstance(op.task, OpaqueTask) else op.task.reference
        values[op.name] = run(arrays, list(op.params)) if run is not run_lowered else run_lowered(op, arrays)
    return [values[name] for name in network.outputs]


def run_lowered(op: object, arrays: list[np.ndarray]) -> np.ndarray:
    import tvm

    func = op.task.lowered.with_attr("global_symbol", "main")
    lib = tvm.compile(tvm.IRModule({"main": func}), target="llvm")
    args = [tvm.runtime.tensor(a.astype(d)) for a, d in zip([*arrays, *op.params], op.task.dtypes, strict=True)]
    out = tvm.runtime.empty(op.task.out_shape, op.task.out_dtype)
    lib["main"](*args, out)
    return out.numpy()


def network_of(model: onnx.ModelProto) -> Network:
    imported = import_onnx(model)
    return extract(imported.module, imported.names)


def check_against_runtime(model: onnx.ModelProto, network: Network) -> None:
    inputs = random_inputs(model, 3)
    expected = reference_session(model).run(None, inputs)
    for got, want in zip(evaluate(network, inputs), expected, strict=True):
        assert relative_error(got, want) < 2e-5


@pytest.mark.parametrize("make", [nets.tiny, nets.everything])
def test_small_networks_mean_the_same(make: object) -> None:
    model = prepare(make())
    network = network_of(model)
    check_against_runtime(model, network)
    check_against_runtime(model, simplify(network))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("pads", "whole"), [((0, 0, 1, 1), True), ((1, 0, 0, 1), True), ((3, 3, 0, 0), False)])
def test_window_over_the_whole_map(op: str, pads: tuple[int, ...], whole: bool) -> None:
    """One that hangs over the map on some side is a global pool, unless the average counts the padding."""
    for extra in [{}] if op == "MaxPool" else [{}, {"count_include_pad": 1}]:
        net = nets.NetBuilder((2, 3, 6, 6))
        out = net.node(op, ["x"], kernel_shape=[7, 7], strides=[7, 7], pads=list(pads), **extra)
        model = prepare(net.model(out))
        network = network_of(model)
        (pool,) = network.operators
        assert pool.task.is_global == (whole and not extra)
        check_against_runtime(model, network)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "zfnet512"])
def test_light_networks_mean_the_same(name: str) -> None:
    model = prepare(load_model(nets.light(name)), seed=7)
    check_against_runtime(model, simplify(network_of(model)))


@pytest.mark.parametrize("name", nets.LIGHT_NETS)
def test_light_networks_leave_nothing_opaque_or_unfused(name: str) -> None:
    network = simplify(network_of(prepare(load_model(nets.light(name)), seed=0)))
    kinds = {op.task.kind for op in network.operators}
    assert "opaque" not in kinds
    convs = [op for op in network.operators if op.task.kind == "conv2d"]
    onnx_convs = [n for n in load_model(nets.light(name)).graph.node if n.op_type == "Conv"]
    assert len(convs) == len(onnx_convs)
    assert all(step.kind != "scale" for op in convs for step in op.task.steps)  # folded into the weights


def test_names_come_from_the_model() -> None:
    network = simplify(network_of(prepare(nets.tiny())))
    assert [op.name for op in network.operators if op.task.kind == "conv2d"] == ["conv0", "conv2", "conv5"]


def test_residual_sum_goes_to_the_later_producer() -> None:
    network = simplify(network_of(prepare(nets.tiny())))
    conv = next(op for op in network.operators if op.name == "conv2")
    assert [s.kind for s in conv.task.steps] == ["bias", "add", "relu"]
    assert conv.inputs == ("conv0", "conv0")


def test_value_read_twice_is_not_fused_away() -> None:
    net = nets.NetBuilder()
    a = net.conv("x", 3, 8, 1)
    model = prepare(net.model(net.node("Relu", [a]), a))
    network = fuse_epilogues(network_of(model))
    check_against_runtime(model, simplify(network))


def test_dynamic_shape_is_refused_with_the_remedy() -> None:
    net = nets.NetBuilder()
    model = net.model(net.conv("x", 3, 8, 1), dynamic=True)
    with pytest.raises(UserError, match=r"dynamic shape \(batch\).*--shape x=1,3,20,20"):
        prepare(model)
    assert network_of(prepare(model, {"x": (2, 3, 20, 20)})).inputs[0].shape == (2, 3, 20, 20)


def test_unsupported_operator_names_the_node() -> None:
    net = nets.NetBuilder()
    y = net.conv("x", 3, 8, 1)
    net.nodes.append(onnx.helper.make_node("Gurgle", [y], ["z"], name="odd_one", domain=""))
    graph = onnx.helper.make_graph(
        net.nodes, "g", [onnx.helper.make_tensor_value_info("x", 1, [1, 3, 20, 20])],
        [onnx.helper.make_tensor_value_info("z", 1, None)], net.constants,
    )  # fmt: skip
    with pytest.raises(UserError, match="'odd_one': operator Gurgle is not supported"):
        import_onnx(prepare(onnx.helper.make_model(graph)), "m.onnx")


def test_invalid_and_empty_operators_are_named() -> None:
    net = nets.NetBuilder()
    y = net.conv("x", 3, 8, 1)
    bounds = [net.constant(np.array(v), n) for v, n in (([5], "from"), ([5], "to"), ([1], "axis"))]
    empty = net.node("Slice", [y, *bounds])
    with pytest.raises(UserError, match="is empty"):
        network_of(prepare(net.model(empty)))


def test_shape_computations_fold_away() -> None:
    net = nets.NetBuilder()
    y = net.node("Relu", [net.conv("x", 3, 8, 1)])
    picked = net.node("Gather", [y, net.constant(np.array([2, 0]), "which")], axis=1)
    model = prepare(net.model(picked))
    check_against_runtime(model, simplify(network_of(model)))


def test_names_stay_with_their_operators() -> None:
    net = nets.NetBuilder()
    mean = net.node("ReduceMean", [net.conv("x", 3, 8, 1)], axes=[2, 3], keepdims=1)
    pooled = net.node("GlobalAveragePool", [net.conv(mean, 8, 8, 1)])
    names = {op.name for op in network_of(prepare(net.model(pooled))).operators}
    assert {"conv0", "conv2"} <= names
    assert "globalaveragepool3" not in names  # two means, one name: rather none than a wrong one
