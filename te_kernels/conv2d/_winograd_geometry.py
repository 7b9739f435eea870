"""Loop bounds, buffers and packed weights of the Winograd kernel (``_winograd_kernel``) of one task and blocking."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from te_kernels.conv2d._winograd_matrices import Matrices, cook_toom
from te_kernels.task import ConvTask
from te_kernels.variant import pad_channels


def cdiv(a: int, b: int) -> int:
    """Ceiling division."""
    return -(-a // b)


@dataclass(frozen=True)
class Blocking:
    """Knobs. The register tile holds ``tile`` Winograd tiles times ``vectors`` vectors of ``lanes`` output channels.

    ``block`` Winograd tiles are transformed together; ``chunk`` register tiles' worth of output channels are
    multiplied before their outputs are transformed.
    """

    m: int
    tile: int
    vectors: int
    lanes: int
    block: int
    chunk: int


@dataclass(frozen=True)
class Geometry:
    """Loop bounds of one task under one blocking."""

    task: ConvTask
    blocking: Blocking

    @property
    def matrices(self) -> Matrices:
        return cook_toom(self.blocking.m, self.task.r)

    @property
    def positions(self) -> int:
        """Products a tile: ``(m + r - 1)^2``."""
        return self.matrices.size**2

    @property
    def tile_rows(self) -> int:
        return cdiv(self.task.oh, self.blocking.m)

    @property
    def tile_columns(self) -> int:
        return cdiv(self.task.ow, self.blocking.m)

    @property
    def tiles(self) -> int:
        """Winograd tiles of the whole batch."""
        return self.task.n * self.tile_rows * self.tile_columns

    @property
    def blocks(self) -> int:
        return cdiv(self.tiles, self.blocking.block)

    @property
    def register_tiles(self) -> int:
        """Register tiles along the Winograd tiles of one block."""
        return cdiv(self.blocking.block, self.blocking.tile)

    @property
    def input_vectors(self) -> int:
        return cdiv(self.task.c, self.blocking.lanes)

    @property
    def output_vectors(self) -> int:
        return cdiv(self.task.k, self.blocking.lanes)

    @property
    def channel_blocks(self) -> int:
        """Register tiles along the output channels."""
        return cdiv(self.output_vectors, self.blocking.vectors)

    @property
    def chunks(self) -> int:
        return cdiv(self.channel_blocks, self.blocking.chunk)

    @property
    def padded_outputs(self) -> int:
        """Output channels of whole chunks."""
        return self.chunks * self.blocking.chunk * self.blocking.vectors * self.blocking.lanes

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Slices ``[c, vectors, lanes]``, one for each (chunk, position, block in the chunk): in the order of use."""
        b = self.blocking
        return (self.chunks * self.positions * b.chunk, self.input_vectors * b.lanes, b.vectors, b.lanes)

    @property
    def weight_bytes(self) -> int:
        """Transformed weights."""
        return 4 * math.prod(self.weight_shape)

    # Panels of one position start one vector off a power of two: stores to all positions must not share cache sets.
    @property
    def input_panel(self) -> int:
        """Floats of V for one position and block of tiles."""
        b = self.blocking
        return self.register_tiles * b.tile * self.input_vectors * b.lanes + b.lanes

    @property
    def product_panel(self) -> int:
        """Floats of M for one position, block of tiles and block of output channels."""
        b = self.blocking
        return self.register_tiles * b.tile * b.vectors * b.lanes + b.lanes

    @property
    def workspace_bytes(self) -> int:
        """Transformed input and products of one block."""
        return 4 * self.positions * (self.input_panel + self.blocking.chunk * self.product_panel)


def pack(geometry: Geometry, params: list[np.ndarray]) -> list[np.ndarray]:
    """Weight ``(k, c, r, r)`` transformed in float64 to ``weight_shape``; constants zero-padded."""
    t, b = geometry.task, geometry.blocking
    transformed = geometry.matrices.transform_weight(params[0]).reshape(t.k, t.c, geometry.positions)
    padded = np.zeros((geometry.positions, geometry.input_vectors * b.lanes, geometry.padded_outputs), np.float32)
    padded[:, : t.c, : t.k] = transformed.transpose(2, 1, 0)
    blocked = padded.reshape(geometry.positions, -1, geometry.chunks, b.chunk, b.vectors, b.lanes)
    weight = np.ascontiguousarray(blocked.transpose(2, 0, 3, 1, 4, 5)).reshape(geometry.weight_shape)
    return [weight, *pad_channels(params[1:], geometry.padded_outputs)]
