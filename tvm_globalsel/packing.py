"""Constants in the form in which kernels read them, and how large that is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from te_kernels.task import Task
from te_kernels.variant import Variant
from tvm_globalsel.choices import constants_of, task_of
from tvm_globalsel.graph import Operator
from tvm_globalsel.threads import thread_pool

#: Shape and dtype of each constant as the model has it.
Described = tuple[tuple[tuple[int, ...], str], ...]

_MOST_SIZES = 1 << 16
_sizes: OrderedDict[tuple[Task, Variant, Described], int] = OrderedDict()


def pack_all(chosen: Sequence[tuple[Operator, Variant]]) -> Iterator[list[np.ndarray]]:
    """The packed constants of each operator. Nearly all of it is copying, in which numpy lets other threads run."""
    with thread_pool() as pool:
        every = pool.map(lambda pair: _packed(*pair), chosen)
        for (op, variant), packed in zip(chosen, every, strict=True):
            params = described(constants_of(op, variant))
            _remember(task_of(op, variant), variant, params, sum(array.nbytes for array in packed))
            yield packed


def _packed(op: Operator, variant: Variant) -> list[np.ndarray]:
    return variant.pack(task_of(op, variant), list(constants_of(op, variant)))


def described(params: Iterable[np.ndarray]) -> Described:
    """What :func:`packed_bytes` wants to know of constants."""
    return tuple((param.shape, str(param.dtype)) for param in params)


def packed_bytes(task: Task, variant: Variant, params: Described) -> int:
    """Bytes of the constants as this variant packs them."""
    known = variant.packed_bytes(task)
    if known is not None:
        return known
    key = (task, variant, params)
    if key not in _sizes:
        zeros = [np.broadcast_to(np.zeros((), dtype), shape) for shape, dtype in params]
        _remember(task, variant, params, sum(packed.nbytes for packed in variant.pack(task, zeros)) if params else 0)
    return _sizes[key]


def _remember(task: Task, variant: Variant, params: Described, size: int) -> None:
    _sizes[task, variant, params] = size
    while len(_sizes) > _MOST_SIZES:
        _sizes.popitem(last=False)
