"""Loop bounds of ``_winograd_pool``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from te_kernels.conv2d._transformed_geometry import Geometry
from te_kernels.conv2d_pair._padding import padded_width
from te_kernels.generic._tir import clamped_start
from te_kernels.task import PoolTask
from te_kernels.tiling import cdiv


@dataclass(frozen=True)
class PoolGeometry:
    """A convolution by transformed tiles, in blocks of whole rows of them, and the pool of its result.

    ``columns`` outputs of the pool are a register tile.
    """

    conv: Geometry
    pool: PoolTask
    columns: int

    @property
    def block_rows(self) -> int:
        """Rows of the convolution's result that a block has."""
        return self.conv.blocking.block // self.conv.tile_columns * self.conv.transform.outputs[0]

    @property
    def image_blocks(self) -> int:
        """Blocks of an image."""
        return self.conv.blocks // self.conv.task.n

    def bands(self, threads: int) -> int:
        """Of blocks, of an image: one for each thread that the images do not occupy."""
        return min(cdiv(threads, self.conv.task.n), self.image_blocks)

    @property
    def band_vectors(self) -> int:
        """Vectors of channels in the band of rows."""
        return self.conv.blocking.chunk * self.conv.blocking.vectors

    @property
    def band_width(self) -> int:
        """Pixels of a row with its padding."""
        return padded_width(self.pool)

    @property
    def band_floats(self) -> int:
        """Never as large as the other buffers: TVM 0.27 (StorageRewrite) would put both into the same memory."""
        made = self.band_vectors * self.block_rows * self.band_width * self.conv.blocking.lanes
        while made in (self.conv.transformed_floats, self.conv.products_floats):
            made += self.conv.blocking.lanes
        return made

    @property
    def ragged(self) -> bool:
        """Whether the last chunk has vectors that do not exist."""
        return self.conv.chunks * self.band_vectors > self.conv.output_vectors

    @property
    def column_tiles(self) -> int:
        """Register tiles of a row of the pool's result."""
        return cdiv(self.pool.ow, self.columns)

    def tile_start(self, tile: Any) -> Any:
        """First column of a register tile, the last one moved back to the end."""
        return clamped_start(tile, self.columns, self.pool.ow, self.column_tiles * self.columns)

    def first_row(self, start: Any) -> Any:
        """First row of the pool's result whose window reaches row ``start`` of the convolution's."""
        return tirx.max(self._reaching(start), 0)

    def _reaching(self, start: Any) -> Any:
        """The same were there rows before the first."""
        p = self.pool
        return (start - (p.r - 1) + p.pad[0] + p.stride[0] - 1) // p.stride[0]

    @property
    def shared_rows(self) -> int:
        """Rows of the pool's result that two blocks may share."""
        return cdiv(self.pool.r - 1, self.pool.stride[0])

    def band_blocks(self, bands: int) -> int:
        """Blocks of all bands but the last."""
        return cdiv(self.image_blocks, bands)

    def beside_floats(self, bands: int) -> int:
        """Shared rows of all bands of all images; none where no window reaches over a border."""
        p, rows = self.pool, self.band_blocks(bands) * self.block_rows
        borders = range(rows, self.conv.task.oh, rows) if bands > 1 else ()
        firsts = [(start, max(0, self._reaching(start))) for start in borders]
        if not any(row < p.oh and row * p.stride[0] - p.pad[0] < start for start, row in firsts):
            return 0
        units = self.conv.task.n * bands
        return units * self.shared_rows * self.conv.output_vectors * self.pool.ow * self.conv.blocking.lanes

    def beside_at(self, unit: Any, row: Any, vector: Any, x: Any) -> Any:
        """Where the shared row ``row`` of a band has a vector of column ``x``."""
        line = (unit * self.shared_rows + row) * self.conv.output_vectors + vector
        return (line * self.pool.ow + x) * self.conv.blocking.lanes

    def added_bytes(self, threads: int) -> int:
        """Workspace beside the convolution's: the bands of rows and the rows beside."""
        one = self.conv.blocks == 1
        parts = self.conv.chunks if one else self.conv.task.n * self.bands(threads)
        beside = 0 if one else self.beside_floats(self.bands(threads))
        return 4 * (self.band_floats * min(threads, parts) + beside)
