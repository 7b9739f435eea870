"""Addresses never overlap, the arena is hardly larger than what is live, and concatenations in place copy nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from te_kernels.task import ConcatTask
from tests.globalsel.nets import NetBuilder
from tvm_globalsel.demands import Demands
from tvm_globalsel.frontends.onnx import import_onnx, prepare
from tvm_globalsel.lowering import lower
from tvm_globalsel.memory_plan import Buffer, arena_bytes, live_bytes, pack
from tvm_globalsel.options import Options
from tvm_globalsel.pipeline import compile, select
from tvm_globalsel.runtime import Deployed

buffers = st.builds(
    lambda size, first, length: Buffer(size, first, first + length),
    st.integers(1, 5000), st.integers(0, 30), st.integers(0, 12),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(buffers, max_size=40))
def test_packed_buffers_share_no_byte_while_both_live(every: list[Buffer]) -> None:
    offsets, total = pack(every)
    assert live_bytes(every) <= total <= sum(-(-b.size_bytes // 64) * 64 for b in every)
    for i, (one, at) in enumerate(zip(every, offsets, strict=True)):
        assert at % 64 == 0 and at + one.size_bytes <= total
        for other, there in list(zip(every, offsets, strict=True))[:i]:
            if one.first <= other.last and other.first <= one.last:
                assert at + one.size_bytes <= there or there + other.size_bytes <= at


def test_a_chain_needs_two_buffers() -> None:
    chain = [Buffer(6400, step, step + 1) for step in range(20)]
    assert pack(chain)[1] == 12800


def concatenations(batch: int = 1) -> onnx.ModelProto:
    """Nested, shared, repeated, branching and escaping concatenations."""
    net = NetBuilder((batch, 16, 8, 8))
    a, b = net.conv("x", 16, 16, 1), net.conv("x", 16, 32, 3, pad=1)
    inner = net.node("Concat", [a, b], axis=1)
    c = net.conv(inner, 48, 16, 1)
    outer = net.node("Concat", [inner, c], axis=1)  # nested: a, b and c lie in the outer result
    d = net.conv(outer, 64, 16, 3, pad=1)
    again = net.node("Concat", [a, d], axis=1)  # a is part of another concatenation already
    twice = net.node("Concat", [d, d], axis=1)
    summed = net.node("Add", [again, twice])
    e, f = net.conv(summed, 32, 24, 1), net.conv(summed, 32, 20, 1)
    odd = net.node("Concat", [e, f], axis=1)  # 24 is no multiple of a block
    g, h = net.conv(odd, 44, 16, 1), net.conv(odd, 44, 12, 3, pad=1)
    padded = net.node("Concat", [g, h], axis=1)  # the last input may end within a block
    with_input = net.node("Concat", [net.conv(padded, 28, 16, 1), "x"], axis=1)  # the caller's own tensor
    escaping = net.node("Concat", [net.conv(with_input, 32, 16, 1), h], axis=1)
    return net.model(net.node("Relu", [net.conv(escaping, 28, 16, 1)]), g, escaping)


def _agrees(folder: Path, model: onnx.ModelProto) -> None:
    deployed = Deployed(folder)
    rng = np.random.default_rng(3)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = [int(d.dim_value) for d in model.graph.input[0].type.tensor_type.shape.dim]
    for _ in range(2):  # a second run finds the arena full of the first one's values
        x = rng.standard_normal(shape).astype("float32")
        wanted = session.run(None, {"x": x})
        for got, want in zip(deployed.run({"x": x}).values(), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("batch", [1, 2])
def test_concatenations_agree_with_onnx_runtime(batch: int, tmp_path: Path, log: Path) -> None:
    model = concatenations(batch)
    compiled = compile(model, tmp_path, Options(tuning_log=log))
    in_place = [n["name"] for n in compiled.plan["nodes"] if n["variant"] == "concat_in_place"]
    assert bool(in_place) == (batch == 1)
    _agrees(tmp_path, model)


def test_every_concatenation_in_place_that_may_be(tmp_path: Path, log: Path) -> None:
    model = concatenations()
    imported = import_onnx(prepare(model, {}, None), "net")
    free = select(imported.module, Options(tuning_log=log), imported.names)
    owned = [o.name for o in free.network.operators if isinstance(o.task, ConcatTask) and o.task.owned]
    assert len(owned) == 3  # inner, outer, padded; the others have an input or a result that is not theirs alone
    pins = tuple(
        (o.name, "concat_in_place") for o in free.network.operators
        if any(m.variant.name == "concat_in_place" for m in free.costs.choices[o.task.key])
    )  # fmt: skip
    assert len(pins) == 3
    compile(model, tmp_path, Options(tuning_log=log, demands=Demands(pins=pins)))
    _agrees(tmp_path, model)


def test_the_memory_limit_holds_for_the_arena(tmp_path: Path, log: Path) -> None:
    model = concatenations()
    imported = import_onnx(prepare(model, {}, None), "net")
    free = select(imported.module, Options(tuning_log=log), imported.names)
    assert arena_bytes(lower(free)) > 0
    plan = compile(model, tmp_path, Options(tuning_log=log)).plan
    needed = plan["peak_memory"]["total_bytes"]
    limit = int(needed * 0.98)
    try:
        tight = compile(model, tmp_path, Options(tuning_log=log, demands=Demands(max_memory_bytes=limit))).plan
    except Exception as error:
        assert "max-memory" in str(error)
        return
    assert tight["peak_memory"]["total_bytes"] <= limit
    _agrees(tmp_path, model)
