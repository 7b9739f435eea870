"""Loop bounds, buffers and packed weights of the kernel by transformed tiles (``_transformed_kernel``)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from te_kernels.conv2d._tile_transform import TileTransform
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv
from te_kernels.variant import pad_channels


@dataclass(frozen=True)
class Blocking:
    """Knobs. The register tile holds ``tile`` tiles times ``vectors`` vectors of ``lanes`` output channels.

    ``block`` tiles are transformed together; ``chunk`` register tiles' worth of output channels are multiplied before
    their outputs are transformed.
    """

    tile: int
    vectors: int
    lanes: int
    block: int
    chunk: int


@dataclass(frozen=True)
class Geometry:
    """Loop bounds of one task under one transform and blocking."""

    task: ConvTask
    transform: TileTransform
    blocking: Blocking

    @property
    def positions(self) -> int:
        """Products a tile and channel pair."""
        return self.transform.positions

    @property
    def product_flops(self) -> int:
        """Operations of the products alone, ``positions`` a tile and pair of channels; the transforms come on top."""
        return 2 * self.positions * self.tiles * self.task.k * (self.task.c // self.task.groups)

    @property
    def tile_rows(self) -> int:
        return cdiv(self.task.oh, self.transform.outputs[0])

    @property
    def tile_columns(self) -> int:
        return cdiv(self.task.ow, self.transform.outputs[1])

    @property
    def tiles(self) -> int:
        """Tiles of the whole batch."""
        return self.task.n * self.tile_rows * self.tile_columns

    @property
    def blocks(self) -> int:
        return cdiv(self.tiles, self.blocking.block)

    @property
    def register_tiles(self) -> int:
        """Register tiles along the tiles of one block."""
        return cdiv(self.blocking.block, self.blocking.tile)

    @property
    def input_vectors(self) -> int:
        """Vectors of input channels, of all groups."""
        return cdiv(self.task.c, self.blocking.lanes)

    @property
    def reduced_vectors(self) -> int:
        """Vectors of input channels of one group."""
        return self.input_vectors // self.task.groups

    @property
    def reduced_lanes(self) -> int:
        """Lanes of each such vector that hold a channel: all of them, but in convolutions of fewer channels."""
        return min(self.blocking.lanes, self.task.c // self.task.groups)

    @property
    def output_vectors(self) -> int:
        """Vectors of output channels of one group."""
        return cdiv(self.task.k // self.task.groups, self.blocking.lanes)

    @property
    def channel_blocks(self) -> int:
        """Register tiles along the output channels of one group."""
        return cdiv(self.output_vectors, self.blocking.vectors)

    @property
    def group_chunks(self) -> int:
        """Chunks of output channels of one group."""
        return cdiv(self.channel_blocks, self.blocking.chunk)

    @property
    def chunks(self) -> int:
        """Chunks of output channels of all groups."""
        return self.task.groups * self.group_chunks

    @property
    def padded_constants(self) -> int:
        """Length of the epilogue's per-channel constants."""
        return self.task.groups * self.output_vectors * self.blocking.lanes

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Slices ``[c, vectors, lanes]``, one for each (chunk, position, block in the chunk): in the order of use."""
        b = self.blocking
        return (self.chunks * self.positions * b.chunk, self.reduced_vectors * b.lanes, b.vectors, b.lanes)

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
    def transformed_floats(self) -> int:
        """V of one block of tiles."""
        return self.positions * self.input_panel

    @property
    def products_floats(self) -> int:
        """M of one chunk, never as large as V: TVM 0.27 (StorageRewrite) would put both into the same memory."""
        made = self.blocking.chunk * self.positions * self.product_panel
        return made + (self.blocking.lanes if made == self.transformed_floats else 0)

    def workspace_bytes(self, threads: int = 1) -> int:
        """Transformed input and products of the blocks at work; threads share the input of a single block."""
        parts = self.blocks if self.blocks > 1 else self.chunks
        return 4 * (self.transformed_floats * min(threads, self.blocks) + self.products_floats * min(threads, parts))

    def pack(self, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weight ``(k, c / groups, r, s)`` transformed in float64 to ``weight_shape``; constants zero-padded."""
        t = self.task
        kernels = params[0].reshape(t.groups, t.k // t.groups, t.c // t.groups, t.r, t.s).transpose(0, 3, 4, 2, 1)
        return [self._packed(kernels), *pad_channels(params[1:], self.padded_constants)]

    def _packed(self, kernels: np.ndarray) -> np.ndarray:
        """``(groups, r, s, reduction, outputs)`` transformed to ``weight_shape``, zero-padded."""
        b = self.blocking
        groups, reduction, width = len(kernels), kernels.shape[-2], b.vectors * b.lanes
        parts = (groups, self.group_chunks, b.chunk)
        packed = np.zeros((*parts[:2], self.positions, b.chunk, self.reduced_vectors * b.lanes, width), np.float32)
        for group, chunk, block in np.ndindex(parts):  # few outputs at a time: what is transformed stays in the caches
            first = (chunk * b.chunk + block) * width
            part = kernels[group, ..., first : first + width].astype(np.float64, order="C")
            packed[group, chunk, :, block, :reduction, : part.shape[-1]] = self.transform.transform_weight(part)
        return packed.reshape(self.weight_shape)
