"""A convolution by Winograd's minimal filtering and the max pool behind it, of which what lies between stays in L2.

The convolutions in front of a pool have the largest maps of a network, which no cache near a core holds: what they
write is fetched from afar before and read back after. Here it goes to a band of a few rows, the same for each block of
tiles, and from there into the maxima (``te_kernels.conv2d._transformed_kernel`` for all up to the band):

    for band of blocks:                                      parallel
      for block of whole rows of tiles:
        V = B d
        for chunk of output channels:
          M = V U; band = e1(A M)
          for row of output with a window in the block:      out = max(out where the block before has begun it, band)

Maxima may be taken in parts, so a window that two blocks share needs nothing but the output, which the first one leaves
in L1. One shared by two threads' bands of blocks goes to a row beside; these rows join the output at the end.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels.conv2d import _transformed_kernel as kernel
from te_kernels.conv2d._buffers import flat, workspace
from te_kernels.conv2d_pair._pool_band import Band
from te_kernels.conv2d_pair._pool_maxima import Border, Maxima
from te_kernels.conv2d_pair._winograd_pool_geometry import PoolGeometry
from te_kernels.machine import Machine
from te_kernels.variant import Layouts


def prim_func(geometry: PoolGeometry, layouts: Layouts, machine: Machine, tiles: kernel.Tiles) -> tvm.tirx.PrimFunc:
    """The kernel; ``geometry.conv`` is of the convolution that the tiles' source makes."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        _Emitter(geometry, layouts, machine, tiles).emit()
    return builder.get()


class _Emitter(kernel.Emitter):
    """The kernel by transformed tiles with a band in the place of its output."""

    def __init__(self, geometry: PoolGeometry, layouts: Layouts, machine: Machine, tiles: kernel.Tiles) -> None:
        super().__init__(geometry.conv, layouts, machine, tiles)
        self.p, self.band = geometry, Band(geometry)
        self.maxima = Maxima(geometry, self.out_layout, self.band)

    @property
    def _out_shape(self) -> tuple[int, ...]:
        return self.p.pool.output_shape

    def _output(self, out: Any, tensors: list[Any], constants: list[Any]) -> Any:
        self.maxima.out, self.band.constants = flat(out), constants
        return self.band

    def _work(self) -> None:
        g, p = self.g, self.p
        if g.blocks == 1:
            transformed = self._only_input()
            with T.parallel(0, g.chunks) as chunk:
                self.band.allocate()
                self._pooled_chunk(transformed, 0, chunk, 0, 0, None)
            return
        shares = p.bands(self.machine.threads)
        blocks, beside_floats = p.band_blocks(shares), p.beside_floats(shares)
        beside = workspace(beside_floats) if beside_floats else None
        with T.parallel(0, g.task.n * shares) as share:
            image, number = T.Bind(share // shares), T.Bind(share % shares)
            transformed = workspace(g.transformed_floats)
            self.band.allocate()
            first = T.Bind(number * blocks)
            with T.serial(0, tirx.max(tirx.min(blocks, p.image_blocks - first), 0)) as i:
                block = T.Bind(image * p.image_blocks + first + i)
                self._block_input(transformed, block)
                with T.serial(0, g.chunks) as chunk:
                    border = None
                    if beside is not None:
                        begins = T.Bind(tirx.Select(tirx.all(i == 0, number > 0), 1, 0))
                        border = Border(beside, share, begins)
                    self._pooled_chunk(transformed, block, chunk, image, first + i, border)
        if beside is not None:
            self.maxima.join(beside, shares)

    def _pooled_chunk(
        self, transformed: Any, block: Any, chunk: Any, image: Any, number: Any, border: Border | None
    ) -> None:
        """One chunk of output channels of block ``number`` of an image, through the pool."""
        first_vector = T.Bind(chunk * self.p.band_vectors)
        start = T.Bind(number * self.p.block_rows)
        end = T.Bind(tirx.min(start + self.p.block_rows, self.t.oh))
        self.band.place(start, first_vector)
        self._chunk(transformed, block, chunk)
        self.maxima.take(image, first_vector, start, end, border)
