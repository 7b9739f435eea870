"""TVM's own tuner, MetaSchedule, beside globalsel: the same network, the same seconds of tuning, an empty log each.

usage: scripts/compare_metaschedule NET_OR_MODEL.onnx ... [--seconds S] [--threads N] [--trials TRIALS_A_TASK]

MetaSchedule in TVM 0.27 does tune Relax (``relax_integration``, then ``MetaScheduleApplyDatabase``), with provisions
made here. The builder gets a build function of its own, because the default one imports all tensor intrinsics in every
worker and times out. Time cannot be bounded, only trials, and ``tune_relax`` would spend the first minutes on softmax
and reshapes, because its first pass goes through all tasks in no useful order: so the tasks are tuned
one by one here, those with most FLOPs in the network first, round after round until the seconds are spent, and the
task under way is finished. What had no trials runs under TVM's default schedule. Latencies are medians of runs in one
process, the two modules in turns; both are compared with ONNX Runtime.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.s_tir import meta_schedule as ms

from te_kernels.machine import host_target
from tvm_globalsel.frontends.onnx import import_onnx, load_model, prepare
from tvm_globalsel.options import Options
from tvm_globalsel.pipeline import compile
from tvm_globalsel.runtime import Deployed
from tvm_globalsel.verify import reference_session, relative_error

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def build_kernel(mod: tvm.IRModule, target: tvm.target.Target, params: Any) -> tvm.runtime.Module:
    """For MetaSchedule's builder processes."""
    import tvm

    return tvm.tirx.build(mod, target=target)


def _flops(task: Any) -> float:
    """Of all occurrences of a task in the network."""
    return float(tvm.s_tir.analysis.estimate_tir_flops(task.dispatched[0])) * task.weight


def metaschedule(
    model: onnx.ModelProto, target: tvm.target.Target, seconds: float, trials_a_task: int
) -> tuple[Any, int, float]:
    """(executable, trials, seconds used)."""
    module = import_onnx(model, "net").module
    prepared = tvm.transform.Sequential([
        relax.transform.LegalizeOps(), relax.transform.AnnotateTIROpPattern(), relax.transform.FoldConstant(),
        relax.transform.FuseOps(), relax.transform.FuseTIR(),
    ])  # fmt: skip
    builder = ms.builder.LocalBuilder(timeout_sec=30, f_build=build_kernel)
    evaluation = ms.runner.EvaluatorConfig(number=1, repeat=3, min_repeat_ms=10)
    runner = ms.runner.LocalRunner(timeout_sec=10, evaluator_config=evaluation)
    with target, tvm.transform.PassContext(opt_level=3), tempfile.TemporaryDirectory() as folder:
        fused = prepared(module)
        integration = ms.relax_integration
        tasks = sorted(integration.extract_tasks(fused, target), key=_flops, reverse=True)
        start, trials, seed = time.monotonic(), 0, 0
        while time.monotonic() - start < seconds:
            task, seed = tasks[seed % len(tasks)], seed + 1
            contexts, weights = integration.extracted_tasks_to_tune_contexts([task], folder, seed=seed)
            ms.tune.tune_tasks(
                tasks=contexts, task_weights=weights, work_dir=folder, max_trials_global=trials_a_task,
                num_trials_per_iter=trials_a_task, builder=builder, runner=runner,
            )  # fmt: skip
            trials += trials_a_task
        used = time.monotonic() - start
        tuned = relax.transform.MetaScheduleApplyDatabase(folder)(fused)
    return tvm.compile(tuned, target=target), trials, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="+")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trials", type=int, default=16, help="of one task at a time (default 16)")
    args = parser.parse_args()
    print("| network | globalsel ms | kernels | tuned in s | MetaSchedule ms | trials | tuned in s | errors |")
    print("|" + " --- |" * 8, flush=True)
    for net in args.nets:
        path = Path(net) if net.endswith(".onnx") else LIGHT / f"light_{net}.onnx"
        model = prepare(load_model(path), {}, None if net.endswith(".onnx") else 0)
        target = host_target(args.threads)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log.jsonl"
            options = Options(threads=args.threads, budget_s=args.seconds, tuning_log=log)
            tuning = compile(model, Path(folder) / "out", options).plan["tuning"]
            deployed = Deployed(Path(folder) / "out", args.threads)
            executable, trials, used = metaschedule(model, target, args.seconds, args.trials)
            print(row(net, model, deployed, tuning, executable, trials, used), flush=True)


def row(
    net: str, model: onnx.ModelProto, deployed: Deployed, tuning: dict[str, Any], executable: Any, trials: int,
    used: float,
) -> str:  # fmt: skip
    """Time both in turns on the same inputs, compare both with ONNX Runtime."""
    machine = relax.VirtualMachine(executable, tvm.cpu())
    inputs = deployed.random_inputs()
    tensors = [tvm.runtime.tensor(array) for array in inputs.values()]
    expected = reference_session(model).run(None, inputs)
    ours = list(deployed.run(inputs).values())
    theirs = machine["main"](*tensors)
    theirs = [theirs] if hasattr(theirs, "numpy") else list(theirs)
    answers = (ours, [np.asarray(tensor.numpy()) for tensor in theirs])
    errors = [max(relative_error(g, e) for g, e in zip(got, expected, strict=True)) for got in answers]
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(10):
        taken[0].extend(deployed.latencies_s(inputs, 3))
        start = time.perf_counter()
        machine["main"](*tensors)
        taken[1].append(time.perf_counter() - start)
    mine, other = (statistics.median(times) * 1e3 for times in taken)
    cells = [net, f"{mine:.2f}", tuning["measured"], f"{tuning['seconds']:.0f}", f"{other:.2f}", trials, f"{used:.0f}",
             " and ".join(f"{error:.1e}" for error in errors)]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
