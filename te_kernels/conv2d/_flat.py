"""A pointwise convolution seen as one row of all pixels, so that register tiles need not end where rows end.

The flat view is another task, not another schedule: index arithmetic that cuts a flat position into row and column
keeps TIR from seeing which accumulators a tile touches, and they end up in memory instead of registers.
"""

from __future__ import annotations

import dataclasses

import tvm
from tvm import s_tir, tirx

from te_kernels.layout import Layout
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts


def flattened(task: ConvTask) -> ConvTask:
    """The same convolution on a map of one row; in every layout its tensors are the same bytes."""
    if not task.pointwise:
        raise ValueError(f"only a pointwise convolution has a flat view, not {task}")
    return dataclasses.replace(task, h=1, w=task.h * task.w)


def on_map(func: tvm.tirx.PrimFunc, task: ConvTask, layouts: Layouts) -> tvm.tirx.PrimFunc:
    """A kernel of ``flattened(task)``, with data inputs and output in the shapes of ``task``."""
    params = list(func.params)
    names, shapes = [*layouts.inputs, layouts.output], [*task.input_shapes, task.output_shape]
    places = [*range(len(task.input_shapes)), len(params) - 1]
    aliases = []
    for place, name, shape in zip(places, names, shapes, strict=True):
        row = params[place]
        params[place] = tirx.decl_buffer(Layout(name).physical_shape(shape), "float32", name=row.name)
        aliases.append(tirx.DeclBuffer(row, data=params[place].data))
    root = func.body.block
    body = s_tir.SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, tirx.SeqStmt([*aliases, root.body]),
        root.init, root.alloc_buffers, root.match_buffers, root.annotations,
    )  # fmt: skip
    realized = s_tir.SBlockRealize([], tirx.const(True, "bool"), body)
    return tirx.PrimFunc(params, realized, func.ret_type, func.attrs)
