"""What a user types, right and wrong: every mistake gives one clear line, exit code 2 and no traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.globalsel import nets
from tests.globalsel.commands import ROOT, command


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("globalsel: error: ")
    for part in parts:
        assert part in message, message


def test_missing_file(tmp_path: Path) -> None:
    assert_refused(command("compile", tmp_path / "no.onnx", "-o", tmp_path / "o"), "no.onnx: no such file")


def test_truncated_file(tmp_path: Path) -> None:
    whole = tmp_path / "whole.onnx"
    onnx.save(nets.tiny(), whole)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole.read_bytes()[:-500])
    assert_refused(command("compile", cut, "-o", tmp_path / "o"), "cut.onnx: not a readable ONNX model")
    cut.write_bytes(b"")
    assert_refused(command("compile", cut, "-o", tmp_path / "o"), "cut.onnx: the model has no operators")


def test_dynamic_shape(tmp_path: Path) -> None:
    net = nets.NetBuilder()
    onnx.save(net.model(net.conv("x", 3, 8, 1), dynamic=True), tmp_path / "d.onnx")
    done = command("compile", tmp_path / "d.onnx", "-o", tmp_path / "o")
    assert_refused(done, "input 'x' has a dynamic shape (batch)", "--shape x=1,3,20,20")


def test_wrong_shape_name(tmp_path: Path) -> None:
    onnx.save(nets.tiny(), tmp_path / "t.onnx")
    done = command("compile", tmp_path / "t.onnx", "-o", tmp_path / "o", "--shape", "y=1,3,20,20")
    assert_refused(done, "--shape names ['y']", "the inputs are ['x']")


def test_unsupported_operator(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gurgle", ["x"], ["z"], name="odd_one")], "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 3])], [onnx.helper.make_tensor_value_info("z", 1, [1, 3])],
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph), tmp_path / "u.onnx")
    done = command("compile", tmp_path / "u.onnx", "-o", tmp_path / "o")
    assert_refused(done, "u.onnx: node 'odd_one': operator Gurgle is not supported")


def test_refusals_are_one_line_that_names_the_file(tmp_path: Path) -> None:
    x, z = (onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [1, 3, 8, 8]), ("z", None)))
    k = onnx.numpy_helper.from_array(np.array([2]), "k")
    w = onnx.numpy_helper.from_array(np.ones((4, 5, 3, 3), np.float32), "w")  # five channels where x has three
    top = onnx.helper.make_node("TopK", ["x", "k"], ["z", "i"])
    for node, constant in ((top, k), (onnx.helper.make_node("Conv", ["x", "w"], ["z"]), w)):
        graph = onnx.helper.make_graph([node], "g", [x], [z], [constant])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, tmp_path / "refused.onnx")
        done = command("compile", tmp_path / "refused.onnx", "-o", tmp_path / "o", "--tuning-log", tmp_path / "log")
        assert_refused(done, "refused.onnx: ")
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr  # neither TVM nor onnx has a word


def test_unknown_layout_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    onnx.save(nets.tiny(), tmp_path / "t.onnx")
    arguments = ("compile", tmp_path / "t.onnx", "-o", tmp_path / "o", "--tuning-log", tmp_path / "log")
    done = command(*arguments, "--solver", "single:FOO", "--threads", 5000)
    assert_refused(done, "--solver single:FOO: there is no layout 'FOO'", "NHWC")
    assert "warning: --threads 5000: this process may use" in done.stderr
    assert (tmp_path / "log").read_text() == ""


def test_unwritable_output(tmp_path: Path) -> None:
    onnx.save(nets.tiny(), tmp_path / "t.onnx")
    (tmp_path / "file").write_text("in the way")
    assert_refused(command("compile", tmp_path / "t.onnx", "-o", tmp_path / "file" / "o"), "cannot write into")


def test_unwritable_log(tmp_path: Path) -> None:
    onnx.save(nets.tiny(), tmp_path / "t.onnx")
    done = command("compile", tmp_path / "t.onnx", "-o", tmp_path / "o", "--tuning-log", tmp_path)
    assert_refused(done, "is a folder", "tuning log")


def test_corrupt_line_in_the_log_is_a_warning(tiny: tuple[Path, Path], log: Path, tmp_path: Path) -> None:
    copy = tmp_path / "log.jsonl"
    copy.write_text("{broken\n" + log.read_text())
    # no time: what other tests have added to the log may make a search go on, but a lost log would have to be measured
    done = command("compile", tiny[0], "-o", tmp_path / "o", "--tuning-log", copy, "--budget", 0)
    assert done.returncode == 0, done.stderr
    assert "1 line(s) are not tuning records and were skipped (line 1)" in done.stderr
    assert "measured 0 kernels" in done.stdout


def test_a_full_disk_is_no_defect(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tvm_globalsel import cli
    from tvm_globalsel.commands import running

    def full(args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/weights.bin")

    monkeypatch.setattr(running, "_run", full)
    assert cli.main(["run", "out"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("globalsel: error: out/weights.bin: No space left on device; make room")
    assert "defect" not in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("{bad", "not a TVM target"),
        ("opencl", "neither an llvm nor a cuda target"),
        ("no/such-tag", "not a TVM target"),
    ],
)
def test_bad_target(tiny: tuple[Path, Path], tmp_path: Path, target: str, part: str) -> None:
    assert_refused(command("compile", tiny[0], "-o", tmp_path / "o", "--target", target), part)


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    onnx.save(nets.everything(), tmp_path / "e.onnx")
    log_file = tmp_path / "log.jsonl"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tvm_globalsel", "compile", str(tmp_path / "e.onnx"), "-o", str(tmp_path / "o"),
         "--tuning-log", str(log_file)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        # a test run in the background inherits an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (log_file.exists() and log_file.stat().st_size):
        time.sleep(0.2)
        assert process.poll() is None, process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; what was measured is in the tuning log" in stderr
    assert "Traceback" not in stderr
    lines = log_file.read_text().splitlines()
    assert lines and all(json.loads(line)["v"] == 1 for line in lines)
    assert not (tmp_path / "o" / "plan.json").exists()
    assert [path.name for path in temporary.iterdir() if "locks" not in path.name] == []


def test_run_reports_latency_and_writes_outputs(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 20, 20), dtype=np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    done = command(
        "run", tiny[1], "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz", "--repeat", 5, "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0 < result["min_ms"] <= result["median_ms"]
    assert next(iter(np.load(tmp_path / "y.npz").values())).shape == (1, 24, 10, 10)


def test_run_refuses_wrong_inputs(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 3, 8, 8), np.float32))
    assert_refused(command("run", tiny[1], "--input", tmp_path / "x.npz"), "input 'x' is float32[1, 3, 8, 8]", "20, 20")
    np.savez(tmp_path / "x.npz", y=np.zeros(3))
    assert_refused(command("run", tiny[1], "--input", tmp_path / "x.npz"), "inputs are ['y']")
    (tmp_path / "x.npz").write_bytes(b"junk")
    assert_refused(command("run", tiny[1], "--input", tmp_path / "x.npz"), "not a readable .npz")
    assert_refused(command("run", tmp_path), "cannot read the plan")


def test_explain(tiny: tuple[Path, Path]) -> None:
    done = command("explain", tiny[1])
    assert done.returncode == 0, done.stderr
    for part in ("conv0", "conv2", "Proven optimal by pbqp", "sum2d", "local", "single layout NHWC"):
        assert part in done.stdout
    node = command("explain", tiny[1], "--node", "conv2")
    assert re.search(r"depthwise_\w+: not applicable: ", node.stdout)
    assert "choices for conv2" in node.stdout
    assert_refused(command("explain", tiny[1], "--node", "conv"), "no operator 'conv'", "did you mean conv0")


def test_variants() -> None:
    done = command("variants")
    for name in (
        "sum2d",
        "direct_nchwc",
        "direct_nhwc",
        "winograd_nhwc",
        "im2col_gemm",
        "im2row_gemm",
        "depthwise_nhwc",
    ):
        assert name in done.stdout
    shaped = command("variants", "--conv", "64,14,14,32,3,3,3,1,1")
    assert re.search(r"winograd_nhwc: not applicable: .*stride", shaped.stdout)
    assert_refused(command("variants", "--conv", "4,4,4,4,9,9,1,0,1"), "larger than the padded input")
    first, second = ("--conv", "16,14,14,96,1,1,1,0,1"), ("--conv", "96,14,14,96,3,3,1,1,96")
    assert "expand_depthwise_nhwc" in command("variants", *first, *second).stdout
    assert "the second is not depthwise" in command("variants", *first, "--conv", "96,14,14,8,3,3,1,1,1").stdout
    assert_refused(command("variants", *second, *first), "the second reads")
    assert_refused(command("variants", *first, *second, *second), "more than two")


def test_explain_gives_exact_reasons(tiny: tuple[Path, Path]) -> None:
    from tvm_globalsel.report.why import close_calls, fastest_alone, fastest_alone_sentence

    node = {
        "name": "n", "cost_s": 3e-3,
        "alternatives": [{"variant": "b", "in": ["NHWC"], "out": "NHWC", "cost_s": 2e-3, "regret_s": 5e-4}],
    }  # fmt: skip
    assert "saves 1.000 ms here and costs 1.500 ms elsewhere" in (fastest_alone_sentence(node) or "")
    assert close_calls({"nodes": [node]})[0].relative_margin == pytest.approx(5e-4 / 3e-3)
    assert fastest_alone({**node, "cost_s": 1e-3}) is None
    assert "Closest call: " in command("explain", tiny[1]).stdout


def test_damaged_library_is_refused_before_it_is_loaded(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("model.so", "plan.json", "weights.bin"):
        (tmp_path / name).write_bytes((tiny[1] / name).read_bytes())
    whole = (tmp_path / "model.so").read_bytes()
    (tmp_path / "model.so").write_bytes(whole[:5000])
    assert_refused(command("run", tmp_path), "not the library that plan.json belongs to")
    (tmp_path / "model.so").write_bytes(whole)
    assert command("run", tmp_path).returncode == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({**plan, "threads": "x; rm"}))
    assert_refused(command("run", tmp_path), "not a readable plan")


def test_no_time_at_all_still_gives_a_plan(tmp_path: Path) -> None:
    onnx.save(nets.tiny(), tmp_path / "t.onnx")
    done = command("compile", tmp_path / "t.onnx", "-o", tmp_path / "o", "--tuning-log", tmp_path / "l", "--budget", 0)
    assert done.returncode == 0, done.stderr
    assert "left out for lack of time" in done.stdout
    assert command("check", tmp_path / "o", tmp_path / "t.onnx").returncode == 0
