"""A fully connected layer as a product: m = rows of the batch, n = outputs, k = features in the order they are stored.

What the two ``dense`` products share; one runs on the CUDA cores, the other on tensor cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from te_kernels.cuda import _gemm, _mma
from te_kernels.cuda._base import Arguments
from te_kernels.cuda.dense import features, stored_weights
from te_kernels.task import DenseTask
from te_kernels.variant import Layouts


@dataclass(frozen=True)
class Rows:
    """One layer under a tile."""

    task: DenseTask
    layouts: Layouts
    tile: _gemm.Tile | _mma.WarpTile
    splits: int
    dtype: str

    @property
    def product(self) -> _gemm.Product:
        """Sizes and what is contiguous."""
        run = 8 if isinstance(self.tile, _mma.WarpTile) else _gemm.RUN
        length = features(self.task, self.layouts.inputs[0])
        return _gemm.Product(
            1, self.task.data_shape[0], self.task.k, length, self.splits,
            a_vector=math.gcd(run, length), b_vector=run, store_vector=math.gcd(_gemm.RUN, self.task.k),
        )  # fmt: skip

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Features by outputs, in whole tiles."""
        _, n, k = self.product.padded(self.tile)
        return k, n

    def pack(self, params: list[np.ndarray]) -> list[np.ndarray]:
        """Transposed weights, zero in the padding; constants unchanged."""
        weights = stored_weights(self.task, self.layouts.inputs[0], params[0]).T
        packed = np.zeros(self.weight_shape, self.dtype)
        packed[: weights.shape[0], : weights.shape[1]] = weights
        return [packed, *(np.asarray(p, np.float32) for p in params[1:])]

    def workspace_bytes(self) -> int:
        """Partial sums."""
        return self.product.partial_bytes(self.tile)

    def operands(self) -> _gemm.Operands:
        """The arguments as matrices."""
        m_size, _, k_size = self.product.padded(self.tile)
        product = self.product
        held: list[Arguments] = []

        def declare() -> None:
            weights = [(self.weight_shape, self.dtype)]
            held.append(Arguments(self.task, self.layouts, self.dtype, weights, self.task.k))

        def row(z: Any, m: Any, k: Any, lane: Any) -> Any:
            data = held[0].data[0]
            shape = [int(extent) for extent in data.shape]
            inside = [] if m_size == product.m else [m < product.m]
            inside += [] if k_size == product.k else [k < product.k]
            f = k + lane
            place = [f // math.prod(shape[axis + 1 :]) % shape[axis] for axis in range(1, len(shape))]
            value = data[(m, *place)]
            return tirx.if_then_else(tirx.all(*inside), value, tirx.const(0.0, self.dtype)) if inside else value

        def weight(z: Any, k: Any, n: Any, lane: Any) -> Any:
            return held[0].params[0][k, n + lane]

        def store(z: Any, m: Any, n: Any, value: Any) -> None:
            held[0].store(value, m, n)

        return _gemm.Operands(declare, row, weight, store, dtype=self.dtype)

    def prim_func(self) -> tvm.tirx.PrimFunc:
        """The scheduled kernel."""
        if isinstance(self.tile, _mma.WarpTile):
            return _mma.prim_func(self.product, self.tile, self.operands())
        return _gemm.prim_func(self.product, self.tile, self.operands())
