"""Loop bounds of ``_expand_depthwise``."""

from __future__ import annotations

from dataclasses import dataclass

from te_kernels.task import PairTask
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
    def chunks(self) -> int:
        """Chunks of ``vectors`` vectors that cover the channels."""
        return cdiv(self.task.first.k, self.vectors * self.lanes)

    @property
    def channels(self) -> int:
        """Channels of all chunks, padding included."""
        return self.chunks * self.vectors * self.lanes

    @property
    def band_rows(self) -> int:
        """Output rows of a band."""
        return cdiv(self.task.second.oh, self.bands)

    @property
    def band_count(self) -> int:
        """Bands that have rows: may be fewer than were asked for."""
        return cdiv(self.task.second.oh, self.band_rows)

    @property
    def window_rows(self) -> int:
        """Rows of the middle that one output row reads, those that a dilated window skips included."""
        t = self.task.second
        return (t.r - 1) * t.dilation[0] + 1

    @property
    def row_pixels(self) -> int:
        """Pixels of a row of the middle with its padding."""
        t = self.task.second
        return max(t.pad[1] + t.w, (t.ow - 1) * t.stride[1] + (t.s - 1) * t.dilation[1] + 1)

    @property
    def row_floats(self) -> int:
        """Of a row in the ring."""
        return self.row_pixels * self.vectors * self.lanes

    @property
    def ring_floats(self) -> int:
        """Of the rows of one window and the row of zeros."""
        return (self.window_rows + 1) * self.row_floats

    @property
    def pixel_tiles(self) -> int:
        """Register tiles of a row of the middle."""
        return cdiv(self.task.first.w, self.pixels)

    @property
    def column_tiles(self) -> int:
        """Register tiles of an output row."""
        return cdiv(self.task.second.ow, self.columns)
