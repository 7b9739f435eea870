"""Which operators may be done by the kernel of the operator behind them.

The kernel of a pair (``PairTask``) replaces two operators where nobody else reads what lies between. Whether it should
is decided by the selection like anything else; here is only said where it could.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

from te_kernels import epilogue as ep
from te_kernels.gpu import Gpu
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, PairTask, PoolTask, ShuffleTask
from tvm_globalsel.candidates import candidates_for
from tvm_globalsel.graph import Network, Operator

#: Tasks that a kernel may do together with that of the operator behind.
_FIRSTS = {ConvTask: (ConvTask, ShuffleTask), PoolTask: (ConvTask,)}


def pair_up(network: Network, machine: Machine | Gpu) -> Network:
    """Set ``absorbs``, ``pair`` and ``absorbed_by`` of every two operators that some variant does as one."""
    pairs: dict[str, tuple[Operator, PairTask]] = {}
    runs: dict[str, bool] = {}
    for first, second in _neighbours(network):
        task = PairTask(first.task, second.task)  # type: ignore[arg-type]
        if task.key not in runs:
            runs[task.key] = bool(candidates_for(task, machine).variants)
        if runs[task.key]:
            pairs[second.name] = first, task
    absorbed_by = {first.name: task for first, task in pairs.values()}
    operators = []
    for op in network.operators:
        first_of_pair, pair = pairs.get(op.name, (None, None))
        behind = absorbed_by.get(op.name)
        operators.append(dataclasses.replace(op, absorbs=first_of_pair, pair=pair, absorbed_by=behind))
    return dataclasses.replace(network, operators=tuple(operators))


def _neighbours(network: Network) -> Iterator[tuple[Operator, Operator]]:
    """Two operators, the second of which is the only reader of the first; one of them a convolution."""
    made_by = {op.name: op for op in network.operators}
    readers = Counter(name for op in network.operators for name in op.inputs)
    readers.update(network.outputs)
    for op in network.operators:
        before = made_by.get(op.inputs[0]) if isinstance(op.task, ConvTask | PoolTask) else None
        if before is None or readers[before.name] > 1 or not isinstance(before.task, _FIRSTS[type(op.task)]):
            continue
        if not ep.tensor_count(before.task.steps):
            yield before, op
