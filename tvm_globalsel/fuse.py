"""Simplify a network before selection: fold affine maps into weights, fuse epilogues, drop what nobody reads."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from te_kernels import epilogue as ep
from te_kernels.epilogue import Epilogue, Step
from te_kernels.task import ConvTask, DenseTask, EltwiseTask, ViewTask
from tvm_globalsel.graph import Network, Operator
from tvm_globalsel.ownership import mark_owned
from tvm_globalsel.shuffles import settle_shuffles

_AFFINE = ("bias", "scale", "add_scalar", "mul_scalar")


def simplify(network: Network) -> Network:
    """All simplifications, in the order in which they enable each other."""
    for step in (drop_dead, flatten_into_dense, drop_dead, fuse_epilogues, fold_affine, merge_clips, settle_shuffles,
                 mark_owned):  # fmt: skip
        network = step(network)
    return network


def drop_dead(network: Network) -> Network:
    """Remove operators whose value nobody reads."""
    live = set(network.outputs)
    kept = []
    for op in reversed(network.operators):
        if op.name in live:
            live.update(op.inputs)
            kept.append(op)
    return dataclasses.replace(network, operators=tuple(reversed(kept)))


def flatten_into_dense(network: Network) -> Network:
    """A dense layer that reads a flattened map reads the map itself, so it can take it in any layout."""
    made_by = {op.name: op for op in network.operators}
    operators = []
    for op in network.operators:
        source = made_by.get(op.inputs[0]) if op.inputs else None
        if isinstance(op.task, DenseTask) and source is not None and isinstance(source.task, ViewTask):
            shape = source.task.from_shape
            if len(shape) == 4 and shape[0] == op.task.data_shape[0]:
                task = dataclasses.replace(op.task, data_shape=shape)
                op = dataclasses.replace(op, task=task, inputs=(source.inputs[0], *op.inputs[1:]))
        operators.append(op)
    return dataclasses.replace(network, operators=tuple(operators))


def fuse_epilogues(network: Network) -> Network:
    """Append elementwise operators to the operator that makes their input, when nothing else reads that input.

    A sum of two tensors goes to whichever of its producers runs last, so that the other tensor is ready by then.
    """
    readers = Counter(name for op in network.operators for name in op.inputs)
    readers.update(network.outputs)
    fused: dict[str, Operator] = {}
    position = {value.name: -1 for value in network.inputs}
    renamed: dict[str, str] = {}
    for index, op in enumerate(network.operators):
        op = dataclasses.replace(op, inputs=tuple(renamed.get(name, name) for name in op.inputs))
        host = _host(op, fused, position, readers) if isinstance(op.task, EltwiseTask) else None
        if host is None:
            fused[op.name] = op
            position[op.name] = index
            continue
        others = op.inputs[1:] if op.inputs[0] == host.name else (op.inputs[0], *op.inputs[2:])
        task = dataclasses.replace(host.task, epilogue=host.task.steps + op.task.steps)  # type: ignore[call-arg]
        fused[host.name] = dataclasses.replace(
            host, task=task, inputs=host.inputs + others, params=host.params + op.params
        )
        renamed[op.name] = host.name
        readers[host.name] = readers[op.name]
    outputs = tuple(renamed.get(name, name) for name in network.outputs)
    return Network(network.inputs, tuple(fused.values()), outputs)


def _host(op: Operator, fused: dict[str, Operator], position: dict[str, int], readers: Counter[str]) -> Operator | None:
    """The producer that can absorb ``op``, or None."""
    candidates = [op.inputs[0]]
    if op.task.steps[0].kind in ep.TENSOR:
        candidates.append(op.inputs[1])  # both operands of a sum or product may be the host
    candidates.sort(key=lambda name: -position[name])
    for name in candidates:
        host = fused.get(name)
        if host is None or not hasattr(host.task, "epilogue") or readers[name] != 1:
            continue
        others = [other for other in op.inputs if other != name]
        if len(others) == len(op.inputs) - 1 and all(position[other] < position[name] for other in others):
            return host
    return None


def fold_affine(network: Network) -> Network:
    """Merge runs of per-channel affine steps; fold a leading scale into convolution and dense weights (float64)."""
    return dataclasses.replace(network, operators=tuple(_fold_affine(op) for op in network.operators))


def _fold_affine(op: Operator) -> Operator:
    steps = op.task.steps
    if not any(step.kind in _AFFINE for step in steps) or len(op.task.output_shape) < 2:
        return op  # a vector has no channels that a merged scale or bias could be constant over
    weights = op.params[: len(op.params) - ep.channel_count(steps)]
    constants = iter(op.params[len(weights) :])
    channels = op.task.output_shape[1]
    merged: list[Step] = []
    merged_constants: list[np.ndarray] = []
    index = 0
    while index < len(steps):
        if steps[index].kind not in _AFFINE:
            merged.append(steps[index])
            index += 1
            continue
        scale, bias = np.ones(channels), np.zeros(channels)
        while index < len(steps) and steps[index].kind in _AFFINE:
            step = steps[index]
            value = next(constants).astype(np.float64) if step.kind in ep.PER_CHANNEL else step.args[0]
            if step.kind in ("scale", "mul_scalar"):
                scale, bias = scale * value, bias * value
            else:
                bias = bias + value
            index += 1
        if not merged and isinstance(op.task, ConvTask | DenseTask) and not np.all(scale == 1.0):
            shape = (-1,) + (1,) * (weights[0].ndim - 1)
            weights = (weights[0].astype(np.float64) * scale.reshape(shape), *weights[1:])
            scale = np.ones(channels)
        if not np.all(scale == 1.0):
            merged.append(Step("scale"))
            merged_constants.append(scale)
        if not np.all(bias == 0.0):
            merged.append(Step("bias"))
            merged_constants.append(bias)
    params = tuple(np.asarray(p, np.float32) for p in (*weights, *merged_constants))
    epilogue: Epilogue = tuple(merged)
    task = dataclasses.replace(op.task, epilogue=epilogue)  # type: ignore[call-arg]
    return dataclasses.replace(op, task=task, params=params)


def merge_clips(network: Network) -> Network:
    """Neighbouring clamps (ReLU is one) become a single one: importers spell ReLU6 as a maximum and a minimum."""
    return dataclasses.replace(network, operators=tuple(_merge_clips(op) for op in network.operators))


def _merge_clips(op: Operator) -> Operator:
    merged: list[Step] = []
    for step in op.task.steps:
        before, after = _bounds(merged[-1]) if merged else None, _bounds(step)
        if before is None or after is None:
            merged.append(step)
            continue
        low, high = (min(max(bound, after[0]), after[1]) for bound in before)
        merged[-1] = Step("relu") if (low, high) == _bounds(Step("relu")) else Step("clip", (low, high))
    if tuple(merged) == op.task.steps:
        return op
    return dataclasses.replace(op, task=dataclasses.replace(op.task, epilogue=tuple(merged)))  # type: ignore[call-arg]


def _bounds(step: Step) -> tuple[float, float] | None:
    """Interval of a clamp, None for any other step."""
    if step.kind == "relu":
        return 0.0, float(np.finfo(np.float32).max)
    return (step.args[0], step.args[1]) if step.kind == "clip" else None
