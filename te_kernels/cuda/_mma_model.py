"""How long a product on tensor cores takes, and which tiles fit: the model beside :mod:`te_kernels.cuda._occupancy`."""

from __future__ import annotations

import math
from collections.abc import Iterable

from te_kernels.cuda._base import LAUNCH_S, STREAMING, ceil_div
from te_kernels.cuda._gemm import Product
from te_kernels.cuda._mma import WarpTile
from te_kernels.gpu import Gpu

#: bm, bn, bk, fragments of a warp along m and n.
_SHAPES = (
    (128, 128, 32, 4, 2), (128, 64, 32, 4, 2), (64, 128, 32, 2, 4), (64, 64, 32, 2, 2), (64, 32, 32, 2, 1),
    (32, 64, 32, 1, 2), (32, 32, 64, 1, 1), (16, 64, 64, 1, 1), (16, 32, 64, 1, 1),
)  # fmt: skip
_STAGES = (1, 3)
_SPLITS = (1, 2, 4, 8)
#: Multiply-adds of a multiprocessor in a cycle through ``wmma`` (Hopper's own instructions do more), its bytes from
#: shared memory, the latency of a slice in cycles.
_MULTIPLY_ADDS, _SHARED_BYTES, _LATENCY = 1024, 128, 600.0


def tiles(machine: Gpu) -> Iterable[tuple[WarpTile, int]]:
    """(tile, splits) worth considering on this device."""
    for shape in _SHAPES:
        for stages in _STAGES if machine.mcpu >= "sm_80" else (1,):
            for splits in _SPLITS:
                yield WarpTile(*shape, stages), splits


def fits(product: Product, tile: WarpTile, machine: Gpu) -> bool:
    """Whether the device can run it, every part of k fills the pipeline, and all threads copy alike."""
    if tile.shared_bytes > machine.shared_bytes or not 1 <= tile.threads <= machine.max_threads:
        return False
    slices = product.padded(tile)[2] // product.splits // tile.bk
    if slices < tile.stages or (product.splits > 1 and (slices < 4 or product.batch > 4)):
        return False
    copies = (tile.bm * tile.bk // product.a_vector, tile.bk * tile.bn // product.b_vector)
    return all(runs % tile.threads == 0 for runs in (*copies, tile.bm * tile.bn // product.store_vector))


def seconds(product: Product, tile: WarpTile, machine: Gpu) -> float:
    """Rounds of resident blocks: instructions, fragments from shared memory, latency of slices, weights."""
    m, n, k = product.padded(tile)
    blocks = m // tile.bm * (n // tile.bn) * product.batch * product.splits
    fitting = min(
        machine.multiprocessor_shared_bytes // (tile.shared_bytes + 1024),
        machine.multiprocessor_threads // tile.threads, machine.multiprocessor_blocks,
    )  # fmt: skip
    resident = max(1, min(fitting, ceil_div(blocks, machine.multiprocessors)))
    rounds = blocks / (machine.multiprocessors * resident)
    rounds = math.ceil(rounds) if rounds < 4 else rounds + 0.5
    multiply = resident * tile.bm * tile.bn * tile.bk / _MULTIPLY_ADDS
    fragments = tile.bm * tile.bk * tile.warps[1] + tile.bk * tile.bn * tile.warps[0]
    shared = resident * 2 * fragments / _SHARED_BYTES
    latency = _LATENCY / (tile.stages - 1) if tile.stages > 1 else _LATENCY + multiply / resident
    # copies of single values cannot be asynchronous, and take an instruction each
    scattered = 1.0 if min(product.a_vector, product.b_vector) >= 4 else 2.0
    slices = k // product.splits // tile.bk
    cycles = rounds * (slices * max(multiply, shared, latency * scattered) + 2 * _LATENCY)
    weights_s = 2 * product.batch * (product.m + product.n) * product.k / machine.memory_bytes_per_s / STREAMING
    launches = 2 if product.splits > 1 else 1
    return LAUNCH_S * launches + max(cycles / machine.clock_hz, weights_s)
