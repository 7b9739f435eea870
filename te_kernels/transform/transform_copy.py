"""Layout transforms between NHWC and NCHW<b>c: copies of runs of ``b`` channels, which are contiguous on both sides.

    for n, block of pixels:                             parallel
      for channel block co:
        for pixel in block:
          copy b floats                                 vectorised

The channel blocks of a short run of pixels follow each other, so the NHWC side is read or written in whole cache
lines while they are in L1, and each channel block is a stream of its own. The ragged last block is loaded, or stored,
under a lane mask; its padding is written as zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from te_kernels.generic import _tir
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import TransformTask
from te_kernels.tiling import even_share
from te_kernels.transform import _registers
from te_kernels.variant import Layouts, Reject, Variant


@dataclass(frozen=True)
class TransformCopy(Variant):
    """NHWC <-> NCHW<b>c. Knobs: lanes of one copy, pixels in a block."""

    name = "transform_copy"
    family = "transform"
    title = "layout transform by copying runs of channels"
    task_type = TransformTask
    relative_error = 0.0

    lanes: int
    pixels_in_block: int

    @classmethod
    def candidates(cls, task: TransformTask, machine: Machine) -> Iterator[Variant]:
        """One instance: the widest vector that divides the channel block."""
        block = Layout(task.source).block or Layout(task.destination).block
        if {task.source, task.destination} != {"NHWC", f"NCHW{block}c"}:
            raise Reject(f"{task.source} and {task.destination} do not both store runs of channels")
        lanes = next(lanes for lanes in (machine.vector_lanes, 8, 4, 2, 1) if block % lanes == 0)
        if lanes == 1 or lanes > machine.vector_lanes:
            raise Reject(f"a block of {block} channels is not a whole number of vectors")
        _, c, h, w = task.shape
        limit = max(1, min(16, machine.l1_bytes // 4 // (4 * c)))
        yield cls(lanes, even_share(h * w, limit))

    def layouts(self, task: TransformTask) -> Layouts:
        """The task's own."""
        return Layouts((task.source,), task.destination)

    def prim_func(self, task: TransformTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        n, c, h, w = task.shape
        pixels, lanes = h * w, self.lanes
        to_blocked = task.source == "NHWC"
        block = Layout(task.destination if to_blocked else task.source).block
        whole, remainder = divmod(c, block)
        slices = -(-c // block)
        pixel_blocks = -(-pixels // self.pixels_in_block)
        covered = pixel_blocks * self.pixels_in_block
        args = _tir.arguments(task, self.layouts(task))

        def run(image: Any, slice_: Any, pixel: Any, valid: int) -> Any:
            """One run of a block, the first ``valid`` channels of which exist."""
            nhwc = (image * pixels + pixel) * c + slice_ * block
            blocked = ((image * slices + slice_) * pixels + pixel) * block
            emitter = _registers.Emitter()
            for first in range(0, block, lanes):
                self._copy(args, emitter, to_blocked, nhwc + first, blocked + first, valid - first)
            return emitter.block()

        def unit(index: Any) -> Any:
            image, pixel_block = index // pixel_blocks, index % pixel_blocks

            def over_pixels(slice_: Any, valid: int) -> Any:
                def at(i: Any) -> Any:
                    first = _tir.clamped_start(pixel_block, self.pixels_in_block, pixels, covered)
                    return run(image, slice_, first + i, valid)

                return _tir.loop(self.pixels_in_block, at, "p")

            emitter = _registers.Emitter()
            if whole:
                emitter.emit(_tir.loop(whole, lambda co: over_pixels(co, block), "co"))
            if remainder:
                emitter.emit(over_pixels(_tir.int32(whole), remainder))
            return emitter.block()

        return args.prim_func(_tir.loop(n * pixel_blocks, unit, "u", _tir.worth_threads(task, machine)))

    def _copy(
        self, args: _tir.Arguments, emitter: _registers.Emitter, to_blocked: bool, nhwc: Any, blocked: Any, valid: int
    ) -> None:
        """One vector of which ``valid`` lanes exist (at most 0: none)."""
        lanes = self.lanes
        if valid >= lanes:
            source, destination = (nhwc, blocked) if to_blocked else (blocked, nhwc)
            emitter.emit(args.out.store(destination, args.data[0].vector(source, lanes)))
            return
        zero = tirx.const(0.0, "float32")
        if to_blocked and valid <= 0:
            emitter.emit(args.out.store(blocked, tirx.Broadcast(zero, lanes)))
        elif to_blocked:
            scalars = [args.data[0][nhwc + i] if i < valid else zero for i in range(lanes)]
            emitter.emit(args.out.store(blocked, tirx.Shuffle(scalars, [_tir.int32(i) for i in range(lanes)])))
        else:
            for first, width in _tir.pieces(max(0, valid)):
                emitter.emit(args.out.store(nhwc + first, args.data[0].vector(blocked + first, width)))
