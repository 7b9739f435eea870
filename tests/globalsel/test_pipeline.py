"""The whole compiler on small networks: agrees with ONNX Runtime, proven optimal, transforms as the solution says."""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import tvm

from te_kernels.layout import Layout, same_bytes
from tests.globalsel import nets
from tests.globalsel.commands import ROOT, command
from tvm_globalsel.build import WeightsAsArguments, vm_pipeline
from tvm_globalsel.choices import Deferred, layouts_of
from tvm_globalsel.frontends.onnx import import_onnx, prepare
from tvm_globalsel.lowering import fit, lower
from tvm_globalsel.options import Options
from tvm_globalsel.pass_ import GlobalSelection
from tvm_globalsel.pipeline import compile, select
from tvm_globalsel.rewrite import count_transforms, lower_transforms, rewrite
from tvm_globalsel.selection import interpret
from tvm_globalsel.solve import solve


def test_tiny_agrees_with_onnx_runtime(tiny: tuple[Path, Path]) -> None:
    model, folder = tiny
    done = command("check", folder, model)
    assert done.returncode == 0, done.stderr
    assert "agrees with ONNX Runtime" in done.stdout
    assert sorted(p.name for p in folder.iterdir()) == ["model.so", "plan.json", "weights.bin"]


def test_check_fails_for_other_weights(tiny: tuple[Path, Path]) -> None:
    model, folder = tiny
    done = command("check", folder, model, "--seed-weights", 5)
    assert done.returncode == 1
    assert "DIFFERS" in done.stdout


def test_everything_network(tmp_path: Path, log: Path) -> None:
    model = tmp_path / "everything.onnx"
    onnx.save(nets.everything(), model)
    compiled = compile(model, tmp_path / "out", Options(tuning_log=log))
    assert compiled.plan["certificate"]["optimal"]
    done = command("check", tmp_path / "out", model)
    assert done.returncode == 0, done.stdout + done.stderr


def test_second_run_measures_nothing(tiny: tuple[Path, Path], tmp_path: Path, log: Path) -> None:
    model, _ = tiny
    again = compile(model, tmp_path / "again", Options(tuning_log=log))
    assert again.plan["tuning"]["measured"] == 0
    assert again.plan["tuning"]["from_log"] > 20


def test_plan_orders_and_certificate(tiny: tuple[Path, Path]) -> None:
    plan = json.loads((tiny[1] / "plan.json").read_text())
    totals = plan["predicted_s"]
    assert plan["certificate"]["optimal"] and plan["certificate"]["gap"] == 0
    assert plan["certificate"]["seconds"] < 2
    for name, total in totals.items():
        if total is not None:
            assert totals["global"] <= total + 1e-12, name
    paid = sum(n["cost_s"] for n in plan["nodes"]) + sum(t["cost_s"] for t in plan["transforms"])
    assert paid == pytest.approx(totals["selected"])
    assert all(other["regret_s"] is None or other["regret_s"] >= -1e-12 for n in plan["nodes"]
               for other in n["alternatives"])  # fmt: skip


@pytest.mark.parametrize("solver", ["pbqp", "milp", "local", "greedy", "single:NHWC", "sum2d"])
def test_transforms_stand_only_where_the_solution_asks(solver: str, log: Path) -> None:
    imported = import_onnx(prepare(nets.everything()))
    selected = select(imported.module, Options(tuning_log=log, solver=solver), imported.names)
    rewritten = rewrite(selected.network, selected.selection, selected.machine)
    wanted = selected.selection.transforms
    assert count_transforms(rewritten) == len(wanted)
    chosen = {name: measured.variant for name, measured in selected.selection.variants.items()}
    demanded = {
        (name, layout)
        for op in selected.network.operators
        for name, layout in zip(op.inputs, layouts_of(op, chosen[op.name]).inputs, strict=True)
    }
    sources = {(t.value, t.task.source) for t in wanted}
    for transform in wanted:  # every one of them has a reader
        made = (transform.value, transform.task.destination)
        assert made in demanded or made in sources or transform.value in selected.network.outputs
    lowered = lower_transforms(rewritten, lambda t: selected.costs.transforms[t.key].variant, selected.machine)
    assert count_transforms(lowered) == 0
    calls = [b.value for block in lowered["main"].body.blocks for b in block.bindings]
    kernels = [c for c in calls if isinstance(c, tvm.relax.Call) and getattr(c.op, "name", "") == "relax.call_tir"]
    moved = [t for t in wanted if not same_bytes(t.task.shape, Layout(t.task.source), Layout(t.task.destination))]
    running = [op for op in selected.network.operators
               if op.task.kind != "view" and not isinstance(chosen[op.name], Deferred)]  # fmt: skip
    assert len(kernels) == len(running) + len(moved)


