"""Which concatenations may happen in place: their inputs are made inside of the result, so that nothing is copied.

A tensor can lie in one other tensor only, and only in memory that is ours. So every input has to be the value of an
operator (a graph input is the caller's memory, a view lies in what it views), must be no result of the network, and
must not be claimed by an earlier concatenation; the same holds for the result. Whether the slices of a layout are
contiguous is the variant's question (``te_kernels/generic/concat_in_place.py``).
"""

from __future__ import annotations

import dataclasses

from te_kernels.task import ConcatTask, ViewTask
from tvm_globalsel.graph import Network


def mark_owned(network: Network) -> Network:
    """Set ``owned`` on the task of every concatenation that may happen in place; first come, first served."""
    made_by = {op.name: op for op in network.operators}
    claimed: set[str] = set()
    operators = []
    for op in network.operators:
        if isinstance(op.task, ConcatTask):
            parts = op.inputs[: len(op.task.channels)]
            ours = all(name in made_by and not isinstance(made_by[name].task, ViewTask) for name in parts)
            escapes = not set(network.outputs).isdisjoint((op.name, *parts))
            owned = ours and not escapes and len(set(parts)) == len(parts) and claimed.isdisjoint(parts)
            if owned:
                claimed.update(parts)
                op = dataclasses.replace(op, task=dataclasses.replace(op.task, owned=True))
        operators.append(op)
    return dataclasses.replace(network, operators=tuple(operators))
