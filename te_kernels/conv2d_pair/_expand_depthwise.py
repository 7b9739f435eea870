"""A 1x1 convolution and the depthwise one behind it, of which what lies between never leaves L1.

    mid[c, y, x] = e1(sum_i data[i, y, x] * U[c, i])
    out[c, y, x] = e2(sum_{r, s} mid[c, y sh + r - top, x sw + s - left] * W[c, r, s])

The middle of an inverted residual block (Sandler et al., "MobileNetV2", CVPR 2018) has six times the channels of its
ends, and each element of it takes part in nine multiply-adds: written and read back, it costs more than it computes.
The algorithm is that of ``_row_ring``.

Microseconds on one Emerald Rapids core, measured as in a network, and of the fastest two kernels (in brackets), NHWC or
NCHW16c: 16 -> 96 channels on 112x112, stride 2, 340 (513); 24 -> 144 on 56x56 236 (305), with stride 2 166 (202);
32 -> 192 on 28x28 84 (92); 64 -> 384 on 14x14, which L2 holds anyway, 76 (73).
"""

from __future__ import annotations

from dataclasses import dataclass

from te_kernels.conv2d_pair._depthwise_windows import DepthwiseWindows
from te_kernels.conv2d_pair._pointwise_rows import PointwiseRows
from te_kernels.conv2d_pair._row_ring_variant import RowRingVariant


@dataclass(frozen=True)
class ExpandDepthwiseVariant(RowRingVariant):
    """Base of the variants, which differ in their layouts."""

    rows, windows = PointwiseRows, DepthwiseWindows
