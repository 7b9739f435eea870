"""In-register transposes."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from te_kernels.generic import _tir


class Emitter:
    """Collects statements and binds vector values to variables."""

    def __init__(self) -> None:
        self.statements: list[Any] = []

    def bind(self, value: Any, lanes: int) -> Any:
        """A variable that holds the vector ``value``."""
        variable = tirx.Var(f"v{len(self.statements)}", f"float32x{lanes}")
        self.statements.append(tirx.Bind(variable, value))
        return variable

    def emit(self, statement: Any) -> None:
        """Append a statement."""
        self.statements.append(statement)

    def block(self) -> Any:
        """All statements as one."""
        return _tir.sequence(self.statements)


def transposed(emitter: Emitter, rows: list[Any]) -> list[Any]:
    """Transpose ``L`` vectors of ``L`` lanes (a power of two) by ``log2 L`` rounds of two-operand shuffles.

    Round ``d`` swaps the off-diagonal ``d x d`` quarters of every ``2d x 2d`` block.
    """
    lanes = len(rows)
    current = list(rows)
    distance = 1
    while distance < lanes:
        following = list(current)
        low = [lane if not lane & distance else lanes + (lane ^ distance) for lane in range(lanes)]
        high = [lane | distance if not lane & distance else lanes + lane for lane in range(lanes)]
        for i in range(lanes):
            if not i & distance:
                pair = [current[i], current[i | distance]]
                following[i] = emitter.bind(_tir.shuffle(pair, low), lanes)
                following[i | distance] = emitter.bind(_tir.shuffle(pair, high), lanes)
        current, distance = following, 2 * distance
    return current
