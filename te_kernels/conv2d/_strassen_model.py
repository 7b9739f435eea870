"""Which levels and blockings of Strassen's product are worth measuring."""

from __future__ import annotations

from te_kernels.conv2d._strassen_geometry import StrassenGeometry
from te_kernels.conv2d._strassen_transform import StrassenTransform
from te_kernels.conv2d._transformed_model import Choice, best_blockings, direct_cycles
from te_kernels.conv2d._winograd_model import saves
from te_kernels.machine import Machine
from te_kernels.task import ConvTask

#: 1/8 and 15/64 fewer multiply-adds. A third level would add more than it saves.
_LEVELS = (1, 2)
#: What the model may see in favour of an ideal direct convolution, and Strassen's still be measured.
_PROMISING = 1.06
#: Elements of a kernel from which on Fourier's variants take it.
_FFT_ELEMENTS = 7


def minimal_filtering_saves_more(task: ConvTask) -> bool:
    """Whether Winograd's or Fourier's transform applies, which save more than a quarter of the multiplications."""
    if task.stride != (1, 1) or task.dilation != (1, 1):
        return False
    return saves(task) or task.r * task.s >= _FFT_ELEMENTS


def promising_blockings(task: ConvTask, machine: Machine, count: int) -> list[Choice[StrassenTransform]]:
    """Those of :func:`best_blockings` that the model sees near an ideal direct convolution or ahead of it.

    The task has two positions at least, and whole vectors of channels in its halves: one level applies.
    """
    transforms = [StrassenTransform(levels) for levels in _LEVELS if _applies(task, machine, levels)]
    blockings = best_blockings(task, machine, transforms, count, geometry=StrassenGeometry)
    return [choice for choice in blockings if choice.cycles < _PROMISING * direct_cycles(task, machine)]


def _applies(task: ConvTask, machine: Machine, levels: int) -> bool:
    """Whether parts are whole vectors, and the weights of two levels small.

    Those are three times the original. Where they come from memory a network saves 2 % of its time for 40 % more of it.
    """
    part_vector = machine.vector_lanes << levels
    weight_bytes = 4 * task.k * task.c * task.r * task.s * (7 / 4) ** levels
    return (
        task.c % part_vector == task.k % part_vector == 0
        and task.n * task.oh * task.ow >= 1 << levels
        and (levels == 1 or weight_bytes <= machine.l3_bytes / 8)
    )
