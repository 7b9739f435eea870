"""Fully connected layer: ``y[n, k] = sum_f W[k, f] x[n, f]``, weights streamed once in the order they are stored.

Weights are packed ``[K/kb][F][kb]``, ``kb = vectors * V`` outputs to a block, with ``f`` in the order in which the
input's layout stores it (zero in its padding lanes), so that the input is read in any layout without a transform:

    for block of K (times part of F):                   parallel
      for tile of rows n:
        acc[rows, streams, kb] = 0
        for f in each of ``streams`` runs of F:  acc[n, stream, :] += x[n, f] * W[block, f, :]
        store(epilogue(sum of streams))

At batch 1 nothing is reused, so time is the weights' bytes over memory bandwidth; what the kernel owes is long streams
to each thread and enough accumulators (``rows * streams * vectors >= 8``) to hide the latency of the multiply-adds. How
many streams keep memory busiest is the processor's business: one prefetcher that runs far ahead is enough on Zen 5,
while an Emerald Rapids follows each stream by a page at most and fetches from eight half as much again as from one.
Batches reuse each weight vector for ``rows`` multiply-adds. When K has too few blocks for the threads, F is cut into
``parts``, summed in a second pass.

Zen 5, one core, batch 1: 86-106 GB/s of weights out of L3 (2048->1000; numpy's OpenBLAS 84-94), 35-41 out of memory
(9216->4096; OpenBLAS 27-33). Batch 8: 2048->1000 at 90 % of the multiply-add peak, 4096->4096 at 40 % (25 GB/s).
Emerald Rapids out of memory, 1 and 8 streams: 9216->4096 16.0 and 21.5 GB/s, 4096->1000 13.3 and 19.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from te_kernels.generic import _tir
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import DenseTask
from te_kernels.tiling import even_share
from te_kernels.variant import Layouts, Variant

#: Multiply-adds in flight that hide their latency: 2 pipes x 4 cycles.
_IN_FLIGHT = 8
#: Vector multiply-adds in the time in which L3 delivers one line (120 GB/s beside 250 GFLOP/s).
_L3_LINE_FMAS = 4
#: More streams than these gain nothing; fewer are what wide blocks have as well.
_MOST_STREAMS, _FEWEST_STREAMS = 8, 3
#: Weights shorter than this come in microseconds, however they are read.
_LONG_BYTES = 256 << 10


@dataclass(frozen=True)
class Dense(Variant):
    """Any layout in, row-major out.

    Knobs: the layout, vectors of one block, rows of the register tile, parts of F, streams of one block's weights.
    """

    name = "dense"
    family = "dense"
    title = "fully connected, packed weights"
    task_type = DenseTask

    layout: str
    vectors: int
    lanes: int
    rows: int
    parts: int
    streams: int

    @classmethod
    def candidates(cls, task: DenseTask, machine: Machine) -> Iterator[Variant]:
        """For each layout the widest block that wastes little and leaves every thread its share, and many streams."""
        lanes = machine.vector_lanes
        needed, batch = -(-task.k // lanes), task.data_shape[0]
        rows_of = {
            v: even_share(batch, max(1, (machine.vector_registers - v - 1) // v))
            for v in (8, 6, 4, 3, 2, 1)
            if v <= needed and 2 * v < machine.vector_registers
        }

        def cost(vectors: int) -> float:
            """Vectors computed by the busiest thread, weighted by loads (two a cycle) beside the multiply-adds."""
            blocks = -(-needed // vectors)
            turns = -(-blocks // machine.threads) if blocks > 1 else 1 / machine.threads  # one block: parts of F
            loads = 1 / rows_of[vectors] + 1 / vectors
            # every further tile of rows reads the block's weights again, from L3 if L2 cannot hold them
            again = -(-batch // rows_of[vectors]) - 1
            if 4 * task.features * vectors * lanes <= machine.l2_bytes // 2:
                again = 0
            return turns * vectors * (max(1.0, loads) + again * _L3_LINE_FMAS / batch) + 0.01 * loads

        vectors = min(rows_of, key=cost)
        rows = rows_of[vectors]
        parts = machine.threads if -(-needed // vectors) == 1 and _tir.worth_threads(task, machine) else 1
        shapes = [(vectors, rows, parts, max(1, _IN_FLIGHT // (rows * vectors))), *_many_streams(task, machine)]
        for layout in (*machine.layouts, "plain"):
            if Layout(layout).reason_cannot_hold(task.data_shape) is None:
                features = _features(task, layout)
                for v, r, p, s in dict.fromkeys(shapes):
                    yield cls(layout, v, lanes, r, min(p, features), min(s, features))

    def layouts(self, task: DenseTask) -> Layouts:
        """Row-major rows out; the epilogue's tensors are such rows as well."""
        return Layouts((self.layout,) + ("plain",) * (len(task.input_shapes) - 1), "plain")

    def pack(self, task: DenseTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights to ``[K/kb, F, kb]`` over stored features; constants unchanged."""
        layout, width = Layout(self.layout), self.vectors * self.lanes
        weight = params[0].reshape(task.k, *task.data_shape[1:])
        stored = layout.pack(weight, 0.0) if len(task.data_shape) == 4 else weight
        blocks = -(-task.k // width)
        padded = np.zeros((blocks * width, _features(task, self.layout)), np.float32)
        padded[: task.k] = stored.reshape(task.k, -1)
        packed = np.ascontiguousarray(padded.reshape(blocks, width, -1).transpose(0, 2, 1))
        return [packed, *(np.asarray(p, np.float32) for p in params[1:])]

    def workspace_bytes(self, task: DenseTask, threads: int = 1) -> int:
        """Partial sums of the parts of F."""
        width = self.vectors * self.lanes
        return 4 * self.parts * task.data_shape[0] * -(-task.k // width) * width if self.parts > 1 else 0

    def prim_func(self, task: DenseTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        batch, features = task.data_shape[0], _features(task, self.layout)
        width = self.vectors * self.lanes
        blocks = -(-task.k // width)
        args = _tir.arguments(task, self.layouts(task))
        weight = _tir.argument("weight", (blocks, features, width))
        parallel = _tir.worth_threads(task, machine)
        share = -(-features // self.parts)

        def store(block: Any, first_row: Any, rows: int, acc: _tir.Argument) -> Any:
            def row(i: int) -> Any:
                def columns(count: int) -> Any:
                    def element(j: Any, _: Any) -> Any:
                        k = block * width + j
                        return args.finish(acc[i * width + j], (first_row + i) * task.k + k, k)

                    return _tir.contiguous(count, self.lanes, element)

                if task.k % width == 0:
                    return columns(width)
                if blocks == 1:
                    return columns(task.k)
                return tirx.IfThenElse(block < blocks - 1, columns(width), columns(task.k % width))

            return _tir.sequence([row(i) for i in range(rows)])

        if self.parts == 1:

            def unit(block: Any) -> Any:
                def tile(first_row: Any, rows: int) -> Any:
                    acc, statements = self._products(args.data[0], weight, block, first_row, rows, (0, features), task)
                    return _tir.sequence([*statements, store(block, first_row, rows, acc)])

                return self._over_rows(batch, tile)

            body = _tir.loop(blocks, unit, "kb", parallel)
        else:
            partial = _tir.Argument(
                *[tirx.decl_buffer((self.parts * batch * blocks * width,), "float32", "partial")] * 2
            )

            def offset(part: Any, block: Any, row: Any) -> Any:
                return ((part * blocks + block) * batch + row) * width

            def part_of_block(index: Any) -> Any:
                part, block = index // blocks, index % blocks
                start = part * share

                def tile(first_row: Any, rows: int) -> Any:
                    span = (start, share if features % share == 0 else tirx.min(_tir.int32(share), features - start))
                    acc, statements = self._products(args.data[0], weight, block, first_row, rows, span, task)
                    moves = [
                        partial.store(
                            offset(part, block, first_row + i) + v * self.lanes,
                            acc.vector(_tir.int32(i * width + v * self.lanes), self.lanes),
                        )
                        for i in range(rows)
                        for v in range(self.vectors)
                    ]
                    return _tir.sequence([*statements, *moves])

                return self._over_rows(batch, tile)

            def total(index: Any) -> Any:
                block, row = index // batch, index % batch
                acc, allocation = _tir.local("sum", width)

                def add(part: Any) -> Any:
                    return _tir.contiguous(
                        width, self.lanes, lambda j, _: acc.store(j, acc[j] + partial[offset(part, block, row) + j])
                    )

                zero = _tir.contiguous(width, self.lanes, lambda j, _: acc.store(j, _tir.float32(0.0)))
                return _tir.sequence([allocation, zero, _tir.loop(self.parts, add, "part"), store(block, row, 1, acc)])

            body = _tir.sequence(
                [
                    tirx.AllocBuffer(partial.buffer),
                    _tir.loop(self.parts * blocks, part_of_block, "u", parallel),
                    _tir.loop(blocks * batch, total, "t"),
                ]
            )
        arguments = [args.data[0], *args.tensors, weight, *args.constants, args.out]
        return _tir.prim_func(arguments, body)

    def _over_rows(self, batch: int, tile: Any) -> Any:
        """``tile(first row, rows)`` over the batch."""
        whole, rest = divmod(batch, self.rows)
        statements = [_tir.loop(whole, lambda t: tile(t * self.rows, self.rows), "n")]
        if rest:
            statements.append(tile(_tir.int32(whole * self.rows), rest))
        return _tir.sequence(statements)

    def _products(
        self,
        data: _tir.Argument,
        weight: _tir.Argument,
        block: Any,
        first_row: Any,
        rows: int,
        span: tuple[Any, Any],
        task: DenseTask,
    ) -> tuple[_tir.Argument, list[Any]]:
        """Accumulators ``[rows, kb]`` of a span (first, count) of features, and the statements that fill them."""
        start, count = span
        features, lanes = _features(task, self.layout), self.lanes
        width = self.vectors * lanes
        enough = max(self.streams, _IN_FLIGHT // (rows * self.vectors))  # the last tile may have fewer rows
        streams = enough if isinstance(count, int) else 1
        acc, allocation = _tir.local("acc", rows * streams * width)

        def at(stream: int, row: int, vector: int) -> Any:
            return _tir.int32((stream * rows + row) * width + vector * lanes)

        def feature(f: Any, stream: int) -> list[Any]:
            statements = []
            for row in range(rows):
                x = tirx.Broadcast(data[(first_row + row) * features + f], lanes)
                for v in range(self.vectors):
                    w = weight.vector((block * features + f) * width + v * lanes, lanes)
                    where = at(stream, row, v)
                    statements.append(acc.store(where, acc.vector(where, lanes) + x * w))
            return statements

        zeros = tirx.Broadcast(_tir.float32(0.0), lanes)
        everywhere = [(stream, row, v) for stream in range(streams) for row in range(rows) for v in range(self.vectors)]
        statements = [allocation, *(acc.store(at(*place), zeros) for place in everywhere)]

        def turn(t: Any) -> Any:
            run = count // streams
            return _tir.sequence([s for i in range(streams) for s in feature(start + t + i * run, i)])

        if isinstance(count, int):
            if count >= streams:
                statements.append(_tir.loop(count // streams, turn, "f"))
            for stream in range(count % streams):
                statements += feature(start + (count // streams * streams + stream), stream)
        else:
            statements.append(_tir.loop(count, turn, "f"))
        for stream, row, v in everywhere:
            if stream:
                where = at(0, row, v)
                statements.append(acc.store(where, acc.vector(where, lanes) + acc.vector(at(stream, row, v), lanes)))
        return acc, statements


def _features(task: DenseTask, layout: str) -> int:
    """Stored features of one row, padding lanes included."""
    return int(np.prod(Layout(layout).physical_shape(task.data_shape)[1:]))


def _many_streams(task: DenseTask, machine: Machine) -> Iterator[tuple[int, int, int, int]]:
    """(vectors, rows, parts, streams) that read the weights in as many streams as registers allow, at most eight.

    Only where they are read once (all rows in one tile), are long, and give every thread whole blocks of outputs.
    """
    batch, available = task.data_shape[0], machine.vector_registers - 4
    if 4 * task.k * task.features < _LONG_BYTES:
        return
    for vectors in (2, 1):
        streams = min(_MOST_STREAMS, available // (batch * vectors))
        blocks = -(-task.k // (vectors * machine.vector_lanes))
        if streams >= _FEWEST_STREAMS and blocks >= 2 * machine.threads:
            yield vectors, batch, 1, streams
            return
