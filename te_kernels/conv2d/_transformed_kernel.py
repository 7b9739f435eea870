"""Convolution by tiles in a transformed space: the kernel behind every winograd, fft and strassen variant.

    Y = A [ sum_c (G g) * (B d) ]                        d: tile of the input, Y: tile of the output

(``_tile_transform``). With ``a`` the positions of a tile in the transformed space, ``t`` the tiles and V lanes of a
vector:

    for block of tiles:                                      parallel (or one block: its loops are parallel instead)
      V[a, t, c] = B d                                       1 tile x V channels at a time, in registers
      for chunk of output channels:
        for a: for k in chunk: for register tile:            M[a, t, k] = sum_c V[a, t, c] * U[a, c, k]
          acc[tiles, vectors, V] += broadcast(V) * U         c innermost; U streams, V comes from L1 / L2
        Y = A M, epilogue, store                             1 tile x V channels at a time, in registers

While a slice ``U[a, :, k]`` is multiplied with every register tile of the block, the next one is prefetched evenly:
left to the hardware, slices beyond L2 arrive in bursts during the first register tile, with the memory idle after. Not
so with few tiles: slices then follow each other so fast that prefetches take the miss buffers that the loads need (on a
Zen 4 core, with 4 tiles 512x7x7 1206 us in place of 999, with 8 tiles 512x14x14 2509 in place of 2268).

Where one stream does not keep memory busy (``te_kernels.streaming``), a slice is read from several places at once: the
reduction goes through as many runs of input channels side by side, into the same accumulators. On Emerald Rapids, out
of memory, in one and four streams: 512x7x7 with tiles of 2x4 2872 and 1667 us, 256x14x14 with 2x7 845 and 721.

Tiles at the edge of the map, two-dimensional transforms of values in registers, and prefetching are why this kernel
is written statement by statement and not as a TE schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._buffers import argument, vector_registers, workspace
from te_kernels.conv2d._map_tiles import guarded
from te_kernels.conv2d._transformed_geometry import Geometry
from te_kernels.conv2d._transformed_tiles import InputTiles, OutputTiles
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.prefetch import CACHE_LINE_FLOATS, prefetch
from te_kernels.streaming import streaming
from te_kernels.tiling import cdiv, divisors
from te_kernels.variant import Layouts

#: Tiles of a block from which on its weights are prefetched, in one stream and in several.
_TILES_WORTH_FETCHING_FOR, _TILES_WORTH_STREAMS = 9, 5


class Source(Protocol):
    """What the tiles are of, where that is not the argument itself."""

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Of the argument."""

    def emit(self, data: Any) -> Any:
        """Emits what makes it of the argument, at the start of the kernel."""


@dataclass(frozen=True)
class Tiles:
    """What emits the transform of a tile of the input, and the inverse one with the epilogue."""

    inputs: Callable[..., Any] = InputTiles
    outputs: Callable[..., Any] = OutputTiles
    source: Source | None = None


