"""Pooling of the whole map to one pixel: one pass over the input with vector accumulators.

    NHWC       for n, tile of channel vectors:          parallel;  acc[tile] over all pixels
    NCHW<b>c   for n, block of channels:                parallel;  a few accumulators over the pixels
    NCHW       for n, channel:                          parallel;  a vector over the pixels, folded in registers

Several accumulators hide the latency of the addition; the kernel runs at the speed of the memory behind the input:
Zen 5, one core, 2048x7x7 138 GB/s in NCHW, 100 in NHWC, 118 in NCHW16c; 512x13x13 139, 139, 172.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

from te_kernels.generic import _tir
from te_kernels.machine import Machine
from te_kernels.pool._windows import combine, neutral, scaled
from te_kernels.task import PoolTask
from te_kernels.variant import Layouts, Reject, Variant, pad_channels

#: Additions in flight that hide their latency (3 to 4 cycles, two a cycle).
_IN_FLIGHT = 8


@dataclass(frozen=True)
class PoolGlobal(Variant):
    """Every layout. Knob: the layout."""

    name = "pool_global"
    family = "pool"
    title = "pooling of the whole map"
    task_type = PoolTask

    layout: str

    @classmethod
    def candidates(cls, task: PoolTask, machine: Machine) -> Iterator[Variant]:
        """One instance for each layout of the machine."""
        if not task.is_global:
            raise Reject(f"the window {task.r}x{task.s} is not the whole map {task.h}x{task.w}")
        for layout in machine.layouts:
            yield cls(layout)

    def layouts(self, task: PoolTask) -> Layouts:
        """The same layout everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: PoolTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Constants padded to whole blocks."""
        return pad_channels(params, _tir.padded_channels(self.layout, task.c))

    def prim_func(self, task: PoolTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        args = _tir.arguments(task, self.layouts(task), _tir.padded_channels(self.layout, task.c))
        kernel = {"NCHW": _maps, "NHWC": _pixels}.get(self.layout, _blocks)
        return kernel(task, args, machine)


def _maps(task: PoolTask, args: _tir.Arguments, machine: Machine) -> tvm.tirx.PrimFunc:
    pixels, data = task.h * task.w, args.data[0]

    def unit(channel: Any) -> Any:
        statements, value = _tir.reduced(
            pixels,
            machine.vector_lanes,
            lambda first, width: data.vector(channel * pixels + first, width),
            lambda a, b: combine(task, [a, b]),
            neutral(task).value,
        )
        return _tir.sequence([*statements, args.finish(scaled(task, value, task.h, task.w), channel, channel % task.c)])

    return args.prim_func(_tir.loop(task.n * task.c, unit, "u", _tir.worth_threads(task, machine)))


def _pixels(task: PoolTask, args: _tir.Arguments, machine: Machine) -> tvm.tirx.PrimFunc:
    pixels, lanes, data = task.h * task.w, machine.vector_lanes, args.data[0]
    tile = min(task.c, _IN_FLIGHT * lanes)
    if machine.threads > 1 and task.n * -(-task.c // tile) < machine.threads:
        tile = min(task.c, -(-task.c // (machine.threads * lanes)) * lanes)
    tiles = -(-task.c // tile)

    def unit(index: Any) -> Any:
        image = index // tiles
        first = _tir.clamped_start(index % tiles, tile, task.c, tiles * tile)
        acc, allocation = _tir.local("acc", tile)

        def pixel(p: Any) -> Any:
            source = (image * pixels + p) * task.c + first
            return _tir.contiguous(tile, lanes, lambda i, _: acc.store(i, combine(task, [acc[i], data[source + i]])))

        def finish(i: Any, _: Any) -> Any:
            return args.finish(scaled(task, acc[i], task.h, task.w), image * task.c + first + i, first + i)

        return _tir.sequence(
            [
                allocation,
                _tir.contiguous(tile, lanes, lambda i, _: acc.store(i, neutral(task))),
                _tir.loop(pixels, pixel, "p"),
                _tir.contiguous(tile, lanes, finish),
            ]
        )

    return args.prim_func(_tir.loop(task.n * tiles, unit, "u", _tir.worth_threads(task, machine)))


def _blocks(task: PoolTask, args: _tir.Arguments, machine: Machine) -> tvm.tirx.PrimFunc:
    pixels, lanes, data = task.h * task.w, machine.vector_lanes, args.data[0]
    block = int(args.out.buffer.shape[-1])
    slices = -(-task.c // block)
    ways = min(_IN_FLIGHT, pixels)
    together = ways * block  # consecutive pixels of a block are one run

    def unit(index: Any) -> Any:
        acc, allocation = _tir.local("acc", together)
        start = index * pixels * block

        def take(first: Any, count: int) -> Any:
            return _tir.contiguous(
                count, lanes, lambda i, _: acc.store(i, combine(task, [acc[i], data[start + first + i]]))
            )

        def fold(way: int) -> Any:
            return _tir.contiguous(
                block, lanes, lambda i, _: acc.store(i, combine(task, [acc[i], acc[way * block + i]]))
            )

        def finish(i: Any, _: Any) -> Any:
            return args.finish(scaled(task, acc[i], task.h, task.w), index * block + i, index % slices * block + i)

        statements = [
            allocation,
            _tir.contiguous(together, lanes, lambda i, _: acc.store(i, neutral(task))),
            _tir.loop(pixels // ways, lambda p: take(p * together, together), "p"),
        ]
        if pixels % ways:
            statements.append(take(_tir.int32(pixels // ways * together), pixels % ways * block))
        statements += [fold(way) for way in range(1, ways)]
        return _tir.sequence([*statements, _tir.contiguous(block, lanes, finish)])

    return args.prim_func(_tir.loop(task.n * slices, unit, "u", _tir.worth_threads(task, machine)))
