"""Tensor layouts: the only place that parses a layout name.

A *logical* shape is always ``(N, C, H, W)`` for rank-4 tensors, or the tensor's own shape for any other rank.
A layout maps it to the *physical* shape that is stored. Blocked layouts pad the channels up to the block; the
padding lanes hold finite but unspecified numbers, which no kernel may let leak into a logical element.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

_BLOCKED = re.compile(r"NCHW([1-9][0-9]{0,2})c")


@dataclass(frozen=True)
class Layout:
    """One of ``NCHW``, ``NHWC``, ``NCHW<b>c`` (rank 4) or ``plain`` (any other rank, row-major).

    Index methods take and return whatever supports ``//``, ``%`` and ``*``: python ints or TIR expressions.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in ("NCHW", "NHWC", "plain") and not _BLOCKED.fullmatch(self.name):
            raise ValueError(f"unknown layout {self.name!r}; known are NCHW, NHWC, NCHW<block>c and plain")

    @property
    def block(self) -> int:
        """Channels in one block; 0 when the layout is not blocked."""
        match = _BLOCKED.fullmatch(self.name)
        return int(match.group(1)) if match else 0

    def reason_cannot_hold(self, shape: tuple[int, ...]) -> str | None:
        """Why this layout cannot hold a tensor of this logical shape, or None when it can."""
        if self.name == "plain":
            return None if len(shape) != 4 else "a rank-4 tensor in row-major order is called NCHW, not plain"
        return None if len(shape) == 4 else f"{self.name} needs a rank-4 tensor; this one has rank {len(shape)}"

    def physical_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Stored shape of a logical shape, channel padding included."""
        if self.name in ("NCHW", "plain"):
            return tuple(shape)
        n, c, h, w = shape
        if self.name == "NHWC":
            return (n, h, w, c)
        return (n, -(-c // self.block), h, w, self.block)

    def physical_index(self, *index: Any) -> tuple[Any, ...]:
        """Where the logical element ``index`` is stored."""
        if self.name in ("NCHW", "plain"):
            return index
        n, c, h, w = index
        if self.name == "NHWC":
            return (n, h, w, c)
        return (n, c // self.block, h, w, c % self.block)

    def logical_index(self, *axes: Any) -> tuple[Any, ...]:
        """Which logical element is stored at ``axes`` (its channel may lie in the padding)."""
        if self.name in ("NCHW", "plain"):
            return axes
        if self.name == "NHWC":
            n, h, w, c = axes
            return (n, c, h, w)
        n, co, h, w, ci = axes
        return (n, co * self.block + ci, h, w)

    def pack(self, array: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Store a logical array in this layout; padding lanes get ``fill``."""
        if self.name in ("NCHW", "plain"):
            return np.ascontiguousarray(array)
        if self.name == "NHWC":
            return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        n, co, h, w, b = self.physical_shape(array.shape)
        padded = np.full((n, co * b, h, w), fill, array.dtype)
        padded[:, : array.shape[1]] = array
        return np.ascontiguousarray(padded.reshape(n, co, b, h, w).transpose(0, 1, 3, 4, 2))

    def unpack(self, stored: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Inverse of :meth:`pack`: crop the padding lanes and return the logical array of ``shape``."""
        if self.name in ("NCHW", "plain"):
            return stored
        if self.name == "NHWC":
            return np.ascontiguousarray(stored.transpose(0, 3, 1, 2))
        n, co, h, w, b = stored.shape
        return np.ascontiguousarray(stored.transpose(0, 1, 4, 2, 3).reshape(n, co * b, h, w)[:, : shape[1]])


def same_bytes(shape: tuple[int, ...], a: Layout, b: Layout) -> bool:
    """Whether both layouts store a tensor of this logical shape as the same sequence of bytes (a free transform)."""
    if a == b:
        return True
    if len(shape) != 4:
        return False

    def axes(layout: Layout) -> tuple[Any, ...]:
        n, c, h, w = shape
        if layout.name == "NCHW":
            order: list[tuple[str, int]] = [("n", n), ("c", c), ("h", h), ("w", w)]
        elif layout.name == "NHWC":
            order = [("n", n), ("h", h), ("w", w), ("c", c)]
        elif c % layout.block == 0:
            order = [("n", n), ("co", c // layout.block), ("h", h), ("w", w), ("ci", layout.block)]
        else:
            return (layout.name,)
        kept = [axis for axis in order if axis[1] != 1]
        merged: list[tuple[str, int]] = []
        for axis in kept:  # adjacent co, ci is c again
            if merged and merged[-1][0] == "co" and axis[0] == "ci":
                merged[-1] = ("c", merged[-1][1] * axis[1])
            elif axis == ("ci", c) or axis == ("co", c):
                merged.append(("c", c))
            else:
                merged.append(axis)
        return tuple(merged)

    return axes(a) == axes(b)
