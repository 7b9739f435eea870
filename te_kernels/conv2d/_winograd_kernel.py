"""Winograd convolution F(m x m, r x r), stride 1, per block of tiles: the kernel behind every winograd variant.

    Y = A^T [ sum_c (G g G^T) * (B^T d B) ] A            d: (m+r-1)^2 input tile, Y: m^2 output tile

With ``a`` the (m+r-1)^2 positions of a tile in the transformed space, ``t`` the tiles and V vectors of channels:

    for block of tiles:                                      parallel (or one block: its loops are parallel instead)
      V[a, t, c] = B^T d B                                   transform of 1 tile x V channels in registers
      for chunk of output channels:
        for a: for k in chunk: for register tile:            M[a, t, k] = sum_c V[a, t, c] * U[a, c, k]
          acc[tiles, vectors, V] += broadcast(V) * U         c innermost, U streams, V comes from L1 / L2
        Y = A^T M A, epilogue, store                         transform of 1 tile x V channels in registers

The transforms are straight-line code over the constant matrices, emitted twice for the input: tiles inside the map
load directly, those at its edge first copy what exists of their patch. This control flow, and the two-dimensional
transforms on values in registers, is why the kernel is written statement by statement instead of as a TE schedule.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._winograd_geometry import Geometry
from te_kernels.conv2d._winograd_linear import Program, straight_line, weighted_sum
from te_kernels.layout import Layout
from te_kernels.variant import Layouts


def _transform_2d(program: Program, local: Any, patch: list[list[Any]], lane: Any, first_slot: int) -> list[list[Any]]:
    """``M patch M^T`` for the matrix of ``program``; every intermediate value is a slot of the ``local`` buffer."""
    next_slot = first_slot

    def combine(terms: list[tuple[Any, Any]]) -> Any:
        nonlocal next_slot
        slot, next_slot = next_slot, next_slot + 1
        T.buffer_store(local, weighted_sum(terms, lambda c: tirx.const(c, "float32")), [slot, lane])
        return local[slot, lane]

    columns = [program.run([row[j] for row in patch], combine) for j in range(len(patch[0]))]
    return [program.run([column[i] for column in columns], combine) for i in range(len(program.outputs))]


def _slots(program: Program) -> int:
    """Slots that :func:`_transform_2d` takes for a square patch, the patch itself included."""
    return program.inputs**2 + len(program.steps) * (program.inputs + len(program.outputs))


class _Emitter:
    """Emits the kernel of one geometry, part by part, into the current IR builder."""

    def __init__(self, geometry: Geometry, layouts: Layouts) -> None:
        self.g = geometry
        self.t = geometry.task
        self.b = geometry.blocking
        self.in_layout = Layout(layouts.inputs[0])
        self.out_layout = Layout(layouts.output)
        self.size = geometry.matrices.size

    def emit(self) -> None:
        g, t, b = self.g, self.t, self.b
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        self.data = self._argument("data", self.in_layout.physical_shape((t.n, t.c, t.h, t.w)))
        out_shape = self.out_layout.physical_shape(t.output_shape)
        self.tensors = [self._argument(f"tensor{i}", out_shape) for i in range(ep.tensor_count(t.steps))]
        weight_shape = (g.positions, g.channel_blocks, g.input_vectors * b.lanes, b.vectors, b.lanes)
        self.weight = self._argument("weight", weight_shape)
        channels = g.channel_blocks * b.vectors * b.lanes
        self.constants = [self._argument(f"channel{i}", (channels,)) for i in range(ep.channel_count(t.steps))]
        self.out = self._argument("out", out_shape)
        if g.blocks == 1:
            transformed = T.alloc_buffer((g.positions, g.input_panel), "float32")
            with T.parallel(0, g.register_tiles * g.input_vectors) as index, T.serial(0, b.tile) as i:
                self._input_tile(transformed, 0, index // g.input_vectors, i, index % g.input_vectors)
            with T.parallel(0, g.chunks) as chunk:
                self._chunk(transformed, 0, chunk)
            return
        with T.parallel(0, g.blocks) as block:
            transformed = T.alloc_buffer((g.positions, g.input_panel), "float32")
            with T.serial(0, g.register_tiles) as tb, T.serial(0, g.input_vectors) as co, T.serial(0, b.tile) as i:
                self._input_tile(transformed, block, tb, i, co)
            with T.serial(0, g.chunks) as chunk:
                self._chunk(transformed, block, chunk)

    def _argument(self, name: str, shape: tuple[int, ...]) -> Any:
        return T.arg(name, T.buffer(shape, "float32", layout=None))

    def _tile_position(self, block: Any, tb: Any, i: Any) -> tuple[Any, Any, Any]:
        """(image, tile row, tile column); tiles past the last repeat it, so that no garbage is computed with."""
        g = self.g
        tile = block * self.b.block + tb * self.b.tile + i
        if g.blocks * self.b.block > g.tiles or g.register_tiles * self.b.tile > self.b.block:
            tile = tirx.min(tile, g.tiles - 1)
        per_image = g.tile_rows * g.tile_columns
        tile = T.Bind(tile)
        return tile // per_image, tile % per_image // g.tile_columns, tile % g.tile_columns

    def _input_tile(self, transformed: Any, block: Any, tb: Any, i: Any, co: Any) -> None:
        """V for one tile and one vector of input channels."""
        g, t, b, size = self.g, self.t, self.b, self.size
        n, row, column = self._tile_position(block, tb, i)
        top, left = T.Bind(row * b.m - t.pad[0]), T.Bind(column * b.m - t.pad[1])
        program = straight_line(g.matrices.bt)

        def element(y: Any, x: Any, lane: Any) -> Any:
            return self.data[self._address(self.in_layout, n, co, top + y, left + x, lane)]

        def transform(read: Any) -> None:
            local = T.alloc_buffer((_slots(program), b.lanes), "float32", scope="local")
            with T.vectorized(0, b.lanes) as lane:
                patch = []
                for y in range(size):
                    for x in range(size):
                        T.buffer_store(local, read(y, x, lane), [y * size + x, lane])
                    patch.append([local[y * size + x, lane] for x in range(size)])
                result = _transform_2d(program, local, patch, lane, size * size)
                for y in range(size):
                    for x in range(size):
                        target = ((tb * g.input_vectors + co) * b.tile + i) * b.lanes + lane
                        T.buffer_store(transformed, result[y][x], [y * size + x, target])

        def copied() -> None:
            patch = T.alloc_buffer((size * size, b.lanes), "float32", scope="local")
            with T.serial(0, size) as y, T.serial(0, size) as x, T.vectorized(0, b.lanes) as lane:
                inside = tirx.all(top + y >= 0, top + y < t.h, left + x >= 0, left + x < t.w)
                if self._partial(self.in_layout, t.c):
                    inside = tirx.all(inside, co * b.lanes + lane < t.c)
                value = tirx.if_then_else(inside, element(y, x, lane), tirx.const(0.0, "float32"))
                T.buffer_store(patch, value, [y * size + x, lane])
            transform(lambda y, x, lane: patch[y * size + x, lane])

        conditions = [top >= 0, top + size <= t.h, left >= 0, left + size <= t.w]
        if self._partial(self.in_layout, t.c):
            conditions.append(co < g.input_vectors - 1)
        with T.If(tirx.all(*conditions)):
            with T.Then():
                transform(element)
            with T.Else():
                copied()

    def _partial(self, layout: Layout, channels: int) -> bool:
        """Whether the last vector of channels is cut off in ``layout``."""
        return not layout.block and channels % self.b.lanes != 0

    def _address(self, layout: Layout, n: Any, vector: Any, y: Any, x: Any, lane: Any) -> tuple[Any, ...]:
        if layout.block:
            return (n, vector, y, x, lane)
        return (n, y, x, vector * self.b.lanes + lane)

    def _chunk(self, transformed: Any, block: Any, chunk: Any) -> None:
        """Products and outputs of one chunk of output channels."""
        g, b = self.g, self.b
        products = T.alloc_buffer((b.chunk, g.positions, g.product_panel), "float32")
        extent = b.chunk
        if g.channel_blocks % b.chunk:
            extent = tirx.min(b.chunk, g.channel_blocks - chunk * b.chunk)
        with T.serial(0, g.positions) as a, T.serial(0, extent) as kb, T.serial(0, g.register_tiles) as tb:
            self._register_tile(transformed, products, a, chunk, kb, tb)
        with T.serial(0, extent) as kb, T.serial(0, g.register_tiles) as tb, T.serial(0, b.tile) as i:
            if g.register_tiles * b.tile > b.block or g.blocks * b.block > g.tiles:
                slot = tb * b.tile + i
                with T.If(tirx.all(slot < b.block, block * b.block + slot < g.tiles)), T.Then():
                    self._output_tile(products, block, chunk, kb, tb, i)
            else:
                self._output_tile(products, block, chunk, kb, tb, i)

    def _register_tile(self, transformed: Any, products: Any, a: Any, chunk: Any, kb: Any, tb: Any) -> None:
        g, b = self.g, self.b
        slots = [(i, v) for i in range(b.tile) for v in range(b.vectors)]
        acc = T.alloc_buffer((len(slots), b.lanes), "float32", scope="local")
        for slot in range(len(slots)):
            with T.vectorized(0, b.lanes) as lane:
                T.buffer_store(acc, tirx.const(0.0, "float32"), [slot, lane])
        with T.serial(0, g.input_vectors) as co, T.serial(0, b.lanes) as ci:
            for slot, (i, v) in enumerate(slots):
                with T.vectorized(0, b.lanes) as lane:
                    x = transformed[a, ((tb * g.input_vectors + co) * b.tile + i) * b.lanes + ci]
                    w = self.weight[a, chunk * b.chunk + kb, co * b.lanes + ci, v, lane]
                    T.buffer_store(acc, acc[slot, lane] + x * w, [slot, lane])
        for slot, (i, v) in enumerate(slots):
            with T.vectorized(0, b.lanes) as lane:
                target = ((tb * b.tile + i) * b.vectors + v) * b.lanes + lane
                T.buffer_store(products, acc[slot, lane], [kb, a, target])

    def _output_tile(self, products: Any, block: Any, chunk: Any, kb: Any, tb: Any, i: Any) -> None:
        """Outputs of one tile and one register tile's output channels."""
        g, t, b = self.g, self.t, self.b
        n, row, column = self._tile_position(block, tb, i)
        program = straight_line(g.matrices.at)
        with T.serial(0, b.vectors) as v:
            vector = T.Bind((chunk * b.chunk + kb) * b.vectors + v)

            def body() -> None:
                local = T.alloc_buffer((_slots(program), b.lanes), "float32", scope="local")
                results = []
                with T.vectorized(0, b.lanes) as lane:
                    patch = []
                    for y in range(self.size):
                        for x in range(self.size):
                            source = ((tb * b.tile + i) * b.vectors + v) * b.lanes + lane
                            T.buffer_store(local, products[kb, y * self.size + x, source], [y * self.size + x, lane])
                        patch.append([local[y * self.size + x, lane] for x in range(self.size)])
                    results = _transform_2d(program, local, patch, lane, self.size**2)
                    slots = [[int(value.indices[0]) for value in row] for row in results]
                for dy in range(b.m):
                    self._guarded(
                        row * b.m + dy < t.oh,
                        dy >= (t.oh - 1) % b.m + 1,
                        lambda dy=dy: self._store_row(local, slots[dy], n, vector, row * b.m + dy, column * b.m),
                    )

            self._guarded(vector < g.output_vectors, g.channel_blocks * b.vectors > g.output_vectors, body)

    def _guarded(self, condition: Any, needed: bool, body: Any) -> None:
        if needed:
            with T.If(condition), T.Then():
                body()
        else:
            body()

    def _store_row(self, local: Any, slots: list[int], n: Any, vector: Any, y: Any, left: Any) -> None:
        """Epilogue and store of one row of an output tile, as far as it lies in the map."""
        t, b = self.t, self.b

        def pixel(dx: int) -> None:
            with T.vectorized(0, b.lanes) as lane:
                k = vector * b.lanes + lane
                address = self._address(self.out_layout, n, vector, y, left + dx, lane)
                readers = [lambda *_, tensor=tensor: tensor[address] for tensor in self.tensors]
                constants: list[Any] = [lambda c, constant=constant: constant[c] for constant in self.constants]

                def store() -> None:
                    index = (n, k, y, left + dx)
                    value = ep.apply(local[slots[dx], lane], t.steps, constants, readers, index)
                    T.buffer_store(self.out, value, list(address))

                self._guarded(k < t.k, self._partial(self.out_layout, t.k), store)

        for dx in range(b.m):
            self._guarded(left + dx < t.ow, dx >= (t.ow - 1) % b.m + 1, lambda dx=dx: pixel(dx))


def prim_func(geometry: Geometry, layouts: Layouts) -> tvm.tirx.PrimFunc:
    """The kernel."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        _Emitter(geometry, layouts).emit()
    return builder.get()
