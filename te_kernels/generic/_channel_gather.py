"""Blocked tensors whose channels come from other blocked tensors in another order: concatenation and shuffle.

Output channel ``c`` is channel ``source(c)[1]`` of input ``source(c)[0]``. One output vector (block) takes its lanes
from a few input vectors at the same pixel, so it is a few loads, one shuffle and a store:

    for n, part of the map:                             parallel
      for block of output channels:                     consecutive alike blocks in a loop, others unrolled
        for pixel of the part:
          out[block, pixel, :] = shuffle(in[block', pixel, :], ...)

Blocks that are copies of one whole input block (channels that are multiples of the block) need no shuffle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm

from te_kernels.generic import _tir
from te_kernels.machine import Machine
from te_kernels.variant import Layouts


@dataclass(frozen=True)
class _Block:
    """Where the lanes of one output block come from: vectors (input, block - own block) and lanes of those."""

    vectors: tuple[tuple[int, int], ...]
    lanes: tuple[int, ...]


def _block(q: int, block: int, channels: int, source: Callable[[int], tuple[int, int]]) -> _Block:
    vectors: dict[tuple[int, int], int] = {}
    lanes: list[int] = []
    for c in range(q * block, (q + 1) * block):
        if c >= channels:
            lanes.append(lanes[0])  # padding: any finite number will do
            continue
        tensor, channel = source(c)
        vector = vectors.setdefault((tensor, channel // block - q), len(vectors))
        lanes.append(vector * block + channel % block)
    return _Block(tuple(vectors), tuple(lanes))


def prim_func(
    task: Any, layouts: Layouts, block: int, source: Callable[[int], tuple[int, int]], machine: Machine
) -> tvm.tirx.PrimFunc:
    """Kernel of ``task`` in the blocked ``layouts``; ``source`` maps an output channel to (input, channel)."""
    n, channels, h, w = task.output_shape
    pixels = h * w
    args = _tir.arguments(task, layouts, -(-channels // block) * block)
    slices = [-(-shape[1] // block) for shape in task.input_shapes[: len(args.data)]]
    out_slices = -(-channels // block)
    parts = 1
    if _tir.worth_threads(task, machine):
        parts = min(pixels, -(-4 * machine.threads // n))
    share = -(-pixels // parts)
    covered = parts * share
    blocks = [_block(q, block, channels, source) for q in range(out_slices)]
    runs: list[tuple[int, int]] = []  # first output block, how many alike follow
    for q, layout in enumerate(blocks):
        if runs and blocks[runs[-1][0]] == layout:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((q, 1))

    def unit(index: Any) -> Any:
        image, part = index // parts, index % parts
        start = _tir.clamped_start(part, 1, parts, parts) * share
        if covered > pixels:
            start = tvm.tirx.min(start, _tir.int32(pixels - share))

        def run(first: int, count: int) -> Any:
            lanes = blocks[first]
            scratch, allocation = _tir.local("lanes", block)

            def at(q: Any, p: Any) -> Any:
                loaded = [
                    args.data[tensor].vector(((image * slices[tensor] + q + delta) * pixels + start + p) * block, block)
                    for tensor, delta in lanes.vectors
                ]
                value = loaded[0] if lanes.lanes == tuple(range(block)) else _tir.shuffle(loaded, lanes.lanes)
                offset = ((image * out_slices + q) * pixels + start + p) * block
                if not task.steps:
                    return args.out.store(offset, value)
                finished = _tir.contiguous(
                    block, machine.vector_lanes, lambda i, _: args.finish(scratch[i], offset + i, q * block + i)
                )
                return _tir.sequence([scratch.store(_tir.int32(0), value), finished])

            body = _tir.loop(count, lambda q: _tir.loop(share, lambda p: at(q, p), "p"), "q", start=first)
            return _tir.sequence([allocation, body]) if task.steps else body

        return _tir.sequence([run(*r) for r in runs])

    return args.prim_func(_tir.loop(n * parts, unit, "u", _tir.worth_threads(task, machine)))
