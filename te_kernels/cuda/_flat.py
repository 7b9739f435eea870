"""One thread for each run of stored output elements: the kernel behind everything that memory bounds.

    for run of ``vector`` stored elements of the output:          blockIdx, threadIdx
      acc[vector] = start
      for r in reduction:                                         serial; none for elementwise operators
        acc = combine(acc, term(index, r))
      out[run] = epilogue(finish(acc))

Neighbouring threads have neighbouring elements, so loads and stores of a layout that agrees with the output's are
coalesced. A vector is one 16-byte access: its elements must start at a multiple of it in every tensor, which the
caller vouches for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels.cuda._base import Arguments
from te_kernels.cuda._builder import block, guarded
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.task import Task
from te_kernels.variant import Layouts

_MOST_THREADS, _FEWEST_THREADS = 256, 64
#: Reductions up to this length are written out.
_UNROLLED = 32


@dataclass(frozen=True)
class Reduction:
    """``acc = combine(acc, term)`` over a grid of ``extents``, from ``start``; then ``finish(args, acc, index)``."""

    extents: tuple[int, ...]
    start: float
    combine: Callable[[Any, Any], Any]
    term: Callable[..., Any]
    finish: Callable[[Arguments, Any, tuple[Any, ...]], Any] = lambda args, acc, index: acc


def prim_func(
    task: Task, layouts: Layouts, machine: Gpu, value: Callable[..., Any] | Reduction, vector: int = 1,
    params: Sequence[tuple[tuple[int, ...], str]] = (),
) -> tvm.tirx.PrimFunc:  # fmt: skip
    """Kernel of ``task``: ``value(args, *index)`` in float32 at a logical index, or a reduction.

    ``index`` may lie in the padding lanes of a blocked output; what is computed there must be finite.
    """
    stored = Layout(layouts.output).physical_shape(task.output_shape)
    runs = prod(stored) // vector
    threads = threads_for(runs, machine)
    size = -(-runs // threads) * threads

    def exists(run: Any) -> list[Any]:
        """Conditions under which a run exists."""
        return [] if size == runs else [run < runs]

    def logical(run: Any, lane: Any) -> tuple[Any, ...]:
        """Logical index of an element; only the innermost stored axis depends on the lane."""
        axes = [run // (prod(stored[axis + 1 :]) // vector) for axis in range(len(stored) - 1)]
        axes = axes[:1] + [at % size for at, size in zip(axes[1:], stored[1:], strict=False)]
        last = run % (stored[-1] // vector) if len(stored) > 1 else run
        return Layout(layouts.output).logical_index(*axes, last * vector + lane if vector > 1 else last)

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        args = Arguments(task, layouts, machine.dtype, params)
        if isinstance(value, Reduction):
            acc = T.sblock_alloc_buffer((size, vector), "float32", scope="local")
            with block("acc", size, vector, reductions=value.extents) as (run, lane, *reduced):
                with T.init():
                    T.buffer_store(acc, tirx.const(value.start, "float32"), [run, lane])
                term = value.term(args, logical(run, lane), *reduced)
                if exists(run):
                    term = tirx.if_then_else(exists(run)[0], term, tirx.const(0.0, "float32"))
                T.buffer_store(acc, value.combine(acc[run, lane], term), [run, lane])
            with block("out", size, vector) as (run, lane), guarded(exists(run)):
                index = logical(run, lane)
                args.store(value.finish(args, acc[run, lane], index), *index)
        else:
            with block("out", size, vector) as (run, lane), guarded(exists(run)):
                args.store(value(args, *logical(run, lane)), *logical(run, lane))
    sch = tvm.s_tir.Schedule(builder.get())
    every, lanes = sch.get_loops(sch.get_sblock("out"))
    blocks, thread = sch.split(every, [None, threads])
    sch.bind(blocks, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    sch.vectorize(lanes)
    if isinstance(value, Reduction):
        acc_block = sch.get_sblock("acc")
        sch.compute_at(acc_block, thread, preserve_unit_loops=True)
        _, _, _, lanes, *reductions = sch.get_loops(acc_block)
        sch.reorder(*reductions, lanes)
        sch.vectorize(lanes)
        if prod(value.extents) <= _UNROLLED:
            for loop in reductions:
                sch.unroll(loop)
        sch.decompose_reduction(acc_block, reductions[0])
    return sch.mod["main"]


def threads_for(runs: int, machine: Gpu) -> int:
    """Threads of a block: fewer where there are few runs, so that every multiprocessor gets some."""
    threads = _MOST_THREADS
    while threads > _FEWEST_THREADS and runs < 2 * threads * machine.multiprocessors:
        threads //= 2
    return threads
