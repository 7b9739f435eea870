"""Tasks: the shape of one operator, stated once. Everything else (arguments, oracle, FLOPs, log key) derives from it.

Every task names its data inputs by logical shape, its constant parameters by shape, and has a float64 numpy oracle.
Shapes are logical: ``(N, C, H, W)`` for rank 4.
"""

from te_kernels.epilogue import Step
from te_kernels.task.base import Shape, Task
from te_kernels.task.channels import ConcatTask, EltwiseTask, LrnTask, ShuffleTask, SoftmaxTask
from te_kernels.task.codec import TASK_TYPES, from_dict
from te_kernels.task.layers import ConvTask, DenseTask, PoolTask
from te_kernels.task.moves import CastTask, OpaqueTask, TransformTask, ViewTask
from te_kernels.task.pair import PairTask

__all__ = [
    "TASK_TYPES", "CastTask", "ConcatTask", "ConvTask", "DenseTask", "EltwiseTask", "LrnTask", "OpaqueTask",
    "PairTask", "PoolTask", "Shape", "ShuffleTask", "SoftmaxTask", "Step", "Task", "TransformTask", "ViewTask",
    "from_dict",
]  # fmt: skip
