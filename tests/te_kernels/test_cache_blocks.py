"""Kernels whose blocks come from cache sizes, on caches so small that there are many blocks, some of them ragged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from te_kernels.conv2d import _depthwise, _output_geometry
from te_kernels.conv2d._flat import flattened
from te_kernels.conv2d.direct_kblock_nhwc import DirectKBlockNHWC
from te_kernels.epilogue import Step
from te_kernels.task import ConvTask
from te_kernels.variant import Reject
from tests.te_kernels import kernel_checks

SMALL = replace(kernel_checks.MACHINE, l1_bytes=4 << 10, l2_bytes=48 << 10)
SAME = (1, 1, 1, 1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("task", "names"),
    [
        (ConvTask(2, 32, 19, 33, 32, 3, 3, (1, 1), SAME, groups=32), ["depthwise_nhwc", "depthwise_nchwc"]),
        (ConvTask(1, 256, 11, 15, 256, 3, 3, (2, 2), SAME, groups=256), ["depthwise_nhwc"]),
        (ConvTask(1, 48, 13, 13, 40, 1, 1, epilogue=(Step("bias"), Step("add"))), ["direct_nhwc", "direct_nchwc"]),
        (ConvTask(2, 40, 17, 11, 24, 1, 1), ["direct_nchwc_nhwc", "direct_nchw_nchwc"]),
        (ConvTask(1, 640, 13, 3, 16, 1, 1), ["gemm_1x1_nhwc", "gemm_1x1_nchwc"]),
    ],
    ids=str,
)
def test_small_caches(task: ConvTask, names: list[str], threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_checks, "MACHINE", replace(SMALL, threads=threads))
    assert kernel_checks.check_all(task, names)


def test_there_are_ragged_blocks() -> None:
    """The shapes above would prove little if they fitted the caches."""
    task = ConvTask(1, 48, 13, 13, 40, 1, 1)
    tile = _output_geometry.Tile(1, 13, 2, kernel_checks.MACHINE.vector_lanes)
    geometry = _output_geometry.Geometry(flattened(task), tile)
    assert geometry.pixel_tiles % _output_geometry.blocks(geometry, SMALL).tiles
    assert 1 <= _depthwise.strip(ConvTask(2, 32, 19, 33, 32, 3, 3, (1, 1), SAME, groups=32), SMALL, 3) < 11


def test_a_flat_view_is_of_pointwise_tasks_only() -> None:
    with pytest.raises(ValueError, match="pointwise"):
        flattened(ConvTask(1, 8, 5, 5, 8, 3, 3))


def test_the_reduction_is_cut_where_weights_and_input_exceed_the_cache() -> None:
    """0.6 MB of weights for two vectors of 512 channels fit 1 MB beside a map of 7x7, not beside one of 14x14."""
    machine = replace(kernel_checks.MACHINE, l2_bytes=1 << 20, vector_lanes=16)
    assert list(DirectKBlockNHWC.candidates(ConvTask(1, 512, 14, 14, 512, 3, 3, (2, 2), SAME), machine))
    with pytest.raises(Reject, match="beside the input"):
        list(DirectKBlockNHWC.candidates(ConvTask(1, 512, 7, 7, 512, 3, 3, (1, 1), SAME), machine))
