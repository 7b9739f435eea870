"""List the variants, and for one or two convolutions which apply and why the others do not."""

from __future__ import annotations

from rich.table import Table

from te_kernels.task import ConvTask, PairTask, Task
from te_kernels.variant import all_variants
from tvm_globalsel.candidates import candidates_for
from tvm_globalsel.errors import UserError
from tvm_globalsel.options import Options
from tvm_globalsel.report.tables import SAID_ELSEWHERE, console_for_tables
from tvm_globalsel.targets import describe_target, parse_target


def list_variants(convs: list[tuple[int, ...]], options: Options) -> None:
    """Print all variants, or those of one layer (C, H, W, K, R, S, stride, pad, groups), or of two by one kernel."""
    console = console_for_tables()
    if not convs:
        table = Table("task", "variant", "family", "what", title="variants")
        for variant in sorted(all_variants().values(), key=lambda v: (v.task_type.kind, v.family, v.name)):
            table.add_row(variant.task_type.kind, variant.name, variant.family, variant.title)
        console.print(table)
        return
    task = _task(convs)
    machine = describe_target(parse_target(options.target, options.threads), options)
    found = candidates_for(task, machine)
    table = Table("variant", "family", "layouts", "knobs", title=f"applicable ({task.flops / 1e9:.3f} GFLOP)")
    for instance in found.variants:
        knobs = " ".join(f"{name}={value}" for name, value in instance.knobs.items() if name not in SAID_ELSEWHERE)
        table.add_row(instance.name, instance.family, str(instance.layouts(task)), knobs)
    console.print(table)
    for rejection in found.rejections:
        console.print(f"{rejection.variant}: not applicable: {rejection.reason}", highlight=False, soft_wrap=True)


def _task(convs: list[tuple[int, ...]]) -> Task:
    shown = " ".join(f"--conv {','.join(map(str, conv))}" for conv in convs)
    try:
        layers = [
            ConvTask(1, c, h, w, k, r, s, (stride, stride), (pad,) * 4, (1, 1), groups)
            for c, h, w, k, r, s, stride, pad, groups in convs
        ]
        if len(layers) > 2:
            raise ValueError("no kernel does more than two layers")
        return PairTask(*layers) if len(layers) == 2 else layers[0]
    except ValueError as error:
        raise UserError(f"{shown}: {error}", "check the nine numbers") from error
