"""What Caffe's layers compute, written from Caffe's own loops and in float64: the oracle of the Caffe front end."""

from __future__ import annotations

import math

import numpy as np

Pair = tuple[int, int]


def pooled_size(size: int, kernel: int, stride: int, pad: int, padded: bool) -> int:
    """PoolingLayer::Reshape; ``padded`` says whether either axis is."""
    pooled = math.ceil((size + 2 * pad - kernel) / stride) + 1
    if padded and (pooled - 1) * stride >= size + pad:
        pooled -= 1
    return pooled


def pool(x: np.ndarray, mode: str, kernel: Pair, stride: Pair, pad: Pair) -> np.ndarray:
    """PoolingLayer::Forward_cpu."""
    n, c, height, width = x.shape
    axes = zip((height, width), kernel, stride, pad, strict=True)
    oh, ow = (pooled_size(*axis, any(pad)) for axis in axes)
    out = np.zeros((n, c, oh, ow))
    for ph in range(oh):
        for pw in range(ow):
            h0, w0 = ph * stride[0] - pad[0], pw * stride[1] - pad[1]
            if mode == "MAX":
                h1, w1 = min(h0 + kernel[0], height), min(w0 + kernel[1], width)
                out[:, :, ph, pw] = x[:, :, max(h0, 0) : h1, max(w0, 0) : w1].max((2, 3))
            else:
                h1, w1 = min(h0 + kernel[0], height + pad[0]), min(w0 + kernel[1], width + pad[1])
                size = (h1 - h0) * (w1 - w0)
                total = x[:, :, max(h0, 0) : min(h1, height), max(w0, 0) : min(w1, width)].sum((2, 3))
                out[:, :, ph, pw] = total / size
    return out


def convolution(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, pad: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    """BaseConvolutionLayer, as sums over the kernel's elements."""
    k, per_group, r, s = weight.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    oh = (padded.shape[2] - dilation[0] * (r - 1) - 1) // stride[0] + 1
    ow = (padded.shape[3] - dilation[1] * (s - 1) - 1) // stride[1] + 1
    out = np.zeros((x.shape[0], k, oh, ow)) + bias[:, None, None]
    for o in range(k):
        first = o // (k // groups) * per_group
        for i in range(r):
            for j in range(s):
                top, left = i * dilation[0], j * dilation[1]
                part = padded[:, first : first + per_group, top:, left:]
                part = part[:, :, : (oh - 1) * stride[0] + 1 : stride[0], : (ow - 1) * stride[1] + 1 : stride[1]]
                out[:, o] += (part * weight[o, :, i, j][:, None, None]).sum(1)
    return out


def lrn(x: np.ndarray, size: int, alpha: float, beta: float, k: float, within: bool) -> np.ndarray:
    """LRNLayer: sums of squares over channels, or over a square of the map with k fixed at 1."""
    half = size // 2
    square = x.astype(np.float64) ** 2
    if within:
        mean = pool(square, "AVE", (size, size), (1, 1), (half, half))
        return x * (1 + alpha * mean) ** -beta
    padded = np.pad(square, ((0, 0), (half, half), (0, 0), (0, 0)))
    total = sum(padded[:, i : i + x.shape[1]] for i in range(size))
    return x * (k + alpha / size * total) ** -beta
