"""Kernels that measure the machine, not a network: FMA rate from registers, read and copy bandwidth.

They are built by the same compiler as all others, so the rates they reach are rates that the others could reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.target import codegen
from tvm.tirx.script import builder as T

from te_kernels.generic import _tir
from te_kernels.machine import Machine
from te_kernels.prefetch import CACHE_LINE_FLOATS

#: Vectors read or copied in one iteration: enough loads in flight, few enough registers for every ISA.
_UNROLL = 8


def fma(machine: Machine, iterations: int, threads: int = 1) -> tuple[tvm.tirx.PrimFunc, int]:
    """``acc = acc * x + y`` on independent accumulators that never leave their registers; (kernel, FLOPs).

    Arguments: ``factors`` (x, then y: two vectors), ``out`` (one vector for each accumulator of each thread). A chain
    advances once in the latency of an FMA (4 or 5 cycles), two units start two each cycle: from 10 accumulators on,
    both are busy. Several threads do the same work each.
    """
    lanes, chains = machine.vector_lanes, machine.vector_registers - 4
    factors, out = _tir.argument("factors", (2 * lanes,)), _tir.argument("out", (threads * chains * lanes,))
    acc, allocation = _tir.local("acc", chains * lanes)
    x, y = (tirx.Var(name, f"float32x{lanes}") for name in ("x", "y"))
    every = [_tir.int32(chain * lanes) for chain in range(chains)]

    def advance(_: Any) -> Any:
        return _tir.sequence([acc.store(at, acc.vector(at, lanes) * x + y) for at in every])

    def work(thread: Any) -> Any:
        base = thread * (chains * lanes)
        return _tir.sequence(
            [
                tirx.Bind(x, factors.vector(_tir.int32(0), lanes)),
                tirx.Bind(y, factors.vector(_tir.int32(lanes), lanes)),
                allocation,
                *[acc.store(at, out.vector(base + at, lanes)) for at in every],
                _tir.loop(iterations, advance, "i"),
                *[out.store(base + at, acc.vector(at, lanes)) for at in every],
            ]
        )

    body = _tir.loop(threads, work, "thread", parallel=True)
    return _tir.prim_func([factors, out], body), 2 * chains * lanes * iterations * threads


def handoff(threads: int, rounds: int) -> tvm.tirx.PrimFunc:
    """Threads wake, read what a neighbour wrote, write, and meet again: ``2 * rounds`` parallel loops of no work.

    Arguments: ``a``, ``b``, a cache line for each thread. A virtual machine's CPUs may lie under one last-level cache
    now and under two a second later; a parallel loop then costs four times as much, and no FMA rate shows it.
    """
    line = CACHE_LINE_FLOATS
    a, b = (_tir.argument(name, (threads * line,)) for name in "ab")

    def step(source: Any, target: Any) -> Any:
        def work(thread: Any) -> Any:
            neighbour = tirx.floormod(thread + 1, _tir.int32(threads))
            return target.store(thread * line, source.vector(neighbour * line, line))

        return _tir.loop(threads, work, "thread", parallel=True)

    body = _tir.loop(rounds, lambda _: _tir.sequence([step(a, b), step(b, a)]), "r")
    return _tir.prim_func([a, b], body)


def handoff_arguments(threads: int) -> list[tvm.runtime.Tensor]:
    """The arguments of :func:`handoff`."""
    return [tvm.runtime.tensor(np.ones(threads * CACHE_LINE_FLOATS, np.float32)) for _ in range(2)]


def read(machine: Machine, elements: int, passes: int, streams: int = 1) -> tvm.tirx.PrimFunc:
    """Adds up ``elements`` float32 (a multiple of 128), ``passes`` times, in 1, 2, 4 or 8 parts side by side.

    Arguments: the array, 8 vectors of sums.
    """
    lanes = machine.vector_lanes
    data, out = _tir.argument("data", (elements,)), _tir.argument("out", (_UNROLL * lanes,))
    acc, allocation = _tir.local("acc", _UNROLL * lanes)
    part, width = elements // streams, _UNROLL // streams * lanes
    every = [_tir.int32(u * lanes) for u in range(_UNROLL)]
    places = [stream * part + first for stream in range(streams) for first in range(0, width, lanes)]

    def step(i: Any) -> Any:
        vectors = [data.vector(i * width + place, lanes) for place in places]
        return _tir.sequence([acc.store(at, acc.vector(at, lanes) + x) for at, x in zip(every, vectors, strict=True)])

    body = [
        allocation,
        *[acc.store(at, out.vector(at, lanes)) for at in every],
        _tir.loop(passes, lambda _: _tir.loop(part // width, step, "i"), "p"),
        *[out.store(at, acc.vector(at, lanes)) for at in every],
    ]
    return _tir.prim_func([data, out], _tir.sequence(body))


def copy(machine: Machine, elements: int, passes: int) -> tvm.tirx.PrimFunc:
    """``to = factor * from`` over ``elements`` float32 (a multiple of 128), ``passes`` times.

    Arguments: ``from``, one vector of factors, ``to``. The factor keeps the compiler from calling memcpy, whose
    stores pass the caches by when arrays are large; a kernel's do not.
    """
    lanes = machine.vector_lanes
    source, factors, target = (
        _tir.argument(name, (size,)) for name, size in (("from", elements), ("factors", lanes), ("to", elements))
    )
    factor = tirx.Var("factor", f"float32x{lanes}")

    def step(i: Any) -> Any:
        offsets = [i * (_UNROLL * lanes) + u * lanes for u in range(_UNROLL)]
        return _tir.sequence([target.store(at, source.vector(at, lanes) * factor) for at in offsets])

    body = [
        tirx.Bind(factor, factors.vector(_tir.int32(0), lanes)),
        _tir.loop(passes, lambda _: _tir.loop(elements // (_UNROLL * lanes), step, "i"), "p"),
    ]
    return _tir.prim_func([source, factors, target], _tir.sequence(body))


def flush(target: tvm.target.Target) -> tvm.tirx.PrimFunc:
    """Writes every cache line of a float32 vector of any length back to memory and drops it (x86).

    With ``clflushopt`` where there is one, whose flushes overlap: ``clflush`` waits for each line, 50 to 100 ns on
    Emerald Rapids, where the other takes 4.
    """
    overlapping = codegen.target_has_features("clflushopt", target)
    instruction = "llvm.x86.clflushopt" if overlapping else "llvm.x86.sse2.clflush"
    with IRBuilder() as builder, T.prim_func():
        data = T.arg("data", T.buffer((T.int64(),), "float32"))
        with T.serial(0, -(-data.shape[0] // CACHE_LINE_FLOATS)) as line:
            address = tirx.address_of(data[line * CACHE_LINE_FLOATS])
            T.evaluate(tirx.call_llvm_intrin("void", instruction, address))
        T.evaluate(tirx.call_llvm_intrin("void", "llvm.x86.sse2.mfence"))  # what follows must not find them
    return builder.get()
