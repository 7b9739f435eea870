"""The selection as a Relax pass, to compose with ``tvm.transform.Sequential``."""

from __future__ import annotations

from typing import Any

import tvm

from tvm_globalsel.lowering import lower
from tvm_globalsel.options import Options
from tvm_globalsel.pipeline import select


@tvm.transform.module_pass(opt_level=0, name="GlobalSelection")
class GlobalSelection:
    """Measure and select a variant for every operator of ``main``, and rewrite it to scheduled kernels.

    The function's weights must be constants (bind them first) and its shapes static. ``selected`` holds the network,
    costs and solution of the last module that went through. Example::

        seq = tvm.transform.Sequential([relax.transform.BindParams("main", params), GlobalSelection(Options(...))])
    """

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.selected: Any = None

    def transform_module(self, mod: tvm.IRModule, ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """The rewritten module; other functions than ``main`` are dropped, since nothing calls them any more."""
        self.selected = select(mod, self.options)
        return lower(self.selected)
