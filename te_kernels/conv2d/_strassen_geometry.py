"""Loop bounds and packed weights of convolutions by Strassen's product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from te_kernels.conv2d._strassen_transform import StrassenTransform
from te_kernels.conv2d._transformed_geometry import Geometry
from te_kernels.tiling import cdiv
from te_kernels.variant import pad_channels


@dataclass(frozen=True)
class StrassenGeometry(Geometry):
    """The convolution as a product of matrices: positions by (window, input channels) by output channels.

    A tile is ``parts`` neighbouring positions, a "vector" of inputs or outputs ``parts`` neighbouring vectors.
    """

    transform: StrassenTransform

    @property
    def output_positions(self) -> int:
        """Positions of the whole batch."""
        return self.task.n * self.task.oh * self.task.ow

    @property
    def tiles(self) -> int:
        return cdiv(self.output_positions, self.transform.parts)

    @property
    def channel_vectors(self) -> int:
        """``parts`` vectors of input channels count once."""
        return self.task.c // (self.transform.parts * self.blocking.lanes)

    @property
    def input_vectors(self) -> int:
        return self.task.r * self.task.s * self.channel_vectors

    @property
    def output_vectors(self) -> int:
        return self.task.k // (self.transform.parts * self.blocking.lanes)

    @property
    def padded_constants(self) -> int:
        return self.task.k

    @property
    def product_flops(self) -> int:
        reduction, outputs = (vectors * self.blocking.lanes for vectors in (self.input_vectors, self.output_vectors))
        return 2 * self.positions * self.tiles * reduction * outputs

    def pack(self, params: list[np.ndarray]) -> list[np.ndarray]:
        t, parts, lanes = self.task, self.transform.parts, self.blocking.lanes
        shape = (self.output_vectors, parts, lanes, self.channel_vectors, parts, lanes, t.r, t.s)
        # to part of the inputs, part of the outputs, (r, s, input vector, lane), (output vector, lane)
        matrices = params[0].reshape(shape).transpose(4, 1, 6, 7, 3, 5, 0, 2)
        matrices = matrices.reshape(1, parts, parts, t.r * t.s * t.c // parts, t.k // parts)
        return [self._packed(matrices), *pad_channels(params[1:], self.padded_constants)]
