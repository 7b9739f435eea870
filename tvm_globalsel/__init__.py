"""Exact global selection of convolution variants and layouts, on TVM Relax.

``compile(model, output, Options(...))`` is the whole compiler; ``select``/``lower`` its parts; ``GlobalSelection``
the same as a Relax pass; ``Deployed`` runs a compiled folder with TVM's runtime only. Names are imported on first
use, so that running a deployed module loads no compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_globalsel.errors import UserError
    from tvm_globalsel.lowering import lower
    from tvm_globalsel.options import Options
    from tvm_globalsel.pass_ import GlobalSelection
    from tvm_globalsel.pipeline import Compiled, compile, select
    from tvm_globalsel.runtime import Deployed

__version__ = "0.1.0"

_HOMES = {
    "compile": "pipeline", "select": "pipeline", "lower": "lowering", "Options": "options", "Compiled": "pipeline",
    "GlobalSelection": "pass_", "Deployed": "runtime", "UserError": "errors",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"tvm_globalsel.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tvm_globalsel' has no attribute {name!r}")


__all__ = ["Compiled", "Deployed", "GlobalSelection", "Options", "UserError", "compile", "lower", "select"]
