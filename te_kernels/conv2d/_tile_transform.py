"""What a convolution by tiles in a transformed space needs to know of the transform: Winograd's, Fourier's, Strassen's.

    Y = A [ sum_c (G g) * (B d) ]      d: a tile of the input, g: the kernel, Y: a tile of the output

with linear maps A, B, G between tiles and ``positions`` real numbers, * element by element.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import vector_registers
from te_kernels.conv2d._linear_program import Program, weighted_sum
from te_kernels.conv2d._map_tiles import InputTile, OutputTile, Read, Write

#: Largest relative error of rounding to float32.
UNIT_ROUNDOFF = 2.0**-24


class TileTransform(ABC):
    """The maps A, B and G of one tile size."""

    #: Bytes a cycle that the transforms move to and from beyond L2: a few lines here and there.
    streamed_bytes: ClassVar[float] = 8.0

    @property
    @abstractmethod
    def outputs(self) -> tuple[int, int]:
        """Rows and columns of outputs a tile."""

    @property
    @abstractmethod
    def window(self) -> tuple[int, int]:
        """Rows and columns of inputs a tile."""

    @property
    @abstractmethod
    def positions(self) -> int:
        """Products a tile and channel pair."""

    @abstractmethod
    def cycles(self, registers: int) -> tuple[float, float]:
        """What B and A take for one tile and one vector of channels, beside loads and stores of the tile.

        At two operations a cycle, and one store a cycle of what does not stay in ``registers`` vector registers.
        """

    @abstractmethod
    def transform_weight(self, weight: np.ndarray) -> np.ndarray:
        """G of kernels ``(r, s, ...)``: ``(positions, ...)``, in float64."""

    @abstractmethod
    def emit_input(self, lanes: int, tile: InputTile, write: Write) -> None:
        """B of one tile into ``write(position, lane, value)``."""

    @abstractmethod
    def emit_output(self, lanes: int, read: Read, tile: OutputTile) -> None:
        """A of ``read(position, lane)`` into a tile of the result."""


def vector_sum(terms: list[tuple[Any, Any]]) -> Any:
    """The expression of a weighted sum in float32."""
    return weighted_sum(terms, lambda c: tirx.const(c, "float32"))


class Registers:
    """Hands out vectors one after the other: every intermediate value in a register of its own."""

    def __init__(self, count: int, lanes: int) -> None:
        self._buffer, self._lanes, self._used = vector_registers(count, lanes), lanes, 0

    def keep(self, value: Any, lane: Any) -> Any:
        """``value``, computed once and readable afterwards."""
        slot, self._used = self._used, self._used + 1
        T.buffer_store(self._buffer, value, [slot * self._lanes + lane])
        return self._buffer[slot * self._lanes + lane]


def emit_program(
    program: Program, lanes: int, read: Callable[[int, Any], Any], write: Callable[[int, Any, Any], None]
) -> None:
    """A program on vectors in registers: ``read(i, lane)`` its inputs, ``write(i, lane, value)`` its outputs."""
    registers = Registers(program.inputs + len(program.steps), lanes)
    with T.vectorized(0, lanes) as lane:
        values = [registers.keep(read(i, lane), lane) for i in range(program.inputs)]
        results = program.run(values, lambda terms: registers.keep(vector_sum(terms), lane))
        for i, value in enumerate(results):
            write(i, lane, value)
