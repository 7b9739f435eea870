"""Channel shuffles behind depthwise convolutions and inside of weights: the same values, and where they stay."""

from __future__ import annotations

import numpy as np
import pytest

from te_kernels.epilogue import Step
from te_kernels.task import ConvTask, EltwiseTask, ShuffleTask, Task
from tests.search.spaces import MACHINE
from tvm_globalsel.graph import Network, Operator, Value
from tvm_globalsel.pairs import pair_up
from tvm_globalsel.shuffles import settle_shuffles

C, H = 24, 6
CLIPPED = (Step("bias"), Step("scale"), Step("relu"))


def network(*layers: tuple[str, Task, tuple[str, ...]], outputs: tuple[str, ...] | None = None) -> Network:
    rng = np.random.default_rng(0)
    operators = [
        Operator(name, task, inputs, tuple(rng.standard_normal(s).astype(np.float32) for s in task.param_shapes))
        for name, task, inputs in layers
    ]
    return Network((Value("x", (1, C, H, H)),), tuple(operators), outputs or (operators[-1].name,))


def values(net: Network) -> dict[str, np.ndarray]:
    known = {"x": np.random.default_rng(1).standard_normal(net.inputs[0].shape).astype(np.float32)}
    for op in net.operators:
        known[op.name] = op.task.reference([known[name] for name in op.inputs], list(op.params))
    return known


def assert_same_results(before: Network, after: Network) -> None:
    assert after.outputs == before.outputs
    old, new = values(before), values(after)
    for name in before.outputs:
        np.testing.assert_allclose(new[name], old[name], rtol=1e-12, atol=1e-12)


def depthwise(stride: int = 1, epilogue: tuple[Step, ...] = CLIPPED) -> ConvTask:
    return ConvTask(1, C, H, H, C, 3, 3, (stride, stride), (1, 1, 1, 1), groups=C, epilogue=epilogue)


SHUFFLE = ("mix", ShuffleTask((1, C, H, H), 3), ("x",))


@pytest.mark.parametrize("stride", [1, 2])
def test_behind_a_depthwise_convolution(stride: int) -> None:
    """Where it joins the grouped convolution behind, as a pair."""
    size = H // stride
    before = network(
        SHUFFLE, ("dw", depthwise(stride), ("mix",)), ("out", ConvTask(1, C, size, size, 64, 1, 1, groups=2), ("dw",))
    )
    after = settle_shuffles(before)
    assert [op.name for op in after.operators] == ["dw", "mix", "out"]
    assert after.operators[1].task == ShuffleTask((1, C, size, size), 3)
    assert_same_results(before, after)
    paired = pair_up(after, MACHINE).operators
    assert paired[2].absorbs is not None and paired[2].absorbs.name == "mix"
    assert paired[1].absorbed_by is not None and paired[2].pair == paired[1].absorbed_by


def test_into_the_weights_of_a_plain_convolution() -> None:
    plain = ConvTask(1, C, H, H, 8, 3, 3, epilogue=(Step("bias"),))
    before = network(SHUFFLE, ("dw", depthwise(), ("mix",)), ("out", plain, ("dw",)))
    after = settle_shuffles(before)
    assert [op.name for op in after.operators] == ["dw", "out"]
    assert_same_results(before, after)


def test_two_in_a_row() -> None:
    again = ("mix2", ShuffleTask((1, C, H, H), 4), ("dw",))
    plain = ConvTask(1, C, H, H, 8, 1, 1)
    before = network(SHUFFLE, ("dw", depthwise(), ("mix",)), again, ("dw2", depthwise(), ("mix2",)),
                     ("out", plain, ("dw2",)))  # fmt: skip
    assert_same_results(before, settle_shuffles(before))


def last(c: int = C, h: int = H) -> tuple[str, Task, tuple[str, ...]]:
    return "out", ConvTask(1, c, h, h, 8, 1, 1), ("dw",)


@pytest.mark.parametrize(
    ("layers", "outputs"),
    [
        pytest.param([("dw", depthwise(), ("mix",))], ("dw",), id="a result"),
        pytest.param([("dw", depthwise(), ("mix",)), last()], ("mix", "out"), id="read twice"),
        pytest.param([("dw", depthwise(), ("mix",)), ("out", EltwiseTask((1, C, H, H), (Step("relu"),)), ("dw",))],
                     ("out",), id="no convolution behind"),
        pytest.param([("dw", depthwise(epilogue=(Step("add"),)), ("mix", "x")), last()], ("out",), id="adds a tensor"),
        pytest.param([("dw", ConvTask(1, C, H, H, 2 * C, 3, 3, groups=C), ("mix",)), last(2 * C, H - 2)],
                     ("out",), id="multiplies channels"),
        pytest.param([("dw", ConvTask(1, C, H, H, C, 1, 1, groups=2), ("mix",)), last()], ("out",), id="groups"),
    ],
)  # fmt: skip
def test_stays_where_it_is(layers: list[tuple[str, Task, tuple[str, ...]]], outputs: tuple[str, ...]) -> None:
    before = network(SHUFFLE, *layers, outputs=outputs)
    after = settle_shuffles(before)
    assert [op.name for op in after.operators] == [op.name for op in before.operators]
    assert_same_results(before, after)
