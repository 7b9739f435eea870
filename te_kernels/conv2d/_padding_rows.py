"""Rows of a window that lie in the padding, left out of scheduled direct convolutions (``_output_stationary``).

A tile at the upper or lower edge of the map multiplies rows of zeros: of 3x3 windows on a map of 14 rows, 5 % of all
products with stride 1 and 2 % with stride 2, of 5x5 windows 9 %. Around the loop over a block of channels a branch
costs nothing. No schedule primitive makes it, and as a condition of the reduction it would end up around every
multiplication, hence a rewrite of the scheduled TIR.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from te_kernels.conv2d._output_geometry import Geometry
from te_kernels.conv2d._scheduled import realize


def without_padding_rows(loop: Any, geometry: Geometry) -> Any:
    """The innermost loop of the reduction, left out where what the tile reads in this row of the window is padding."""
    conditions = _inside(loop, geometry)
    return tirx.IfThenElse(tirx.all(*conditions), loop, None) if conditions else loop


def _inside(loop: Any, geometry: Geometry) -> list[Any]:
    """Conditions under which one of the rows that ``tile.rows`` outputs read at one row of the window exists."""
    t, rows = geometry.task, geometry.tile.rows
    _, _, _, row_tile, *_, r, _, _ = realize(loop).iter_values
    # in rows of the padded input
    first = row_tile * (rows * t.stride[0]) + r * t.dilation[0]
    conditions = []
    if t.pad[0]:
        conditions.append(first + (rows - 1) * t.stride[0] >= t.pad[0])
    if geometry.padded_input[0] > t.h + t.pad[0]:
        conditions.append(first < t.h + t.pad[0])
    return conditions
