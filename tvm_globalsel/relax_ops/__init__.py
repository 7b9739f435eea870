"""How each Relax operator becomes a task. A converter returns what the call's variable holds, or None for "opaque"."""

from tvm_globalsel.relax_ops import elementwise, layers, opaque
from tvm_globalsel.relax_ops.call import CONVERTERS, Call
from tvm_globalsel.relax_ops.folding import FOLDERS
from tvm_globalsel.relax_ops.opaque import opaque_task

__all__ = ["CONVERTERS", "FOLDERS", "Call", "elementwise", "layers", "opaque", "opaque_task"]
