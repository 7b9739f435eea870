"""A convolution of few input channels in NCHW and what goes over its result in windows, by rows (``_row_ring``).

The first layer of a network has its largest map, which the next one reads once: a max pool, or in MobileNets a
depthwise convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

from te_kernels.conv2d_pair._depthwise_windows import DepthwiseWindows
from te_kernels.conv2d_pair._first_layer_rows import FirstLayerRows
from te_kernels.conv2d_pair._max_windows import MaxWindows
from te_kernels.conv2d_pair._row_ring_variant import RowRingVariant


@dataclass(frozen=True)
class FirstLayerVariant(RowRingVariant):
    """Base."""

    rows = FirstLayerRows


@dataclass(frozen=True)
class DirectDepthwiseVariant(FirstLayerVariant):
    """Base of the variants with a depthwise convolution behind, which differ in their layouts."""

    windows = DepthwiseWindows


@dataclass(frozen=True)
class DirectPoolVariant(FirstLayerVariant):
    """Base of the variants with a max pool behind, which differ in their layouts."""

    windows = MaxWindows
