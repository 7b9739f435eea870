"""Memory on its way before it is needed: the instruction, and for which weights it pays."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

CACHE_LINE_FLOATS = 16
#: Positions a block from which on the weights arrive in time by themselves: they take 2 % of the products' time. With
#: few positions there is no time to fetch anything: 28 and 32 (2048 channels) lost up to 4 %.
_FEW_POSITIONS, _MANY_POSITIONS = 48, 512


def weights_worth_fetching(positions: int) -> bool:
    """Whether the next block of channels' weights take a part of the time of ``positions`` that is worth hiding."""
    return _FEW_POSITIONS < positions < _MANY_POSITIONS


def prefetch_call(element: Any, write: bool = False, level: int = 3) -> Any:
    """The cache line of a buffer's element on its way, to be read or written; ``level`` 3: to all caches, 2: to L2.

    It may lie beyond the end of the buffer: a prefetch never faults.
    """
    arguments = [tirx.const(i, "int32") for i in (int(write), level, 1)]
    return tirx.call_llvm_intrin("void", "llvm.prefetch", tirx.address_of(element), *arguments)


def prefetch(element: Any, write: bool = False, level: int = 3) -> None:
    """Emits :func:`prefetch_call`."""
    T.evaluate(prefetch_call(element, write, level))
