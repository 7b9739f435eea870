"""Channel shuffles to where they cost least: behind depthwise convolutions, and into the weights of what follows.

What works on every channel by itself commutes with a shuffle of the channels, once its own constants are shuffled
back. A convolution without groups that reads a shuffle reads what was shuffled as well, with its weights in another
order. One with groups has a kernel for both (``te_kernels.conv2d_pair``). So the units of ShuffleNets (Zhang et al.,
CVPR 2018: 1x1 in groups, shuffle, depthwise, 1x1 in groups) move nothing.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from te_kernels import epilogue as ep
from te_kernels.task import ConvTask, ShuffleTask
from tvm_globalsel.graph import Network, Operator


def settle_shuffles(network: Network) -> Network:
    """Each shuffle that a depthwise or plain convolution alone reads, moved behind the one or into the other."""
    readers = Counter(name for op in network.operators for name in op.inputs)
    readers.update(network.outputs)
    behind = {op.inputs[0]: op for op in network.operators if isinstance(op.task, ConvTask)}
    settled: dict[str, Operator] = {}
    shuffled: dict[str, str] = {}  # a value that is no longer shuffled, and the shuffle behind it
    for op in network.operators:
        op = dataclasses.replace(op, inputs=tuple(shuffled.get(name, name) for name in op.inputs))
        shuffle = settled.get(op.inputs[0]) if isinstance(op.task, ConvTask) else None
        if shuffle is None or not isinstance(shuffle.task, ShuffleTask) or readers[shuffle.name] > 1:
            settled[op.name] = op
        elif op.task.groups == 1:  # type: ignore[attr-defined]
            del settled[shuffle.name]
            settled[op.name] = _over(shuffle, op, axis=1)
        elif _by_channel(op) and readers[op.name] == 1 and op.name in behind:
            del settled[shuffle.name]
            settled[op.name] = _over(shuffle, op, axis=0)
            task = dataclasses.replace(shuffle.task, shape=op.task.output_shape)
            settled[shuffle.name] = dataclasses.replace(shuffle, task=task, inputs=(op.name,))
            shuffled[op.name] = shuffle.name
        else:
            settled[op.name] = op
    return dataclasses.replace(network, operators=tuple(settled.values()))


def _by_channel(op: Operator) -> bool:
    """Whether an output channel depends on the input channel of its number alone."""
    task = op.task
    return isinstance(task, ConvTask) and task.depthwise and task.k == task.c and not ep.tensor_count(task.steps)


def _over(shuffle: Operator, op: Operator, axis: int) -> Operator:
    """``op`` on what ``shuffle`` reads: axis 1 of its weights in another order, or axis 0 of all of its constants."""
    channels, groups = shuffle.task.output_shape[1], shuffle.task.groups  # type: ignore[attr-defined]
    order = np.arange(channels).reshape(-1, groups).T.reshape(-1)  # where each channel of the source went to
    changed = tuple(np.take(param, order, axis) for param in (op.params if axis == 0 else op.params[:1]))
    return dataclasses.replace(
        op, inputs=(shuffle.inputs[0], *op.inputs[1:]), params=changed + op.params[len(changed) :]
    )
