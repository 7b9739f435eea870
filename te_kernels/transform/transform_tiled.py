"""Layout transforms between NCHW and layouts with the channels innermost, by L x L transposes in registers.

With ``p`` the flattened pixel, NCHW is ``[n, c, p]``, NHWC ``[n, p, c]`` and NCHW<b>c ``[n, c/b, p, c%b]``, so these
transforms are transposes of ``c`` and ``p``, of whole matrices or of slices of ``b`` rows:

    for n, block or chunk of channels, block of pixels: parallel
      for group of L channels, tile of L pixels:
        load L vectors; log2 L rounds of two-operand shuffles; store L vectors

L is the vector length, or less when the map or the block is smaller. The last tile of a ragged extent is moved back
to end at the border and overlaps its neighbour, so there are no scalar remainders and nothing is read outside. Tensors
of 1 to 3 channels (images) are interleaved by one shuffle over all their rows instead.

Lines of the NCHW side are read or written in parts by neighbouring tiles of pixels, because rows seldom start on a
line. In NHWC a chunk of 128 channels at a time keeps the parts in L1 until the next tile, and pages within reach of the
TLB: 512x14x14 to NHWC at 107 GB/s instead of 83, back 107 (80), 512x7x7 95 (63), 1024x14x14 86 (63).

Cost: L*log2(L) shuffles for 2*L vectors moved, less than the caches take to move them. What is left to choose is how
many pixel tiles run before the next group of channels: many keep the streams on the NCHW side long (needed from
112x112 on), one keeps those on the NHWC side long (needed when the pitch of a pixel is a multiple of 1 KB, because then
lines a pitch apart share few cache sets). From 4 KB on, 16 stores a pitch apart no longer fit the ways of one set, and
half the lanes do better.

Zen 5, one core, bytes read and written, next to numpy's copy of as many bytes: 64x56x56 97-109 GB/s (copy 106-135),
64x112x112 98-101 (112), 64x224x224 44-47 (50-58), 512x7x7 to and from blocked 115-120, to NHWC and back 94,
256x28x28 95-105, 3x224x224 to NHWC 128 (140). Prefetching the lines that later tiles write gained nothing, nor did
tiles of L channels by L/2 pixels.
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

_LINE_BYTES = 64
#: Narrowest vector worth a transpose.
_MIN_LANES = 4
#: Pixels this many channels (or a multiple) apart share one L1 set: 4096 bytes, the size of a cache way.
_ALIASING_CHANNELS = 1024


@dataclass(frozen=True)
class TransformTiled(Variant):
    """NCHW <-> NHWC and NCHW <-> NCHW<b>c. Knobs: lanes of the register tile, its runs of pixels and of channels."""

    name = "transform_tiled"
    family = "transform"
    title = "layout transform by register transposes"
    task_type = TransformTask
    relative_error = 0.0

    lanes: int
    tiles_in_block: int
    groups_in_chunk: int

    @classmethod
    def candidates(cls, task: TransformTask, machine: Machine) -> Iterator[Variant]:
        """The widest tile that fits, with short and with long runs of pixels (see the remarks on the NHWC pitch)."""
        if "NCHW" not in (task.source, task.destination) or task.source == task.destination:
            raise Reject(f"{task.source} to {task.destination} is not a transposition of channels and pixels")
        _, c, h, w = task.shape
        block = Layout(_other(task)).block
        width = block or c
        lanes = min(machine.vector_lanes, _tir.power_of_two_at_most(h * w))
        if lanes < _MIN_LANES:
            raise Reject(f"the map has {h * w} pixels, fewer than the {_MIN_LANES} of the smallest register tile")
        if width >= _MIN_LANES:
            lanes = min(lanes, _tir.power_of_two_at_most(width))
        elif block:
            raise Reject(f"blocks of {block} channels are too narrow for a register tile")
        tiles = -(-h * w // lanes)
        if block:
            yield cls(lanes, even_share(tiles, 8), -(-width // lanes))
            return
        # a chunk's lines, two for each row, fill at most a third of L1
        chunk_channels = max(lanes, machine.l1_bytes // 3 // (2 * _LINE_BYTES))
        if c % _ALIASING_CHANNELS == 0 and lanes >= 2 * _MIN_LANES:
            half = lanes // 2
            yield cls(half, 1, even_share(c // half, chunk_channels // half))
        yield cls(lanes, 1, even_share(-(-c // lanes), chunk_channels // lanes))
        if tiles > 1:
            yield cls(lanes, even_share(tiles, 16), -(-c // lanes))

    def layouts(self, task: TransformTask) -> Layouts:
        """The task's own."""
        return Layouts((task.source,), task.destination)

    def prim_func(self, task: TransformTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The kernel, in TIR."""
        n, c, h, w = task.shape
        pixels = h * w
        block = Layout(_other(task)).block
        width = block or c  # channels of one slice
        slices = -(-c // width)
        tiles = -(-pixels // self.lanes)
        per_block = self.tiles_in_block
        blocks = -(-tiles // per_block)
        covered = blocks * per_block * self.lanes
        args = _tir.arguments(task, self.layouts(task))
        groups = -(-width // self.lanes)
        chunks = -(-groups // self.groups_in_chunk)

        def unit(index: Any) -> Any:
            """One block of pixels of one slice (of one chunk of it) of channels of one image."""
            image, rest = index // (slices * chunks * blocks), index % (slices * chunks * blocks)
            slice_, chunk, pixel_block = rest // (chunks * blocks), rest // blocks % chunks, rest % blocks
            rows = (image * c + slice_ * width) * pixels  # channel 0 of the slice, in NCHW
            columns = (image * slices + slice_) * pixels * width  # the slice, in the other layout

            def group(first: Any, valid: int) -> Any:
                """``lanes`` channels from ``first``, the first ``valid`` of which exist."""

                def at(tile: Any) -> Any:
                    start = _tir.clamped_start(pixel_block * per_block + tile, self.lanes, pixels, covered)
                    emitter = _registers.Emitter()
                    if width < _MIN_LANES:
                        self._interleave(task, args, emitter, (rows + start, columns + start * width))
                    else:
                        where = (rows + first * pixels + start, columns + start * width + first)
                        self._square(task, args, emitter, where, valid, (pixels, width))
                    return emitter.block()

                return _tir.loop(per_block, at, "t")

            def whole_slice() -> Any:
                step, count = min(self.lanes, width), self.groups_in_chunk
                end = chunks * count * self.lanes

                def at(g: Any) -> Any:
                    return group(_tir.clamped_start(chunk * count + g, step, width, end), self.lanes)

                return _tir.loop(count, at, "g")

            def ragged_slice() -> Any:
                emitter = _registers.Emitter()
                for g in range(groups):
                    first = min(g * self.lanes, width - self.lanes)
                    valid = c % width - first
                    if valid > 0 or task.source == "NCHW":  # groups of nothing but padding are only ever written
                        emitter.emit(group(first, max(0, min(self.lanes, valid))))
                return emitter.block()

            if c % width == 0:
                return whole_slice()
            if slices == 1:
                return ragged_slice()
            return tirx.IfThenElse(slice_ < slices - 1, whole_slice(), ragged_slice())

        return args.prim_func(_tir.loop(n * slices * chunks * blocks, unit, "u", _tir.worth_threads(task, machine)))

    def _square(
        self,
        task: TransformTask,
        args: _tir.Arguments,
        emitter: _registers.Emitter,
        where: tuple[Any, Any],
        valid: int,
        pitches: tuple[int, int],
    ) -> None:
        """One register tile; ``where`` it starts, and ``pitches`` from row to row, in NCHW and in the other layout."""
        lanes = self.lanes
        (rows, columns), (row_pitch, column_pitch) = where, pitches
        if task.source == "NCHW":
            zeros = tirx.Broadcast(tirx.const(0.0, "float32"), lanes)
            loaded = [
                emitter.bind(args.data[0].vector(rows + i * row_pitch, lanes) if i < valid else zeros, lanes)
                for i in range(lanes)
            ]
            for i, vector in enumerate(_registers.transposed(emitter, loaded)):
                emitter.emit(args.out.store(columns + i * column_pitch, vector))
            return
        loaded = [emitter.bind(args.data[0].vector(columns + i * column_pitch, lanes), lanes) for i in range(lanes)]
        for i, vector in enumerate(_registers.transposed(emitter, loaded)[:valid]):
            emitter.emit(args.out.store(rows + i * row_pitch, vector))

    def _interleave(
        self, task: TransformTask, args: _tir.Arguments, emitter: _registers.Emitter, where: tuple[Any, Any]
    ) -> None:
        """``lanes`` pixels of a tensor of very few channels: its pixels are contiguous on the NHWC side."""
        lanes, (_, channels, h, w) = self.lanes, task.shape
        (rows, columns), pitch = where, h * w
        if task.source == "NCHW":
            loaded = [emitter.bind(args.data[0].vector(rows + i * pitch, lanes), lanes) for i in range(channels)]
            for i in range(channels):
                flat = range(i * lanes, (i + 1) * lanes)
                mixed = _tir.shuffle(loaded, [(f % channels) * lanes + f // channels for f in flat])
                emitter.emit(args.out.store(columns + i * lanes, mixed))
            return
        loaded = [emitter.bind(args.data[0].vector(columns + i * lanes, lanes), lanes) for i in range(channels)]
        for i in range(channels):
            picked = _tir.shuffle(loaded, [lane * channels + i for lane in range(lanes)])
            emitter.emit(args.out.store(rows + i * pitch, picked))


def _other(task: TransformTask) -> str:
    """The layout that is not NCHW."""
    return task.destination if task.source == "NCHW" else task.source
