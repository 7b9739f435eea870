"""Caffe's pooling, whose windows are not ONNX's: sizes round up, and averages count declared padding but no more.

Caffe (src/caffe/layers/pooling_layer.cpp): ``out = ceil((size + 2 pad - kernel) / stride) + 1``, less one where, with
padding on either axis, the last window would start beyond the input and its leading padding. What the last window reads
beyond the trailing padding becomes explicit padding here, so that no rounding mode is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_globalsel.frontends.caffe_graph import GraphWriter, Layer

_MAX, _AVERAGE = 0, 1
_FLOOR = 1


@dataclass(frozen=True)
class Windows:
    """Pooling along one axis: ``out`` windows of ``kernel`` elements, the first starting ``pad`` before the input."""

    size: int
    kernel: int
    stride: int
    pad: int
    out: int

    @property
    def after(self) -> int:
        """Padding behind the input that the last window reads."""
        return max(0, (self.out - 1) * self.stride + self.kernel - self.size - self.pad)

    @property
    def counts(self) -> np.ndarray:
        """``(out,)`` elements that Caffe divides an average by: those of the window in the input as padded."""
        starts = np.arange(self.out) * self.stride - self.pad
        return np.minimum(starts + self.kernel, self.size + self.pad) - starts


def windows(layer: Layer, size: int, kernel: int, stride: int, pad: int, padded: bool, floor: bool) -> Windows:
    """Where the windows lie; ``padded`` says whether either axis is. Raises :class:`UserError` when one is empty."""
    if not (kernel and stride) or pad >= kernel:
        raise layer.refuse(f"kernel {kernel}, stride {stride}, padding {pad}")
    room = size + 2 * pad - kernel
    if room < 0:
        raise layer.refuse(f"a window of {kernel} on {size} elements with padding {pad}")
    out = (room if floor else room + stride - 1) // stride + 1
    if (out - 1) * stride >= size + pad:
        if not padded:
            raise layer.refuse(f"stride {stride} with kernel {kernel} puts a window outside of the {size} elements")
        out -= 1
    return Windows(size, kernel, stride, pad, out)


def pooling(layer: Layer, graph: GraphWriter) -> None:
    """MAX and AVE, global or not."""
    param, shape = layer.message.pooling_param, graph.shapes[layer.bottoms[0]]
    if len(shape) != 4:
        raise layer.refuse(f"pooling of a blob of shape {list(shape)}")
    if param.pool not in (_MAX, _AVERAGE) or len(layer.tops) != 1:
        raise layer.refuse("only MAX and AVE pooling with one top are supported")
    n, c, *sizes = shape
    if param.global_pooling and param.pool == _AVERAGE:
        graph.emit(layer, "GlobalAveragePool", [layer.bottoms[0]], (n, c, 1, 1))
        return

    def pair(name: str, both: str) -> tuple[int, int]:
        tall, wide = f"{name}_h", f"{name}_w"
        if param.HasField(tall) or param.HasField(wide):
            return int(getattr(param, tall)), int(getattr(param, wide))
        return int(getattr(param, both)), int(getattr(param, both))

    kernel, stride, pad = pair("kernel", "kernel_size"), pair("stride", "stride"), pair("pad", "pad")
    if param.global_pooling:
        kernel, stride, pad = (sizes[0], sizes[1]), (1, 1), (0, 0)
    down, across = (
        windows(layer, *of_axis, any(pad), param.round_mode == _FLOOR)
        for of_axis in zip(sizes, kernel, stride, pad, strict=True)
    )
    out = (n, c, down.out, across.out)
    geometry: dict[str, Any] = {
        "kernel_shape": kernel, "strides": stride, "pads": [down.pad, across.pad, down.after, across.after],
    }  # fmt: skip
    if param.pool == _MAX:
        graph.emit(layer, "MaxPool", [layer.bottoms[0]], out, **geometry)
        return
    correction = np.outer(kernel[0] / down.counts, kernel[1] / across.counts).astype(np.float32)
    if not any(pad):  # every element a window has was in the input
        graph.emit(layer, "AveragePool", [layer.bottoms[0]], out, count_include_pad=0, **geometry)
    elif (correction == 1).all():
        graph.emit(layer, "AveragePool", [layer.bottoms[0]], out, count_include_pad=1, **geometry)
    else:
        mean = f"{layer.name}:mean"
        graph.emit(layer, "AveragePool", [layer.bottoms[0]], out, mean, count_include_pad=1, **geometry)
        graph.emit(layer, "Mul", [mean, graph.constant(f"{layer.name}:correction", correction[None, None])], out)
