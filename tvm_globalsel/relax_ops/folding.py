"""Operators of constants, computed with numpy while extracting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tvm_globalsel.relax_ops.call import Call, ints

FOLDERS: dict[str, Callable[[Call], Any]] = {}


def _fold(function: Callable[..., np.ndarray]) -> Callable[[Call], Any]:
    return lambda call: np.asarray(function(*call.args))


FOLDERS.update(
    {
        "relax.reshape": lambda call: call.args[0].reshape(call.out_shape),
        "relax.squeeze": lambda call: call.args[0].reshape(call.out_shape),
        "relax.expand_dims": lambda call: call.args[0].reshape(call.out_shape),
        "relax.broadcast_to": lambda call: np.broadcast_to(call.args[0], call.out_shape),
        "relax.permute_dims": lambda call: call.args[0].transpose(
            ints(call.attrs.axes) if call.attrs.axes is not None else None
        ),
        "relax.add": _fold(np.add),
        "relax.multiply": _fold(np.multiply),
        "relax.subtract": _fold(np.subtract),
        "relax.divide": _fold(np.divide),
        "relax.sqrt": _fold(np.sqrt),
    }
)
