"""Loop bounds of the direct convolutions (``_output_stationary``), and how work is dealt to caches and threads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv, divisors, even_share


@dataclass(frozen=True)
class Tile:
    """Register tile: ``rows x pixels`` positions times ``vectors`` channel vectors of ``lanes`` floats."""

    rows: int
    pixels: int
    vectors: int
    lanes: int


@dataclass(frozen=True)
class Geometry:
    """Loop bounds of one task under one tile."""

    task: ConvTask
    tile: Tile

    @property
    def row_tiles(self) -> int:
        return cdiv(self.task.oh, self.tile.rows)

    @property
    def pixel_tiles(self) -> int:
        return cdiv(self.task.ow, self.tile.pixels)

    @property
    def group_channels(self) -> int:
        """Output channels of one group."""
        return self.task.k // self.task.groups

    @property
    def channel_blocks(self) -> int:
        """Blocks of ``vectors * lanes`` output channels in one group."""
        return cdiv(self.group_channels, self.tile.vectors * self.tile.lanes)

    @property
    def reduction_block(self) -> int:
        """Input channels in the innermost loop: a divisor of the group's channels near the vector length."""
        channels = self.task.c // self.task.groups
        return max(d for d in range(1, min(channels, 16) + 1) if channels % d == 0)

    @property
    def padded_input(self) -> tuple[int, int]:
        """Rows and columns that whole tiles read."""
        t = self.task
        rows = (self.row_tiles * self.tile.rows - 1) * t.stride[0] + (t.r - 1) * t.dilation[0] + 1
        columns = (self.pixel_tiles * self.tile.pixels - 1) * t.stride[1] + (t.s - 1) * t.dilation[1] + 1
        return rows, columns

    @property
    def needs_copy(self) -> bool:
        """Whether tiles read outside the input, so that the rows must be copied into a padded buffer first."""
        rows, columns = self.padded_input
        return any(self.task.pad) or rows > self.task.h or columns > self.task.w


@dataclass(frozen=True)
class Blocks:
    """Blocks of ``rows`` rows of tiles and ``tiles`` tiles in each, times ``channel_parts`` of the output channels."""

    rows: int
    tiles: int
    channel_parts: int

    def by_group(self, geometry: Geometry) -> bool:
        """Whether the parts are groups of the convolution instead."""
        return self.channel_parts > 1 and 1 < geometry.task.groups >= self.channel_parts


#: What an imbalance may cost before the work is dealt another way.
_TOLERATED = 1.02
#: Parts of the output channels a thread that are considered.
_MOST_PARTS = 8


def blocks(geometry: Geometry, machine: Machine) -> Blocks:
    """The input of a block leaves most of L2 to weights and output; the slowest thread has as little to do as can be.

    Threads get positions or, where those do not divide evenly (a map of 7x7), output channels.
    """
    shared = _positions(geometry, machine, machine.threads)
    first = Blocks(*shared, _channel_parts(geometry, shared, machine))
    if machine.threads == 1:
        return first
    whole = _positions(geometry, machine, 1)
    options = [Blocks(*whole, parts) for parts in divisors(geometry.channel_blocks, machine.threads * _MOST_PARTS)]
    best = min(options, key=lambda option: (slowest_cycles(geometry, option, machine), option.channel_parts))
    if slowest_cycles(geometry, first, machine) <= _TOLERATED * slowest_cycles(geometry, best, machine):
        return first
    return best


def block_bytes(geometry: Geometry, rows: int, tiles: int) -> int:
    """Input that a block of ``rows`` rows of ``tiles`` tiles reads, or its padded copy."""
    t, tile = geometry.task, geometry.tile
    if geometry.needs_copy:
        columns = geometry.padded_input[1]
        height = (rows * tile.rows - 1) * t.stride[0] + (t.r - 1) * t.dilation[0] + 1
    else:  # a stride longer than the window leaves rows and pixels out
        columns = min(geometry.padded_input[1], tiles * tile.pixels * t.s)
        height = min((rows * tile.rows - 1) * t.stride[0] + (t.r - 1) * t.dilation[0] + 1, rows * tile.rows * t.r)
    return 4 * t.c * columns * height


def slowest_cycles(geometry: Geometry, blocks: Blocks, machine: Machine) -> float:
    """Modelled cycles of the thread that has most to do: multiply-adds at two vectors a cycle, and copies."""
    t, tile = geometry.task, geometry.tile
    parts = t.groups if blocks.by_group(geometry) else blocks.channel_parts
    one_tile = tile.rows * tile.pixels * tile.vectors * (t.c // t.groups) * t.r * t.s / 2
    channel_blocks = t.groups * geometry.channel_blocks / parts
    items = []
    for rows in _extents(geometry.row_tiles, blocks.rows):
        for tiles in _extents(geometry.pixel_tiles, blocks.tiles):
            copied = block_bytes(geometry, rows, tiles) / (4 * tile.lanes) if geometry.needs_copy else 0.0
            items += [rows * tiles * channel_blocks * one_tile + copied] * parts
    items *= t.n
    each = cdiv(len(items), machine.threads)  # TVM deals neighbouring items
    return max(sum(items[start : start + each]) for start in range(0, len(items), each))


def _positions(geometry: Geometry, machine: Machine, threads: int) -> tuple[int, int]:
    """Tile rows, and tiles in each, of one block; of the flat view the input may take a little more of L2."""
    limit = machine.l2_bytes * 3 // 8
    tiles = geometry.pixel_tiles

    def fits(rows: int) -> bool:
        return block_bytes(geometry, rows, tiles) <= limit

    rows = max((n for n in range(1, geometry.row_tiles + 1) if fits(n)), default=1)
    if geometry.row_tiles == 1 and not geometry.needs_copy:  # one long row: the flat view
        fitting = machine.l2_bytes * 7 // 16 // (4 * geometry.task.c * geometry.tile.pixels)
        tiles = even_share(tiles, max(1, min(fitting, cdiv(tiles, threads))))
    return even_share(geometry.row_tiles, min(rows, cdiv(geometry.row_tiles, threads))), tiles


def _channel_parts(geometry: Geometry, positions: tuple[int, int], machine: Machine) -> int:
    """Into how many parts the output channels are dealt to threads when the row blocks alone do not balance them."""
    rows, tiles = positions
    count = geometry.task.n * cdiv(geometry.row_tiles, rows) * cdiv(geometry.pixel_tiles, tiles)
    if machine.threads == 1 or count % machine.threads == 0 or count >= 8 * machine.threads:
        return 1
    total = geometry.channel_blocks
    wanted = machine.threads // math.gcd(machine.threads, count)
    options = [d for d in divisors(total, total) if d % wanted == 0]
    return min(options, default=min((d for d in divisors(total, total) if d > 1), default=1))


def _extents(total: int, block: int) -> Iterator[int]:
    """Extents of the blocks that cover ``total``."""
    return (min(block, total - start) for start in range(0, total, block))
