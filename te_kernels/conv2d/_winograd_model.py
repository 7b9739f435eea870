"""Which tile sizes and blockings of Winograd's minimal filtering are worth measuring."""

from __future__ import annotations

import dataclasses
import itertools
import math

from te_kernels.conv2d._transformed_geometry import Blocking
from te_kernels.conv2d._transformed_model import ranked
from te_kernels.conv2d._winograd_transform import WinogradTransform
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv

#: Outputs along one axis of a tile, by the kernel's length on it. Beyond them the error grows fast: F(7 x 7, 3 x 3) has
#: 3e-5 of the largest output, F(8 x 8, 3 x 3) 9e-5, for an eighth fewer products.
OUTPUTS = {1: (1,), 3: (2, 3, 4, 5, 6, 7), 5: (2, 3, 4, 5), 7: (2, 3)}


def promising_blockings(task: ConvTask, machine: Machine, count: int) -> list[tuple[WinogradTransform, Blocking]]:
    """The ``count`` fastest by the model if the weights lie in L3, and as many more if they lie in memory.

    No two of one case have the same tile size. Each is in chunks of one register tile's channels, which the model sees
    up to 6 % behind and which were 3 to 19 % ahead on a Zen 4 core; the first of each case in the model's chunks too.
    Measured there on eleven layers of 7x7 to 224x224, the best of these (six at most) loses 1.3 % on the best
    measured one, 6 % on one layer.
    """
    transforms = _worthwhile(task)
    chosen: list[tuple[WinogradTransform, Blocking]] = []
    for from_memory in (False, True):
        sizes: list[WinogradTransform] = []
        for choice in ranked(task, machine, transforms, from_memory):
            transform, smallest = choice.transform, dataclasses.replace(choice.blocking, chunk=1)
            if transform in sizes or (transform, smallest) in chosen or len(sizes) == count:
                continue
            if not sizes and choice.blocking != smallest:
                chosen.append((transform, choice.blocking))
            chosen.append((transform, smallest))
            sizes.append(transform)
    return chosen


def _worthwhile(task: ConvTask) -> list[WinogradTransform]:
    """Tile sizes of which no other has as few products a tile (and weights) and as few in all."""
    scored = []
    for m, n in itertools.product(OUTPUTS[task.r], OUTPUTS[task.s]):
        if m <= task.oh + 1 and n <= task.ow + 1:
            transform = WinogradTransform(m, n, task.r, task.s)
            products = transform.positions * cdiv(task.oh, m) * cdiv(task.ow, n)
            scored.append((transform.positions, products, m, n))
    front: list[WinogradTransform] = []
    fewest = math.inf
    for _, products, m, n in sorted(scored):
        if products < fewest:
            fewest = products
            front.append(WinogradTransform(m, n, task.r, task.s))
    return front
