"""Convolution as a matrix product without an im2col buffer: what the ``conv_gemm`` variants share.

NHWC, NCHW<b>c out:  m = (n, y, x), n = k,            A = windows of the input (r, s, c innermost),  B = weights
NCHW out:            m = k,          n = (n, y, x),   A = weights,  B = windows of the input

so that neighbouring threads store neighbouring elements. Each group is a product of its own (``z``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from te_kernels.cuda import _gemm, _mma
from te_kernels.cuda._base import Arguments, ceil_div, packed_constants
from te_kernels.layout import Layout
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts


@dataclass(frozen=True)
class ConvGemm:
    """One convolution as a product, under a tile."""

    task: ConvTask
    layouts: Layouts
    tile: _gemm.Tile | _mma.WarpTile
    splits: int
    dtype: str

    @property
    def channels_are_rows(self) -> bool:
        """Whether m counts output channels (the output's pixels are contiguous)."""
        return self.layouts.output == "NCHW"

    @property
    def group_inputs(self) -> int:
        """Input channels of a group."""
        return self.task.c // self.task.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of a group."""
        return self.task.k // self.task.groups

    @property
    def reduction_block(self) -> int:
        """Channels that are innermost in k: all of a group, or a block of a blocked layout."""
        block = Layout(self.layouts.inputs[0]).block
        return block if block else 1 if self.layouts.inputs[0] == "NCHW" else self.group_inputs

    @property
    def reduction(self) -> int:
        """Length of k: channels (whole blocks) times taps."""
        return ceil_div(self.group_inputs, self.reduction_block) * self.reduction_block * self.task.r * self.task.s

    @property
    def product(self) -> _gemm.Product:
        """Sizes and what is contiguous."""
        t = self.task
        pixels = t.n * t.oh * t.ow
        longest = self.longest_run
        run = _largest_divisor(longest, self.reduction_block, t.c if self.layouts.inputs[0] == "NHWC" else 0)
        along_map = _largest_divisor(_gemm.RUN, t.oh * t.ow)  # results are finished in float32, 4 at a time
        if self.channels_are_rows:
            load = _largest_divisor(longest, t.oh * t.ow) if t.pointwise and self.layouts.inputs[0] == "NCHW" else 1
            return _gemm.Product(
                t.groups, self.group_outputs, pixels, self.reduction, self.splits, longest, load, along_map
            )
        block = Layout(self.layouts.output).block
        lanes = block if block and t.groups == 1 else 1  # padding lanes are stored as well
        stored = ceil_div(self.group_outputs, lanes) * lanes
        store = _largest_divisor(_gemm.RUN, stored, block if block else t.k)
        return _gemm.Product(t.groups, pixels, stored, self.reduction, self.splits, run, longest, store)

    @property
    def longest_run(self) -> int:
        """Values that one access takes at most: 16 bytes, as float32 where CUDA cores compute."""
        return 8 if isinstance(self.tile, _mma.WarpTile) else _gemm.RUN

    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the packed weights: the padded matrix of each group."""
        m, n, k = self.product.padded(self.tile)
        return (self.task.groups, m, k) if self.channels_are_rows else (self.task.groups, k, n)

    def pack(self, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weight ``(k, c / groups, r, s)`` to the matrix of each group, zero in the padding; constants padded."""
        t, block = self.task, self.reduction_block
        blocks = ceil_div(self.group_inputs, block)
        weight = params[0].reshape(t.groups, self.group_outputs, self.group_inputs, t.r, t.s)
        weight = np.pad(weight, ((0, 0), (0, 0), (0, blocks * block - self.group_inputs), (0, 0), (0, 0)))
        weight = weight.reshape(t.groups, self.group_outputs, blocks, block, t.r * t.s).transpose(0, 1, 2, 4, 3)
        rows = weight.reshape(t.groups, self.group_outputs, self.reduction)  # k runs over (block, r, s, channel)
        matrix = rows if self.channels_are_rows else rows.transpose(0, 2, 1)
        shape = self.weight_shape()
        packed = np.zeros(shape, self.dtype)
        packed[:, : matrix.shape[1], : matrix.shape[2]] = matrix
        return [packed, *packed_constants(self.layouts.output, params[1:])]

    def workspace_bytes(self) -> int:
        """Partial sums."""
        return self.product.partial_bytes(self.tile)

    def operands(self) -> _gemm.Operands:
        """The kernel's arguments as matrices."""
        t = self.task
        held: list[Arguments] = []

        def declare() -> None:
            held.append(Arguments(t, self.layouts, self.dtype, [(self.weight_shape(), self.dtype)]))

        def by_reduction(z: Any, pixel: Any, k: Any, lane: Any) -> Any:
            return self._window(held[0], z, pixel, k, lane, None)

        def by_pixels(z: Any, k: Any, pixel: Any, lane: Any) -> Any:
            return self._window(held[0], z, pixel, k, 0, lane if self.product.b_vector > 1 else None)

        def store(z: Any, channel: Any, pixel: Any, value: Any) -> None:
            image, y, x = pixel // (t.oh * t.ow), pixel % (t.oh * t.ow) // t.ow, pixel % t.ow
            held[0].store(value, image, z * self.group_outputs + channel, y, x)

        def weight(z: Any, i: Any, j: Any, lane: Any) -> Any:
            return held[0].params[0][z, i, j + lane]

        if self.channels_are_rows:
            return _gemm.Operands(declare, weight, by_pixels, store, dtype=self.dtype)
        return _gemm.Operands(declare, by_reduction, weight, lambda z, m, n, v: store(z, n, m, v), dtype=self.dtype)

    def _window(self, args: Arguments, z: Any, pixel: Any, k: Any, k_lane: Any, pixel_lane: Any | None) -> Any:
        """Element of the windows matrix; zero beyond its edges and in the convolution's padding.

        ``pixel`` and ``k`` are the starts of runs, on which alone the conditions depend. A run of pixels (not None)
        is one of a pointwise convolution.
        """
        t, block = self.task, self.reduction_block
        taps = t.r * t.s
        channel = k // (taps * block) * block + k % block
        tap = k // block % taps
        (top, left, _, _), (sh, sw), (dh, dw) = t.pad, t.stride, t.dilation
        y = pixel % (t.oh * t.ow) // t.ow * sh + tap // t.s * dh - top
        x = pixel % t.ow * sw + tap % t.s * dw - left
        conditions = []
        if top or (t.oh - 1) * sh + (t.r - 1) * dh - top >= t.h:
            conditions += [y >= 0, y < t.h]
        if left or (t.ow - 1) * sw + (t.s - 1) * dw - left >= t.w:
            conditions += [x >= 0, x < t.w]
        m_size, n_size, k_size = self.product.padded(self.tile)
        pixels = t.n * t.oh * t.ow
        if (n_size if self.channels_are_rows else m_size) != pixels:
            conditions.append(pixel < pixels)
        if k_size != self.reduction:
            conditions.append(k < self.reduction)
        if pixel_lane is not None:  # maps are multiples of the run, rows are not
            inside = pixel % (t.oh * t.ow) + pixel_lane
            y, x = inside // t.w, inside % t.w
        value = args.element(0, pixel // (t.oh * t.ow), z * self.group_inputs + channel + k_lane, y, x)
        return tirx.if_then_else(tirx.all(*conditions), value, tirx.const(0.0, self.dtype)) if conditions else value

    def prim_func(self) -> tvm.tirx.PrimFunc:
        """The scheduled kernel."""
        if isinstance(self.tile, _mma.WarpTile):
            return _mma.prim_func(self.product, self.tile, self.operands())
        return _gemm.prim_func(self.product, self.tile, self.operands())


def _largest_divisor(limit: int, *sizes: int) -> int:
    """The largest power of two up to ``limit`` that divides all sizes."""
    return math.gcd(limit, *sizes)
