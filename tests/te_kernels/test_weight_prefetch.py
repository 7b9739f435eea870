"""Prefetched weights: only where they pay, without a change of results, and with the accumulators in registers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from te_kernels.conv2d import _weight_prefetch
from te_kernels.conv2d._flat import flattened
from te_kernels.conv2d._output_geometry import Blocks, Geometry, Tile, blocks, slowest_cycles
from te_kernels.epilogue import Step
from te_kernels.task import ConvTask
from tests.te_kernels.kernel_checks import MACHINE, assert_same_bits, built, direct_func

LANES = MACHINE.vector_lanes
SAME = (1, 1, 1, 1)


def _fetches(task: ConvTask, tile: Tile) -> bool:
    text = str(direct_func(task, tile).script())
    assert _weight_prefetch.ANNOTATION not in text
    return "llvm.prefetch" in text


def test_only_where_it_pays() -> None:
    narrow, wide = 2 * LANES, 8 * LANES
    tile = Tile(1, 7, 2, LANES)
    assert _fetches(flattened(ConvTask(1, 64, 14, 14, wide, 1, 1)), tile)
    assert not _fetches(flattened(ConvTask(1, 64, 14, 14, narrow, 1, 1)), tile)  # one block of channels
    assert not _fetches(flattened(ConvTask(1, 64, 28, 28, wide, 1, 1)), tile)  # many positions
    assert not _fetches(ConvTask(1, 64, 5, 7, wide, 1, 1), tile)  # few
    deep = MACHINE.l2_bytes // (4 * 2 * LANES)  # the weights of one block alone fill L2
    assert not _fetches(flattened(ConvTask(1, deep, 14, 14, wide, 1, 1)), tile)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["NHWC", f"NCHW{LANES}c"])
@pytest.mark.parametrize(
    ("task", "tile"),
    [
        (flattened(ConvTask(1, 40, 14, 14, 6 * LANES, 1, 1, epilogue=(Step("relu"),))), Tile(1, 7, 2, LANES)),
        (ConvTask(2, 32, 11, 9, 5 * LANES, 3, 3, (1, 1), SAME, epilogue=(Step("add"),)), Tile(2, 3, 2, LANES)),
        (ConvTask(1, 32, 19, 21, 3 * LANES, 3, 1, (2, 2), (0, 1, 1, 0)), Tile(1, 4, 1, LANES)),
        (ConvTask(1, 4 * LANES, 10, 10, 4 * LANES, 3, 3, (1, 1), SAME, groups=2), Tile(1, 5, 1, LANES)),
    ],
    ids=str,
)
def test_results_are_the_same_bits(
    task: ConvTask, tile: Tile, layout: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout != "NHWC" and task.c % LANES:
        task = replace(task, c=3 * LANES)
    monkeypatch.setattr(_weight_prefetch, "_pays", lambda *_: True)
    fetching = direct_func(task, tile, layout, threads)
    assert "llvm.prefetch" in str(fetching.script())
    monkeypatch.setattr(_weight_prefetch, "_pays", lambda *_: False)
    plain = direct_func(task, tile, layout, threads)
    assert "llvm.prefetch" not in str(plain.script())
    assert_same_bits(fetching, plain)


def test_accumulators_stay_in_registers() -> None:
    """Neither heap nor a store a multiply-add: both were seen when the prefetch stood beside buffers of TVM's own."""
    task, tile = flattened(ConvTask(1, 64, 14, 14, 8 * LANES, 1, 1)), Tile(1, 7, 2, LANES)
    assembly = built(direct_func(task, tile)).mod.inspect_source("asm")
    lines = assembly.splitlines()
    at = [number for number, line in enumerate(lines) if "prefetch" in line and not line.lstrip().startswith(".")]
    assert at
    products = [line for line in lines[min(at) : max(at)] if "vfmadd" in line or "mulps" in line]
    stores = [line for line in lines[min(at) : max(at)] if "movup" in line and line.rstrip().endswith(")")]
    assert len(stores) <= len(products) // 4


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_get_channels_where_positions_do_not_divide(threads: int) -> None:
    machine = replace(MACHINE, threads=threads, l2_bytes=1 << 20)
    geometry = Geometry(flattened(ConvTask(1, 64, 7, 7, 24 * LANES, 1, 1)), Tile(1, 7, 2, LANES))
    dealt = blocks(geometry, machine)
    assert dealt.channel_parts % threads == 0
    even = slowest_cycles(geometry, Blocks(1, 7, 1), replace(machine, threads=1)) / threads
    assert slowest_cycles(geometry, dealt, machine) == pytest.approx(even)
    divisible = Geometry(flattened(ConvTask(1, 64, 12, 12, 24 * LANES, 1, 1)), Tile(1, 12, 2, LANES))
    assert blocks(divisible, machine).channel_parts == 1
