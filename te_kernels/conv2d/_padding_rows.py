"""Rows of a window that lie in the padding, left out of scheduled direct convolutions (``_output_stationary``).

A tile at the upper or lower edge of the map multiplies rows of zeros: of 3x3 windows on a map of 14 rows, 5 % of all
products with stride 1 and 2 % with stride 2, of 5x5 windows 9 %. The loop over the window's rows is outside of those
over columns and channels, so that a branch in it costs nothing. No schedule primitive makes it, and as a condition of
the reduction it would end up around every multiplication, hence a rewrite of the scheduled TIR.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from te_kernels.conv2d._output_geometry import Geometry
from te_kernels.conv2d._scheduled import changed, realize, with_loop_body, without_annotation

#: Annotation of the loop over the window's rows.
ANNOTATION = "te_kernels.window_rows"


def without_padding_rows(func: tvm.tirx.PrimFunc, geometry: Geometry) -> tvm.tirx.PrimFunc:
    """The scheduled function with the annotated loop's rows left out where all of the tile's lie in the padding."""

    def change(statement: Any) -> Any:
        if not isinstance(statement, tirx.For) or ANNOTATION not in statement.annotations:
            return statement
        plain = without_annotation(statement, ANNOTATION)
        conditions = _inside(plain, geometry)
        if not conditions:
            return plain
        return with_loop_body(plain, tirx.IfThenElse(tirx.all(*conditions), plain.body, None), plain.annotations)

    return changed(func, change)


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