def test_rewritten_module_stands_by_itself(log: Path) -> None:
    """Before our transforms are lowered, TVM's own lowering of ``layout_transform`` computes the same network."""
    from tests.globalsel.test_extract import random_inputs
    from tvm_globalsel.verify import reference_session, relative_error

    model = prepare(nets.tiny())
    imported = import_onnx(model)
    selected = select(imported.module, Options(tuning_log=log, solver="single:NCHW16c"), imported.names)
    rewritten = rewrite(selected.network, selected.selection, selected.machine)
    legal = tvm.relax.transform.LegalizeOps()(rewritten)
    from tvm_globalsel.build import build

    vm = tvm.relax.VirtualMachine(build(legal, selected.target), tvm.cpu())
    inputs = random_inputs(model, 1)
    got = vm["main"](tvm.runtime.tensor(inputs["x"])).numpy()
    assert relative_error(got, reference_session(model).run(None, inputs)[0]) < 1e-5


def test_selection_composes_as_a_relax_pass(log: Path) -> None:
    from tvm_globalsel.build import build

    imported = import_onnx(prepare(nets.tiny()))
    selection = GlobalSelection(Options(tuning_log=log))
    module = tvm.transform.Sequential([tvm.relax.transform.CanonicalizeBindings(), selection])(imported.module)
    assert selection.selected.selection.solution.optimal
    assert build(module, selection.selected.target) is not None


def test_solvers_agree_on_measured_costs(log: Path) -> None:
    imported = import_onnx(prepare(nets.everything()))
    selected = select(imported.module, Options(tuning_log=log), imported.names)
    problem = selected.selection.problem
    exact, milp = solve(problem, "pbqp"), solve(problem, "milp")
    assert math.isclose(exact.cost_s, milp.cost_s, rel_tol=1e-9)
    assert interpret(selected.network, selected.costs, problem, milp).solution.optimal
    assert lower(selected) is not None


def test_deployed_module_loads_no_compiler(tiny: tuple[Path, Path]) -> None:
    script = (
        "import sys; from tvm_globalsel.runtime import Deployed; d = Deployed(sys.argv[1]); "
        "d.run(d.random_inputs()); print('compiler' in open('/proc/self/maps').read() or 'tvm' in sys.modules)"
    )
    env = {k: v for k, v in os.environ.items() if k != "TVM_USE_RUNTIME_LIB"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny[1])], capture_output=True, text=True, check=False, cwd=ROOT, env=env
    )
    assert done.stdout.strip() == "False", done.stdout + done.stderr


def test_nan_is_no_agreement() -> None:
    from tvm_globalsel.verify import relative_error

    clean, broken = np.array([1.0, 2.0]), np.array([np.nan, 2.0])
    assert relative_error(clean, broken) == relative_error(broken, clean) == math.inf
    assert relative_error(broken, broken) == 0.0


def test_deploying_does_not_hinder_the_next_compilation(tiny: tuple[Path, Path]) -> None:
    from tvm_globalsel.runtime import Deployed

    deployed = Deployed(tiny[1])
    assert deployed.run(deployed.random_inputs())
    assert "TVM_USE_RUNTIME_LIB" not in os.environ


def test_weights_are_freed(log: Path) -> None:
    """TVM never frees a Python mutator; what ours held was once a whole network's weights for each plan built."""
    net = nets.NetBuilder((1, 4096))
    weight = net.constant(net.rng.standard_normal((4096, 4096)).astype("float32"), "w")
    imported = import_onnx(prepare(net.model(net.node("Gemm", ["x", weight]))))
    selected = select(imported.module, Options(tuning_log=log), imported.names)
    used = []
    for _ in range(5):
        _, lowered = fit(selected)
        outside = WeightsAsArguments()
        tvm.transform.Sequential([vm_pipeline(), outside])(lowered)
        assert sum(array.nbytes for array in outside.weights) == 64 << 20
        del lowered, outside
        gc.collect()
        used.append(psutil.Process().memory_info().rss)
    assert used[-1] - used[0] < 100 << 20, used
