"""Weights on their way before they are needed: a prefetch in scheduled direct convolutions (``_output_stationary``).

The first register tile of a block of output channels meets that block's weights in L3 or in memory, all further ones
meet them in L2. Left to the hardware, the first tile waits (18 bytes a cycle are asked for, memory gives 10) and memory
idles during the others. Here every tile fetches its share of the next block's weights: 1x1 on 320x7x7 to 1280 with the
weights in memory takes 0.172 ms where it took 0.203, with all in cache 0.168 either way.

A prefetch is a call, and across calls LLVM keeps only what lies on the stack in registers. TVM puts the accumulators on
the heap, so they are moved. Both are statements that no schedule primitive makes, hence a rewrite of the scheduled TIR.
"""

from __future__ import annotations

import math
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.tirx.script import builder as T

from te_kernels.conv2d._output_geometry import Blocks, Geometry, block_bytes
from te_kernels.conv2d._padding_rows import without_padding_rows
from te_kernels.conv2d._scheduled import changed, realize, realized, with_body, without_annotation
from te_kernels.machine import Machine
from te_kernels.prefetch import CACHE_LINE_FLOATS, prefetch_call, weights_worth_fetching
from te_kernels.tiling import cdiv

#: Annotation of the innermost loop of the reduction, before which a share is fetched.
ANNOTATION = "te_kernels.weight_prefetch"


def with_prefetch(func: tvm.tirx.PrimFunc, geometry: Geometry, dealt: Blocks, machine: Machine) -> tvm.tirx.PrimFunc:
    """The scheduled function with prefetches before the annotated loop where they pay, and no rows of padding in it."""
    pays = _pays(geometry, dealt, machine)
    weight = next(param for param in func.params if param.name == "weight")

    def finished(statement: Any) -> Any:
        if not isinstance(statement, tirx.For) or ANNOTATION not in statement.annotations:
            return statement
        products = without_padding_rows(without_annotation(statement, ANNOTATION), geometry)
        if not pays:
            return products
        # every tile fetches its share, whatever it leaves out
        return tirx.SeqStmt([*_prefetches(statement, weight, geometry, dealt), products])

    finished_func = changed(func, finished)
    return _accumulators_on_stack(finished_func) if pays else finished_func


def _accumulators_on_stack(func: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    transform = s_tir.transform
    passes = [
        transform.PlanAndUpdateBufferAllocationLocation(),
        transform.ConvertBlocksToOpaque(),
        transform.CompactBufferAllocation(),
    ]
    return changed(tvm.transform.Sequential(passes)(tvm.IRModule({"main": func}))["main"], _on_stack)


def _pays(geometry: Geometry, dealt: Blocks, machine: Machine) -> bool:
    """Whether the next block's weights take a part of a block's time worth hiding, and L2 holds both and the input."""
    tile = geometry.tile
    positions = dealt.rows * dealt.tiles * tile.rows * tile.pixels
    weight_bytes = 4 * _slice_lines(geometry) * CACHE_LINE_FLOATS
    held = 2 * weight_bytes + block_bytes(geometry, dealt.rows, dealt.tiles)
    worth = weights_worth_fetching(positions)
    return geometry.channel_blocks > 1 and worth and held <= machine.l2_bytes * 7 // 8


def _slice_lines(geometry: Geometry) -> int:
    """Cache lines of one block of output channels' weights."""
    t, tile = geometry.task, geometry.tile
    return cdiv(t.c // t.groups * t.r * t.s * tile.vectors * tile.lanes, CACHE_LINE_FLOATS)


def _prefetches(loop: Any, weight: Any, geometry: Geometry, dealt: Blocks) -> list[Any]:
    """Of one pass through ``loop``: the tiles of a block together fetch the next block of channels' weights."""
    t = geometry.task
    _, group, block, row, tile, _, _, _, _, co, r, s, _ = realize(loop).iter_values
    passes = t.c // t.groups // geometry.reduction_block * t.r * t.s
    tiles = dealt.rows * dealt.tiles
    share = cdiv(_slice_lines(geometry), passes * tiles)
    number = tirx.floormod(row, dealt.rows) * dealt.tiles + tirx.floormod(tile, dealt.tiles)
    number = tirx.min(number, cdiv(_slice_lines(geometry), passes * share) - 1)  # the others have nothing left to fetch
    first = (number * passes + (co * t.r + r) * t.s + s) * share
    following = tirx.floormod(block + 1, geometry.channel_blocks)
    fetched = []
    for line in range(share):
        place = [group, following, 0, 0, 0, 0, 0, (first + line) * CACHE_LINE_FLOATS]
        fetched.append(tirx.Evaluate(prefetch_call(weight[tuple(place)], level=2)))
    return fetched


def _on_stack(statement: Any) -> Any:
    """A block with its local buffers on the stack."""
    if not isinstance(statement, s_tir.SBlockRealize):
        return statement
    block = statement.block
    local = [buffer for buffer in block.alloc_buffers if buffer.scope() == "local"]
    if not local:
        return statement
    others = [buffer for buffer in block.alloc_buffers if buffer.scope() != "local"]
    declared: list[Any] = []
    for buffer in local:
        pointer = tirx.Var(f"{buffer.name}_registers", T.ptr("float32", "local").ty)
        words = cdiv(4 * math.prod(int(extent) for extent in buffer.shape), 8)
        stack = tirx.call_intrin(pointer.ty, "tirx.tvm_stack_alloca", "shape", words)
        declared += [tirx.Bind(pointer, stack), tirx.DeclBuffer(buffer, data=pointer)]
    return realized(statement, with_body(block, tirx.SeqStmt([*declared, block.body]), others))
