"""ONNX's own backend node tests through our kernels: every applicable variant of every task that a test becomes."""

from __future__ import annotations

import numpy as np
import pytest
import tvm

from te_kernels import check
from te_kernels.layout import Layout
from te_kernels.machine import describe, host_target
from te_kernels.task import OpaqueTask, ViewTask
from te_kernels.variant import Variant
from tests.globalsel.node_cases import NodeCase, node_cases
from tvm_globalsel.candidates import candidates_for
from tvm_globalsel.errors import UserError
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx, prepare
from tvm_globalsel.fuse import simplify
from tvm_globalsel.graph import Network, Operator

TARGET = host_target(1)
MACHINE = describe(TARGET, 1)

#: Tests that are refused, with what the refusal says. Whatever is not here must pass.
REFUSED = {
    "test_maxpool_with_argmax_2d_precomputed_pads": "TVM's ONNX importer refuses",
    "test_maxpool_with_argmax_2d_precomputed_strides": "TVM's ONNX importer refuses",
    "test_batchnorm_example_training_mode": "training mode",
    "test_batchnorm_epsilon_training_mode": "training mode",
    "test_training_dropout": "training mode",
    "test_training_dropout_mask": "training mode",
    "test_training_dropout_default": "training mode",
    "test_training_dropout_default_mask": "training mode",
    "test_training_dropout_zero_ratio": "training mode",
    "test_training_dropout_zero_ratio_mask": "training mode",
    "test_dropout_default_mask": "mask is used",
    "test_dropout_default_mask_ratio": "mask is used",
    "test_pow_types_int64_int64": "power only applies to float",
    "test_pow_types_int32_int32": "power only applies to float",
    "test_reshape_allowzero_reordered": "dynamic shape",  # a dimension of size 0
    "test_identity_sequence": "dynamic shape",  # a sequence, not a tensor
    "test_identity_opt": "dynamic shape",  # an optional, not a tensor
    **{
        f"test_pow_types_{left}_{right}": "TVM's ONNX importer refuses"
        for left, right in [
            ("float32", "int64"), ("float32", "int32"), ("float32", "uint64"), ("float32", "uint32"),
            ("int64", "float32"), ("int32", "float32"),
        ]
    },
}  # fmt: skip

#: Float32 tests whose operator runs on TVM's own lowering because none of our kernels does it, and why.
LEFT_TO_TVM = {
    "conv_with_autopad": "the importer pads in an operator of its own; the convolution is ours",
    "maxpool_1d": "rank 3",
    "maxpool_3d": "rank 5",
    "averagepool_1d": "rank 3",
    "averagepool_3d": "rank 5",
    "globalmaxpool": "a reduction over two axes",
    "gemm_default_matrix_bias": "a bias that differs between rows; the product is ours",
    "gemm_transposeA": "the transposition; the product is ours",
    "gemm_all_attributes": "the transposition; the product is ours",
    "matmul_": "more or fewer than two dimensions",
    "concat_": "our concatenation is of rank 4, along the channels",
    "gelu_tanh": "the approximation by tanh is a composite operator",
    "pow": "an exponent for each element",
    "_bcast": "broadcast along an axis that is not the channels",
    "sum_one": "the importer stacks and sums",
    "sub": "a difference of two tensors",
    "div": "a quotient of two tensors",
}


def network_of(case: NodeCase) -> Network:
    imported = import_onnx(prepare(case.model))
    return simplify(extract(imported.module, imported.names))


def results_of(op: Operator, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The logical result of every candidate of an operator."""
    task = op.task
    if isinstance(task, ViewTask):
        return {"view": arrays[0].reshape(task.to_shape)}
    variants = candidates_for(task, MACHINE).variants
    assert variants, f"no variant runs {task}"
    functions = {
        f"kernel{i}": v.prim_func(task, MACHINE).with_attr("global_symbol", f"kernel{i}")
        for i, v in enumerate(variants)
    }
    module = tvm.compile(tvm.IRModule(functions), target=TARGET)
    results = {}
    for i, variant in enumerate(variants):
        args = opaque_arguments(op, arrays) if isinstance(task, OpaqueTask) else kernel_arguments(op, variant, arrays)
        module[f"kernel{i}"](*args)
        results[variant.label] = Layout(variant.layouts(task).output).unpack(args[-1].numpy(), task.output_shape)
    return results


def kernel_arguments(op: Operator, variant: Variant, arrays: list[np.ndarray]) -> list[tvm.runtime.Tensor]:
    inputs = [np.ascontiguousarray(a, np.float32) for a in arrays]
    return check.arguments(check.Case(op.task, inputs, list(op.params), np.zeros(0)), variant)


def opaque_arguments(op: Operator, arrays: list[np.ndarray]) -> list[tvm.runtime.Tensor]:
    dtypes = op.task.dtypes
    given = [np.array(a, d, order="C") for a, d in zip([*arrays, *op.params], dtypes, strict=True)]
    return [tvm.runtime.tensor(a) for a in given] + [tvm.runtime.empty(op.task.out_shape, op.task.out_dtype)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", node_cases())
def test_node(name: str) -> None:
    case = node_cases()[name]
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            network_of(case)
        return
    network = network_of(case)
    values = {v.name: a for v, a in zip(network.inputs, case.inputs.values(), strict=True)}
    expected = dict(zip(network.outputs, case.outputs, strict=True))
    for op in network.operators:
        results = results_of(op, [values[name] for name in op.inputs])
        first = next(iter(results.values()))
        values[op.name] = first
        wanted = expected.get(op.name, first)
        for label, got in results.items():
            np.testing.assert_allclose(got, wanted, case.rtol, case.atol, err_msg=f"{label} on {op.task}")
    for output in set(network.outputs) - {op.name for op in network.operators}:
        np.testing.assert_array_equal(values[output], expected[output])


def test_what_is_left_to_tvm_is_listed() -> None:
    for name, case in node_cases().items():
        if name in REFUSED or any(array.dtype != np.float32 for array in case.inputs.values()):
            continue
        opaque = [op.name for op in network_of(case).operators if isinstance(op.task, OpaqueTask)]
        listed = [reason for part, reason in LEFT_TO_TVM.items() if part in name]
        assert bool(listed) or not opaque, f"{name} runs {opaque} on TVM's own lowering, which no reason explains"


def test_refusals_are_about_tests_that_exist() -> None:
    assert not set(REFUSED) - set(node_cases())
