"""Blocks of s_tir by the IR builder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T


@contextlib.contextmanager
def block(name: str, *extents: int, reductions: tuple[int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """A block over a grid; yields its iterators, those of reductions last."""
    every = (*extents, *reductions)
    with T.grid(*every) as loops, T.sblock(name):
        loops = list(loops) if len(every) > 1 else [loops]
        iterators = [T.axis.spatial(size, loop) for size, loop in zip(extents, loops, strict=False)]
        iterators += [T.axis.reduce(n, v) for n, v in zip(reductions, loops[len(extents) :], strict=True)]
        yield tuple(iterators)


@contextlib.contextmanager
def guarded(conditions: list[Any]) -> Iterator[None]:
    """What follows happens where all conditions hold."""
    if not conditions:
        yield
        return
    with T.If(tirx.all(*conditions)), T.Then():
        yield
