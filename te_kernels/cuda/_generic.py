"""What variants of the same layout on all sides share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from te_kernels.cuda._base import GpuVariant, packed_constants
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.variant import Layouts


@dataclass(frozen=True)
class SameLayout(GpuVariant):
    """One instance for each layout that can hold the output. Knob: the layout."""

    layout: str

    @classmethod
    def candidates(cls, task: Any, machine: Gpu) -> Iterator[GpuVariant]:
        """One for each layout."""
        for layout in (*machine.layouts, "plain"):
            if Layout(layout).reason_cannot_hold(task.output_shape) is None:
                yield cls(layout)

    def layouts(self, task: Any) -> Layouts:
        """The same everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: Any, params: list[np.ndarray]) -> list[np.ndarray]:
        """Constants padded to whole blocks."""
        return packed_constants(self.layout, params)


def vector_of(layout: str, shape: tuple[int, ...], *channel_runs: int) -> int:
    """Stored elements that one thread takes at once: 4, or what divides the innermost axis.

    Arithmetic is in float32, of which 4 fill the widest access. ``channel_runs`` are lengths of channels that a vector
    must not straddle, where channels are innermost.
    """
    stored = Layout(layout).physical_shape(shape)
    runs = channel_runs if layout != "NCHW" else ()
    return math.gcd(4, stored[-1] if stored else 1, *runs)
