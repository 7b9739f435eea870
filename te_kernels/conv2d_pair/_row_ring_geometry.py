"""Loop bounds of the kernels by rows (``_row_ring``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from te_kernels.conv2d_pair._padding import padded_width
from te_kernels.task import ConvTask, PairTask, PoolTask
from te_kernels.tiling import cdiv


@dataclass(frozen=True)
class Geometry:
    """Of one task for the knobs of an instance."""

    task: PairTask
    pixels: int
    vectors: int
    columns: int
    lanes: int
    bands: int

    @property
    def first(self) -> ConvTask:
        """The convolution that makes the middle: variants apply to nothing else."""
        return cast(ConvTask, self.task.first)

    @property
    def second(self) -> ConvTask | PoolTask:
        """What goes over the middle in windows, a channel at a time."""
        return self.task.second

    @property
    def chunks(self) -> int:
        """Chunks of ``vectors`` vectors that cover the channels."""
        return cdiv(self.first.k, self.vectors * self.lanes)

    @property
    def channels(self) -> int:
        """Channels of all chunks, padding included."""
        return self.chunks * self.vectors * self.lanes

    @property
    def band_rows(self) -> int:
        """Output rows of a band."""
        return cdiv(self.second.oh, self.bands)

    @property
    def band_count(self) -> int:
        """Bands that have rows: may be fewer than were asked for."""
        return cdiv(self.second.oh, self.band_rows)

    @property
    def window_rows(self) -> int:
        """Rows of the middle that one output row reads, those that a dilated window skips included."""
        return (self.second.r - 1) * self.second.dilation[0] + 1

    @property
    def row_pixels(self) -> int:
        """Pixels of a row of the middle with its padding."""
        return padded_width(self.second)

    @property
    def row_floats(self) -> int:
        """Of a row in the ring."""
        return self.row_pixels * self.vectors * self.lanes

    @property
    def ring_floats(self) -> int:
        """Of the rows of one window and the row that stands for those outside of the map."""
        return (self.window_rows + 1) * self.row_floats

    @property
    def pixel_tiles(self) -> int:
        """Register tiles of a row of the middle."""
        return cdiv(self.first.ow, self.pixels)

    @property
    def column_tiles(self) -> int:
        """Register tiles of an output row."""
        return cdiv(self.second.ow, self.columns)
