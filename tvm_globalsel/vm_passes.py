"""The passes between scheduled kernels and TVM's virtual machine that every target shares; memory is planned between.

TVM's default pipeline would also legalise and fuse, of which nothing is left to do, and its search for reshapes among
the kernels refuses kernels written in plain TIR.
"""

from __future__ import annotations

import tvm
from tvm import relax


def explicit_outputs() -> tvm.transform.Pass:
    """Straight-line code in which every kernel is called with a tensor that was allocated for its output."""
    return tvm.transform.Sequential(
        [relax.transform.ToNonDataflow(), relax.transform.RemovePurityChecking(), relax.transform.CallTIRRewrite()]
    )


def calling_convention() -> tvm.transform.Pass:
    """What is left to do when memory is planned."""
    return tvm.transform.Sequential(
        [
            relax.transform.LowerAllocTensor(),
            relax.transform.KillAfterLastUse(),
            relax.transform.LowerRuntimeBuiltin(),
            relax.transform.ComputePrimValue(),
            relax.transform.VMShapeLower(),
            relax.transform.AttachGlobalSymbol(),
        ]
    )
