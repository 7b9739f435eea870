"""Builders for kernels written directly in TIR: flat views of the arguments, loops, vectors, shuffles.

Kernels that only move or combine whole runs of memory are built from TIR nodes rather than scheduled from TE: ragged
runs split into vectors and shorter vectors, tiles moved back to end at a border, and in-register transposes are what
no schedule primitive expresses. Offsets are in elements of the flattened tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
from tvm import s_tir, tirx

from te_kernels import epilogue as ep
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import Task
from te_kernels.variant import Layouts

#: Below this many bytes read and written, waking the other threads costs more than they save.
_PARALLEL_BYTES = 256 << 10
#: Runs of at most this many vectors are written out, so that scratch buffers have constant indices: registers.
_UNROLLED = 4


def int32(value: int) -> Any:
    """An int32 constant."""
    return tirx.const(value, "int32")


def float32(value: float) -> Any:
    """A float32 constant."""
    return tirx.const(value, "float32")


def shuffle(vectors: list[Any], lanes: Sequence[int]) -> Any:
    """The vector of the numbered lanes of the concatenated ``vectors``."""
    return tirx.Shuffle(vectors, [int32(lane) for lane in lanes])


def loop(extent: Any, body: Callable[[Any], Any], name: str, parallel: bool = False, start: Any = 0) -> Any:
    """``for name in range(extent): body(start + name)``; no loop when the extent is 1.

    The loop itself starts at 0: TVM 0.27 simplifies bounds of inner loops wrongly under a loop that starts elsewhere.
    """
    if isinstance(extent, int) and extent == 1:
        return body(int32(start) if isinstance(start, int) else start)
    variable = tirx.Var(name, "int32")
    kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL
    moved = variable if isinstance(start, int) and start == 0 else variable + start
    return tirx.For(variable, int32(0), int32(extent) if isinstance(extent, int) else extent, kind, body(moved))


def vectorized(lanes: int, body: Callable[[Any], Any]) -> Any:
    """``body`` of each lane, as one vector operation."""
    if lanes == 1:
        return body(int32(0))
    lane = tirx.Var("lane", "int32")
    return tirx.For(lane, int32(0), int32(lanes), tirx.ForKind.VECTORIZED, body(lane))


def contiguous(extent: int, lanes: int, body: Callable[[Any, Any], Any], parallel: bool = False) -> Any:
    """``body(i, lane)`` for ``i`` in ``range(extent)``: in vectors of ``lanes``, the remainder in shorter vectors."""
    statements = []
    whole = extent // lanes
    if whole <= _UNROLLED and not parallel:
        statements += [vectorized(lanes, lambda lane, t=t: body(t * lanes + lane, lane)) for t in range(whole)]  # type: ignore[misc]
    else:
        statements.append(
            loop(whole, lambda t: vectorized(lanes, lambda lane: body(t * lanes + lane, lane)), "v", parallel)
        )
    for first, width in pieces(extent - whole * lanes):
        offset = whole * lanes + first
        statements.append(vectorized(width, lambda lane, offset=offset: body(offset + lane, lane)))  # type: ignore[misc]
    return sequence(statements)


def pieces(count: int) -> list[tuple[int, int]]:
    """``count`` lanes as runs of powers of two: (first, width)."""
    runs, first = [], 0
    while first < count:
        width = power_of_two_at_most(count - first)
        runs.append((first, width))
        first += width
    return runs


def sequence(statements: list[Any]) -> Any:
    """All statements as one."""
    if not statements:
        return tirx.Evaluate(int32(0))
    return tirx.SeqStmt(statements) if len(statements) > 1 else statements[0]


def clamped_start(tile: Any, lanes: int, extent: int, covered: int) -> Any:
    """First element of a tile; where all tiles cover more than ``extent``, the last ones are moved back to its end."""
    return tile * lanes if covered <= extent else tirx.min(tile * lanes, int32(extent - lanes))


def power_of_two_at_most(value: int) -> int:
    """The largest power of two not above ``value``."""
    return 1 << (value.bit_length() - 1)


def worth_threads(task: Task, machine: Machine) -> bool:
    """Whether the task moves enough bytes to share among threads."""
    return machine.threads > 1 and task.bytes_moved >= _PARALLEL_BYTES


@dataclass(frozen=True)
class Argument:
    """A kernel argument (or local buffer) and its flat view."""

    buffer: Any
    flat: Any

    def __getitem__(self, offset: Any) -> Any:
        """The element at a flat offset."""
        return tirx.BufferLoad(self.flat, [offset])

    def vector(self, offset: Any, lanes: int) -> Any:
        """``lanes`` elements from a flat offset."""
        return self.flat.vload([offset], f"float32x{lanes}" if lanes > 1 else "float32")

    def store(self, offset: Any, value: Any) -> Any:
        """Statement that stores a scalar or a vector at a flat offset."""
        return self.flat.vstore([offset], value)


def argument(name: str, shape: Sequence[int]) -> Argument:
    """A float32 kernel argument of the given physical shape."""
    return Argument(
        tirx.decl_buffer(tuple(shape), "float32", name=name),
        tirx.decl_buffer((prod(shape),), "float32", name=f"{name}_flat"),
    )


def local(name: str, elements: int) -> tuple[Argument, Any]:
    """A scratch buffer and the statement that allocates it (to precede its uses in the same block)."""
    buffer = tirx.decl_buffer((elements,), "float32", name=name, scope="local")
    return Argument(buffer, buffer), tirx.AllocBuffer(buffer)


def bind(value: Any, lanes: int, statements: list[Any]) -> Any:
    """A variable for a scalar or vector that is used more than once; ``statements`` gets what computes it."""
    variable = tirx.Var(f"bound{len(statements)}", f"float32x{lanes}" if lanes > 1 else "float32")
    statements.append(tirx.Bind(variable, value))
    return variable


def reduced(
    extent: int,
    lanes: int,
    vector: Callable[[Any, int], Any],
    combine: Callable[[Any, Any], Any],
    initial: float,
) -> tuple[list[Any], Any]:
    """Reduction of a run: the statements that compute it, and its value.

    ``vector(first, width)`` is the value of ``width`` elements. Whole vectors are accumulated, then folded by halves,
    and each power-of-two piece of the remainder joins when the fold has reached its width: all in registers. Store the
    value before a vectorised loop uses it: TVM would substitute its shuffles, which it cannot vectorise.
    """
    statements: list[Any] = []

    whole = extent // lanes
    remainder = {width: whole * lanes + first for first, width in pieces(extent - whole * lanes)}
    value, width = None, lanes
    if whole > 1:
        partial, allocation = local("partial", lanes)
        zero = int32(0)
        start = tirx.Broadcast(float32(initial), lanes)

        def take(t: Any) -> Any:
            return partial.store(zero, combine(partial.vector(zero, lanes), vector(t * lanes, lanes)))

        statements += [allocation, partial.store(zero, start), loop(whole, take, "t")]
        value = bind(partial.vector(zero, lanes), lanes, statements)
    elif whole:
        value = bind(vector(int32(0), lanes), lanes, statements)
    while width > 1:
        width //= 2
        if value is not None:
            low, high = shuffle([value], range(width)), shuffle([value], range(width, 2 * width))
            value = bind(combine(low, high), width, statements)
        if width in remainder:
            piece = vector(int32(remainder[width]), width)
            value = bind(piece if value is None else combine(value, piece), width, statements)
    return statements, value


def prim_func(arguments: list[Argument], body: Any) -> tvm.tirx.PrimFunc:
    """The function of the given arguments around ``body``."""
    views = [tirx.DeclBuffer(a.flat, data=a.buffer.data) for a in arguments]
    # a root block, without which Relax refuses to look at the function
    root = s_tir.SBlock([], [], [], "root", tirx.SeqStmt([*views, body]))
    realized = s_tir.SBlockRealize([], tirx.const(True, "bool"), root)
    func = tirx.PrimFunc([a.buffer for a in arguments], realized)
    return func.with_attr("global_symbol", "main").with_attr("tirx.noalias", True).with_attr("s_tir", True)


@dataclass(frozen=True)
class Arguments:
    """The arguments of a kernel with a fused epilogue, in the order every variant keeps."""

    task: Task
    data: list[Argument]
    tensors: list[Argument]
    constants: list[Argument]
    out: Argument

    def finish(self, value: Any, offset: Any, channel: Any) -> Any:
        """Statement that stores ``value`` at a flat offset of the output, after the epilogue."""
        readers = [lambda _c, a=a: a[channel] for a in self.constants]
        others = [lambda *_i, a=a: a[offset] for a in self.tensors]
        return self.out.store(offset, ep.apply(value, self.task.steps, readers, others, (0, channel)))

    def prim_func(self, body: Any) -> tvm.tirx.PrimFunc:
        """The function around ``body``."""
        return prim_func([*self.data, *self.tensors, *self.constants, self.out], body)


def arguments(task: Task, layouts: Layouts, padded_channels: int = 0) -> Arguments:
    """Arguments of ``task`` in ``layouts``; channel constants have ``padded_channels`` elements if that is given."""
    shapes = [Layout(name).physical_shape(s) for name, s in zip(layouts.inputs, task.input_shapes, strict=True)]
    count = len(shapes) - ep.tensor_count(task.steps)
    constants = [
        argument(f"channel{i}", (padded_channels or task.output_shape[1],)) for i in range(ep.channel_count(task.steps))
    ]
    return Arguments(
        task,
        [argument(f"data{i}", shape) for i, shape in enumerate(shapes[:count])],
        [argument(f"tensor{i}", shape) for i, shape in enumerate(shapes[count:])],
        constants,
        argument("out", Layout(layouts.output).physical_shape(task.output_shape)),
    )


def padded_channels(layout: str, channels: int) -> int:
    """Channels that the blocked loops of ``layout`` touch."""
    block = Layout(layout).block
    return -(-channels // block) * block if block else channels
