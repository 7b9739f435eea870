"""The padding of maps that windows go over."""

from __future__ import annotations

import numpy as np

from te_kernels.task import ConvTask, PoolTask

#: What no maximum is: the padding of a max pool.
LOWEST = float(np.finfo(np.float32).min)


def padded_width(task: ConvTask | PoolTask) -> int:
    """Pixels of a row of the task's input with the padding that its windows reach."""
    reached = (task.ow - 1) * task.stride[1] + (task.s - 1) * task.dilation[1] + 1
    return max(task.pad[1] + task.w, reached)
