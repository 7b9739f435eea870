"""Tiles of ``_pointwise``: pixels and vectors of output channels, the last of each moved back to the end."""

from __future__ import annotations

from dataclasses import dataclass

from te_kernels.prefetch import CACHE_LINE_FLOATS, weights_worth_fetching
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv


@dataclass(frozen=True)
class Geometry:
    """Loop bounds of one task for register tiles of ``pixels`` times ``vectors`` vectors."""

    task: ConvTask
    pixels: int
    vectors: int
    lanes: int

    @property
    def image_pixels(self) -> int:
        """Pixels of one image."""
        return self.task.h * self.task.w

    @property
    def image_tiles(self) -> int:
        """Tiles that cover the pixels of one image."""
        return cdiv(self.image_pixels, self.pixels)

    @property
    def per_group(self) -> int:
        """Output channels of a group."""
        return self.task.k // self.task.groups

    @property
    def reduction(self) -> int:
        """Input channels of a group."""
        return self.task.c // self.task.groups

    @property
    def group_vectors(self) -> int:
        """Vectors that cover the output channels of a group."""
        return cdiv(self.per_group, self.lanes)

    @property
    def vector_blocks(self) -> int:
        """Blocks of ``vectors`` vectors that cover a group."""
        return cdiv(self.group_vectors, self.vectors)

    @property
    def tiles(self) -> int:
        """Tiles of all images."""
        return self.task.n * self.image_tiles

    @property
    def vector_starts(self) -> list[list[int]]:
        """First channel in the group of each vector of each block."""
        firsts = [min(b * self.vectors, self.group_vectors - self.vectors) for b in range(self.vector_blocks)]
        return [[min((f + v) * self.lanes, self.per_group - self.lanes) for v in range(self.vectors)] for f in firsts]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Of the packed weights."""
        return (self.task.groups, self.vector_blocks, self.reduction, self.vectors, self.lanes)

    @property
    def units(self) -> int:
        """Blocks of vectors of all groups."""
        return self.task.groups * self.vector_blocks

    @property
    def run(self) -> int:
        """Input channels between two fetches of the next pixels: a cache line's or somewhat less, if they divide so."""
        runs = [d for d in range(CACHE_LINE_FLOATS // 2, CACHE_LINE_FLOATS + 1) if self.reduction % d == 0]
        return max(runs, default=self.reduction)

    def fetches_weights(self, block_tiles: int) -> bool:
        """Whether a block of pixels is so short that fetching the next block of vectors' weights shows."""
        return self.vector_blocks > 1 and weights_worth_fetching(self.pixels * block_tiles)

    def block_tiles(self, l2_bytes: int, threads: int) -> int:
        """Tiles in a block of pixels: all where a group's pixels stay in L2 and the units suffice the threads."""
        group_bytes = 4 * self.task.n * self.image_pixels * (self.reduction + self.per_group)
        needed = cdiv(group_bytes, l2_bytes // 2) if self.vector_blocks > 1 else 1
        uneven = self.units % threads > 0
        if threads > 1 and (needed > 1 or uneven):
            dealt = min(cdiv(needed, threads) * threads, self.tiles)
            if needed > 1 or cdiv(dealt, threads) * self.units <= cdiv(self.units, threads) * dealt:  # the slowest
                needed = dealt
        return cdiv(self.tiles, min(needed, self.tiles))
