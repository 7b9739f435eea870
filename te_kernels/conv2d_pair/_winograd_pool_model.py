"""Which instances of ``_winograd_pool`` are worth measuring."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from te_kernels.conv2d._transformed_geometry import Blocking, Geometry
from te_kernels.conv2d._transformed_model import Weights, cycles
from te_kernels.conv2d._winograd_model import costs_on, worthwhile
from te_kernels.conv2d._winograd_transform import WinogradTransform
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, PoolTask
from te_kernels.tiling import cdiv

Choice = tuple[WinogradTransform, Blocking]

#: Register tiles of a block beyond which no more are tried.
_MOST_REGISTER_TILES = 6


def promising(conv: ConvTask, pool: PoolTask, machine: Machine) -> list[Choice]:
    """The fastest by the model of the convolution alone, with the weights in L3 and in memory, of two sizes of tiles.

    Each comes with its chunk and with that of one register tile's channels, whose band of rows is the smallest.
    """
    every = [
        (transform, blocking)
        for transform in worthwhile(conv)
        for blocking in _blockings(conv, pool, transform, machine)
    ]
    chosen: dict[WinogradTransform, list[Choice]] = {}
    for weights in (Weights.L3, Weights.MEMORY):
        timed = [(cycles(Geometry(conv, *choice), machine, weights, costs_on(machine)), choice) for choice in every]
        left = [pair for pair in timed if pair[1][0] not in chosen]
        if left:
            transform, best = min(left, key=lambda pair: pair[0])[1]
            small = dataclasses.replace(best, chunk=1)
            chosen[transform] = list(dict.fromkeys([(transform, best), (transform, small)]))
    return [choice for choices in chosen.values() for choice in choices]


def _blockings(conv: ConvTask, pool: PoolTask, transform: WinogradTransform, machine: Machine) -> Iterator[Blocking]:
    """Blocks of whole rows of tiles, of one image each, with as many rows as a window of the pool reaches back."""
    lanes = machine.vector_lanes
    for vectors in (1, 2, 3):
        whole = Geometry(conv, transform, Blocking(1, vectors, lanes, 1, 1))
        if vectors > whole.output_vectors:
            continue
        widest = (machine.vector_registers - vectors - 1) // vectors
        for rows in range(1, whole.tile_rows + 1):
            block = rows * whole.tile_columns
            if rows > 1 and block > _MOST_REGISTER_TILES * widest:
                break
            if rows * transform.m < pool.r - 1 or (conv.n > 1 and whole.tile_rows % rows):
                continue
            tile = cdiv(block, cdiv(block, widest))
            most = whole.channel_blocks
            if block == whole.tiles:  # one block: the chunks are dealt to the threads
                most = cdiv(most, machine.threads)
            for chunk in sorted({1, min(2, most), most}):
                yield Blocking(tile, vectors, lanes, block, chunk)
