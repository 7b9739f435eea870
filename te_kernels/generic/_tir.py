"""Small builders for kernels written directly in TIR: flat views, loops, vector shuffles.

Layout transforms need in-register transposes, which no schedule primitive expresses; so they are built from TIR
nodes. Offsets are in elements of the flattened tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import TransformTask

#: Below this many bytes read and written, waking the other threads costs more than they save.
_PARALLEL_BYTES = 256 << 10


def int32(value: int) -> Any:
    """An int32 constant."""
    return tirx.const(value, "int32")


def shuffle(vectors: list[Any], lanes: list[int]) -> Any:
    """The vector of the numbered lanes of the concatenated ``vectors``."""
    return tirx.Shuffle(vectors, [int32(lane) for lane in lanes])


def loop(extent: int, body: Callable[[Any], Any], name: str, parallel: bool = False) -> Any:
    """``for name in range(extent): body(name)``; no loop when the extent is 1."""
    if extent == 1:
        return body(int32(0))
    variable = tirx.Var(name, "int32")
    kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL
    return tirx.For(variable, int32(0), int32(extent), kind, body(variable))


def clamped_start(tile: Any, lanes: int, extent: int, covered: int) -> Any:
    """First element of a tile; where all tiles cover more than ``extent``, the last ones are moved back to its end."""
    return tile * lanes if covered <= extent else tirx.min(tile * lanes, int32(extent - lanes))


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
        return tirx.SeqStmt(self.statements) if len(self.statements) > 1 else self.statements[0]


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
                following[i] = emitter.bind(shuffle(pair, low), lanes)
                following[i | distance] = emitter.bind(shuffle(pair, high), lanes)
        current, distance = following, 2 * distance
    return current


@dataclass(frozen=True)
class Frame:
    """The buffers of a transform: ``source`` and ``destination`` are flat views of ``arguments``."""

    arguments: tuple[Any, Any]
    source: Any
    destination: Any

    def load(self, offset: Any, lanes: int) -> Any:
        """A vector of the source."""
        return self.source.vload([offset], f"float32x{lanes}")

    def store(self, offset: Any, value: Any) -> Any:
        """Statement that stores a vector to the destination."""
        return self.destination.vstore([offset], value)

    def prim_func(self, body: Any) -> tvm.tirx.PrimFunc:
        """The function around ``body``."""
        declared = [
            tirx.DeclBuffer(self.source, data=self.arguments[0].data),
            tirx.DeclBuffer(self.destination, data=self.arguments[1].data),
        ]
        func = tirx.PrimFunc(list(self.arguments), tirx.SeqStmt([*declared, body]))
        return func.with_attr("global_symbol", "main").with_attr("tirx.noalias", True).with_attr("s_tir", True)


def frame(task: TransformTask) -> Frame:
    """Buffers of the task's source and destination, and flat views of them."""
    buffers, views = [], []
    for layout, name in ((task.source, "data"), (task.destination, "out")):
        shape = Layout(layout).physical_shape(task.shape)
        elements = 1
        for extent in shape:
            elements *= extent
        buffers.append(tirx.decl_buffer(shape, "float32", name=name))
        views.append(tirx.decl_buffer((elements,), "float32", name=f"{name}_flat"))
    return Frame((buffers[0], buffers[1]), views[0], views[1])


def worth_threads(task: TransformTask, machine: Machine) -> bool:
    """Whether the transform is large enough to share among threads."""
    return machine.threads > 1 and task.bytes_moved >= _PARALLEL_BYTES


def power_of_two_at_most(value: int) -> int:
    """The largest power of two not above ``value``."""
    return 1 << (value.bit_length() - 1)


def even_share(total: int, limit: int) -> int:
    """A share of ``total`` of at most ``limit``: a divisor if there is one not much smaller, else the evenest split."""
    divisors = [d for d in range(max(1, limit // 2), limit + 1) if total % d == 0]
    return max(divisors) if divisors else -(-total // -(-total // limit))
