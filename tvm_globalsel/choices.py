"""What one operator may run as: a variant of its own, one of a pair with the operator before, or nothing, deferred.

A pair spans two nodes of the assignment problem, as complex instructions do in instruction selection (Ebner et al.,
"Generalized instruction selection using SSA-graphs", LCTES 2008). The first node's choice is to defer: it costs
nothing, wants its input in some layout L, and hands on ``deferred:L``, a layout that no transform makes or changes. The
second node's choice, the kernel of the pair, demands that layout. So neither can be taken without the other, and the
problem remains one of nodes and edges, with the same exact solvers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from te_kernels.task import PairTask, Task
from te_kernels.variant import Layouts, Variant
from tvm_globalsel.deferral import DEFERRED, deferred_layout
from tvm_globalsel.graph import Operator


@dataclass(frozen=True)
class Deferred(Variant):
    """The operator behind does it, of this one's input in ``layout``."""

    name = DEFERRED
    family = DEFERRED
    title = "done by the operator behind"
    task_type = Task
    needs_no_kernel = True

    layout: str

    def layouts(self, task: Any) -> Layouts:
        return Layouts((self.layout,), deferred_layout(self.layout))


def deferrals(op: Operator, pair_variants: Iterable[Variant]) -> tuple[Deferred, ...]:
    """The choices to leave ``op`` to the operator behind, which runs as one of ``pair_variants``."""
    task = op.absorbed_by
    return tuple(Deferred(layout) for layout in dict.fromkeys(v.layouts(task).inputs[0] for v in pair_variants))


def absorbed(op: Operator, variant: Variant) -> Operator | None:
    """The operator before, where the kernel of ``variant`` does it too when ``op`` runs as it."""
    return op.absorbs if variant.task_type is PairTask else None


def task_of(op: Operator, variant: Variant) -> Task:
    """What the kernel of ``variant`` does when ``op`` runs as it."""
    return op.pair if op.pair is not None and absorbed(op, variant) else op.task


def layouts_of(op: Operator, variant: Variant) -> Layouts:
    """Of the inputs and the output of ``op``."""
    layouts = variant.layouts(task_of(op, variant))
    if absorbed(op, variant):
        return Layouts((deferred_layout(layouts.inputs[0]), *layouts.inputs[1:]), layouts.output)
    return layouts


def constants_of(op: Operator, variant: Variant) -> tuple[np.ndarray, ...]:
    """The constants that the kernel of ``variant`` takes, as the model has them."""
    if isinstance(variant, Deferred):
        return ()
    before = absorbed(op, variant)
    return (*before.params, *op.params) if before else op.params