class Emitter:
    """Emits the kernel of one geometry, part by part, into the current IR builder."""

    def __init__(self, geometry: Geometry, layouts: Layouts, machine: Machine, tiles: Tiles) -> None:
        self.tiles, self.machine = tiles, machine
        beyond_l2 = geometry.weight_bytes + geometry.workspace_bytes() > machine.l2_bytes
        self.streams = divisors(geometry.reduced_vectors, streaming(machine).streams)[-1] if beyond_l2 else 1
        fewest_tiles = _TILES_WORTH_FETCHING_FOR if self.streams == 1 else _TILES_WORTH_STREAMS
        self.fetch = beyond_l2 and geometry.register_tiles * geometry.blocking.tile >= fewest_tiles
        self.g, self.t, self.b = geometry, geometry.task, geometry.blocking
        self.in_layout, self.out_layout = Layout(layouts.inputs[0]), Layout(layouts.output)

    def emit(self) -> None:
        g, t = self.g, self.t
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        source = self.tiles.source
        data_shape = source.data_shape if source else self.in_layout.physical_shape((t.n, t.c, t.h, t.w))
        data = argument("data", data_shape)
        out_shape = self.out_layout.physical_shape(self._out_shape)
        tensors = [argument(f"tensor{i}", out_shape) for i in range(ep.tensor_count(t.steps))]
        self.weight = argument("weight", g.weight_shape)
        count = ep.channel_count(t.steps)
        constants = [argument(f"channel{i}", (g.padded_constants,)) for i in range(count)]
        out = argument("out", out_shape)
        self.input = self.tiles.inputs(g, self.in_layout, source.emit(data) if source else data)
        self.output = self._output(out, tensors, constants)
        self._work()

    @property
    def _out_shape(self) -> tuple[int, ...]:
        """Logical shape of the result."""
        return self.t.output_shape

    def _output(self, out: Any, tensors: list[Any], constants: list[Any]) -> Any:
        """Whose ``emit`` takes the products of a tile."""
        return self.tiles.outputs(self.g, self.out_layout, out, tensors, constants)

    @property
    def _input_loops(self) -> tuple[int, int]:
        """The inner one follows memory: neighbouring tiles of one channel block, or the channels of one tile."""
        outer, inner = self.g.register_tiles, self.g.input_vectors
        return (inner, outer) if self.in_layout.block else (outer, inner)

    def _work(self) -> None:
        """Blocks of tiles, dealt to the threads."""
        g = self.g
        if g.blocks == 1:
            transformed = self._only_input()
            with T.parallel(0, g.chunks) as chunk:
                self._chunk(transformed, 0, chunk)
            return
        with T.parallel(0, g.blocks) as block:
            transformed = workspace(g.transformed_floats)
            self._block_input(transformed, block)
            with T.serial(0, g.chunks) as chunk:
                self._chunk(transformed, block, chunk)

    def _only_input(self) -> Any:
        """V of the only block, made by all threads."""
        (outer, inner), transformed = self._input_loops, workspace(self.g.transformed_floats)
        with T.parallel(0, outer * inner) as index:
            self._input_tiles(transformed, 0, index // inner, index % inner)
        return transformed

    def _block_input(self, transformed: Any, block: Any) -> None:
        """V of a block, made by one thread."""
        outer, inner = self._input_loops
        with T.serial(0, outer) as o, T.serial(0, inner) as i:
            self._input_tiles(transformed, block, o, i)

    def _input_tiles(self, transformed: Any, block: Any, outer: Any, inner: Any) -> None:
        """V for the tiles of one register tile and one vector of input channels."""
        g, b = self.g, self.b
        vector, tb = (outer, inner) if self.in_layout.block else (inner, outer)
        with T.serial(0, b.tile) as i:
            tile = block * b.block + tb * b.tile + i
            if g.blocks * b.block > g.tiles or g.register_tiles * b.tile > b.block:
                tile = tirx.min(tile, g.tiles - 1)  # past the end: any finite numbers
            target = T.Bind(self._transformed_at(tb, vector, 0) + i * b.lanes)

            def write(a: Any, lane: Any, value: Any, target: Any = target) -> None:
                T.buffer_store(transformed, value, [target + a * g.input_panel + lane])

            self.input.emit(tile, vector, write)

    def _transformed_at(self, tb: Any, vector: Any, a: Any) -> Any:
        """Where V of a register tile and a vector of input channels begins, at position ``a``."""
        g, b = self.g, self.b
        return a * g.input_panel + (tb * g.input_vectors + vector) * (b.tile * b.lanes)

    def _chunk(self, transformed: Any, block: Any, chunk: Any) -> None:
        """Products and outputs of one chunk of output channels."""
        g, b = self.g, self.b
        products = workspace(g.products_floats)
        group, local_chunk = (chunk // g.group_chunks, chunk % g.group_chunks) if self.t.groups > 1 else (0, chunk)
        extent = b.chunk
        if g.channel_blocks % b.chunk:
            extent = tirx.min(b.chunk, g.channel_blocks - local_chunk * b.chunk)
        with T.serial(0, g.positions) as a, T.serial(0, extent) as kb, T.serial(0, g.register_tiles) as tb:
            weight_slice = T.Bind((chunk * g.positions + a) * b.chunk + kb)
            self._register_tile(transformed, weight_slice, a, tb, group * g.reduced_vectors, products, kb)
        tiles = g.register_tiles * b.tile
        with T.serial(0, extent) as kb, T.serial(0, b.vectors) as v, T.serial(0, tiles) as slot:
            vector = T.Bind((local_chunk * b.chunk + kb) * b.vectors + v)
            first = T.Bind(kb * (g.positions * g.product_panel) + (slot * b.vectors + v) * b.lanes)
            conditions = []
            if tiles > b.block:
                conditions.append(slot < b.block)
            if g.blocks * b.block > g.tiles:
                conditions.append(block * b.block + slot < g.tiles)
            if g.channel_blocks * b.vectors > g.output_vectors:
                conditions.append(vector < g.output_vectors)
            channel = group * g.output_vectors + vector
            read = lambda a, lane: products[first + a * g.product_panel + lane]  # noqa: E731
            guarded(conditions, lambda: self.output.emit(block * b.block + slot, channel, read))

    def _register_tile(
        self, transformed: Any, weight_slice: Any, a: Any, tb: Any, first: Any, products: Any, kb: Any
    ) -> None:
        """``b.tile`` tiles times ``b.vectors`` vectors of output channels of M, at one position.

        The reduction starts at the vector of input channels ``first``.
        """
        g, b = self.g, self.b
        slots = [(i, v) for i in range(b.tile) for v in range(b.vectors)]
        source = T.Bind(self._transformed_at(tb, first, a))
        target = T.Bind((kb * g.positions + a) * g.product_panel + tb * (b.tile * b.vectors * b.lanes))
        acc = vector_registers(len(slots), b.lanes)
        for slot in range(len(slots)):
            with T.vectorized(0, b.lanes) as lane:
                T.buffer_store(acc, tirx.const(0.0, "float32"), [slot * b.lanes + lane])
        run = g.reduced_vectors // self.streams
        with T.serial(0, run) as step, T.serial(0, g.reduced_lanes) as ci:
            for co in (step + stream * run if stream else step for stream in range(self.streams)):
                c = co * b.lanes + ci
                if self.fetch:
                    self._fetch(weight_slice + 1, tb * (g.reduced_vectors * b.lanes) + c)
                for slot, (i, v) in enumerate(slots):
                    with T.vectorized(0, b.lanes) as lane:
                        register = slot * b.lanes + lane
                        x = transformed[source + (co * b.tile + i) * b.lanes + ci]
                        w = self.weight[weight_slice, c, v, lane]
                        T.buffer_store(acc, acc[register] + x * w, [register])
        for slot in range(len(slots)):
            with T.vectorized(0, b.lanes) as lane:
                register = slot * b.lanes + lane
                T.buffer_store(products, acc[register], [target + register])

    def _fetch(self, weight_slice: Any, step: Any) -> None:
        """Step ``step`` of as many as there are channels times register tiles fetches its share of a weight slice."""
        width = self.b.vectors * self.b.lanes
        share = cdiv(width, self.g.register_tiles)
        for first in range(0, share, CACHE_LINE_FLOATS):
            prefetch(self.weight[weight_slice, 0, 0, step * share + first])


def prim_func(geometry: Geometry, layouts: Layouts, machine: Machine, tiles: Tiles) -> tvm.tirx.PrimFunc:
    """The kernel."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        Emitter(geometry, layouts, machine, tiles).emit()
    return builder.get()
