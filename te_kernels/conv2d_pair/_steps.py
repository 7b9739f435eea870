"""An epilogue on vectors of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from te_kernels import epilogue as ep


@dataclass(frozen=True)
class Steps:
    """``constants`` are flat buffers of one element a channel.

    A bias that comes first is where the sums of a convolution begin, which saves an addition for each element.
    """

    epilogue: ep.Epilogue
    constants: list[Any]

    @property
    def _starts(self) -> int:
        return int(self.epilogue[:1] == (ep.Step("bias"),))

    def start(self, channel: Any) -> Any:
        """What sums begin with."""
        return self.constants[0][channel] if self._starts else tirx.const(0.0, "float32")

    def after(self, value: Any, channel: Any, tensors: list[Any]) -> Any:
        """What is stored of a sum; ``tensors`` are the elements that the epilogue reads of tensors."""
        constants = [lambda k, constant=constant: constant[k] for constant in self.constants[self._starts :]]
        others = [lambda *_, element=element: element for element in tensors]
        return ep.apply(value, self.epilogue[self._starts :], constants, others, (0, channel, 0, 0))
