"""Bundles: packed here, measured by a process that has nothing but the bundle, compiled from the log that it wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest

from te_kernels.machine import host_target
from tests.globalsel import nets
from tvm_globalsel.bundle.archive import BundleWriter
from tvm_globalsel.bundle.launch import launch
from tvm_globalsel.bundle.pack import Packed, Packing, pack_tuning
from tvm_globalsel.errors import UserError
from tvm_globalsel.options import Options
from tvm_globalsel.pipeline import compile
from tvm_globalsel.verify import verify

ROOT = Path(__file__).parents[2]


def run_bundle(bundle: Path, log: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """As on a machine that has Python and nothing else: no site-packages, no environment, no compiler in the path."""
    return subprocess.run(
        [sys.executable, "-S", "-I", str(bundle), "-o", str(log), *more],
        env={"PATH": str(log.parent), "TMPDIR": str(log.parent)}, cwd=log.parent,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Packed]:
    """(model, what was packed for it): one convolution, a handful of variants and transforms."""
    folder = tmp_path_factory.mktemp("bundle")
    net = nets.NetBuilder((1, 8, 5, 5), seed=3)
    onnx.save(net.model(net.node("MaxPool", [net.conv("x", 8, 8, 1)], kernel_shape=[5, 5])), folder / "net.onnx")
    options = Options(tuning_log=folder / "none.jsonl")
    return folder / "net.onnx", pack_tuning([folder / "net.onnx"], folder / "net.pyz", options)


@pytest.fixture(scope="module")
def tuned(packed: tuple[Path, Packed]) -> Path:
    """The log that the bundle wrote."""
    log = packed[0].parent / "log.jsonl"
    done = run_bundle(packed[1].path, log)
    assert done.returncode == 0, done.stderr
    return log


def test_round_trip_measures_nothing_here(packed: tuple[Path, Packed], tuned: Path, tmp_path: Path) -> None:
    model, bundle = packed
    assert bundle.kernels > 20 and bundle.failed == bundle.left_out == 0
    records = [json.loads(line) for line in tuned.read_text().splitlines()]
    assert {record["error"] for record in records} == {None}
    assert all(record["relative_error"] < 2e-5 and len(record["costs_s"]) == 5 for record in records)
    assert {record["task"]["kind"] for record in records} == {"conv2d", "pool2d", "transform"}
    log = Path(shutil.copy(tuned, tmp_path / "log.jsonl"))  # compiling adds what it learns of the machine
    compiled = compile(model, tmp_path / "out", Options(tuning_log=log))
    assert compiled.plan["tuning"]["measured"] == 0
    assert verify(tmp_path / "out", model, None, 1e-4).passed


def test_what_is_in_the_log_is_neither_measured_nor_packed_again(
    packed: tuple[Path, Packed], tuned: Path, tmp_path: Path
) -> None:
    before = tuned.read_text()
    again = run_bundle(packed[1].path, tuned)
    assert again.returncode == 0 and "0 measured" in again.stderr
    assert tuned.read_text() == before
    with pytest.raises(UserError, match="every measurement already"):
        pack_tuning([packed[0]], tmp_path / "nothing.pyz", Options(tuning_log=tuned))
    half = tmp_path / "half.jsonl"
    half.write_text("".join(before.splitlines(keepends=True)[::2]))
    rest = pack_tuning([packed[0]], tmp_path / "rest.pyz", Options(tuning_log=half), Packing(max_kernels=1))
    assert rest.known == len(half.read_text().splitlines())
    assert (rest.kernels, rest.left_out) == (1, packed[1].kernels - rest.known - 1)


def test_a_bundle_that_was_interrupted_goes_on(packed: tuple[Path, Packed], tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    stopped = run_bundle(packed[1].path, log, "--budget", "0")
    assert stopped.returncode == 1 and "the time was up" in stopped.stderr
    assert run_bundle(packed[1].path, log).returncode == 0
    assert log.read_text()


def test_measurements_of_another_device(packed: tuple[Path, Packed], tuned: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in tuned.read_text().splitlines()]
    target = str(host_target(1))

    def write(log: Path, *devices: str) -> Options:
        every = [{**line, "context": {**line["context"], "device": device}} for device in devices for line in lines]
        log.write_text("".join(json.dumps(line) + "\n" for line in every))
        return Options(target=target, tuning_log=log, budget_s=0)

    alone = compile(packed[0], tmp_path / "a", write(tmp_path / "one.jsonl", "Board 1"))
    assert alone.plan["device"] == "Board 1"
    assert alone.plan["tuning"]["measured"] == 0
    both = write(tmp_path / "two.jsonl", "Board 1", "Board 2")
    with pytest.raises(UserError, match=r"several devices: 'Board 1', 'Board 2'; say which with --device"):
        compile(packed[0], tmp_path / "b", both)
    named = compile(packed[0], tmp_path / "c", Options(target=target, tuning_log=both.tuning_log, device="Board 2"))
    assert named.plan["device"] == "Board 2"
    with pytest.raises(UserError, match="'Board 3': the tuning log has no measurements"):
        compile(packed[0], tmp_path / "d", Options(target=target, tuning_log=both.tuning_log, device="Board 3"))


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "empty", "no bundle"])
def test_a_damaged_bundle_is_refused(packed: tuple[Path, Packed], tmp_path: Path, damage: str) -> None:
    data = bytearray(packed[1].path.read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "overwritten":  # in the middle of the largest member, which its checksum tells
        with zipfile.ZipFile(packed[1].path) as archive:
            largest = max(archive.infolist(), key=lambda member: member.compress_size)
        middle = largest.header_offset + largest.compress_size // 2
        data[middle : middle + 64] = bytes(64)
    elif damage == "empty":
        data.clear()
    else:
        data[:] = b"not a zip file\n" * 100
    (tmp_path / "bad.pyz").write_bytes(data)
    with pytest.raises(UserError, match="not a readable bundle"):
        launch(tmp_path / "bad.pyz", ["-o", str(tmp_path / "log.jsonl")])
    assert not (tmp_path / "log.jsonl").exists()


def _archive(path: Path, manifest: Any, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name in names:
            archive.writestr(name, "evil")
    return path


def _needs() -> dict[str, str]:
    system = os.uname()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python, "system": system.sysname, "machine": system.machine}


@pytest.mark.parametrize(
    "name", ["../evil.py", "a/../../evil.py", "/tmp/globalsel-evil.py", "a\\..\\evil", "a/./../.."]
)
def test_a_member_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    bundle = _archive(tmp_path / "evil.pyz", {"format": 1, "needs": _needs()}, "good.py", name)
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(UserError, match="outside of the folder"):
        launch(bundle, ["-o", str(tmp_path / "log.jsonl")])
    assert sorted(path for path in tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match="no name for a member"):
        BundleWriter(tmp_path / "own.pyz").add(name, b"")


def test_links_become_files_and_huge_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tvm_globalsel.bundle import archive as archives

    path = tmp_path / "link.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    with zipfile.ZipFile(path) as archive:
        archives.unpack(archive, tmp_path / "out")
        assert not (tmp_path / "out/link").is_symlink()
        monkeypatch.setattr(archives, "_MAX_UNPACKED_BYTES", 3)
        with pytest.raises(ValueError, match="more than any bundle"):
            archives.unpack(archive, tmp_path / "large")
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ([], "not of this version"),
        ({"format": 99}, "not of this version"),
        ({"format": 1, "needs": {**_needs(), "python": "3.99"}}, "no python3.99 here"),
        ({"format": 1, "needs": {**_needs(), "machine": "mips"}}, "made for Linux on mips"),
    ],
)
def test_a_bundle_for_something_else_says_so(tmp_path: Path, manifest: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        launch(_archive(tmp_path / "other.pyz", manifest), ["-o", str(tmp_path / "log.jsonl")])


#: The bad variants must not exist for the other tests, so they are packed in a process of their own.
_PACK_BAD_VARIANTS = """
import sys
from dataclasses import asdict
from pathlib import Path
from te_kernels.machine import describe, host_target
from te_kernels.task import TransformTask
from te_kernels.variant import from_knobs
from tvm_globalsel.bundle.manifest import Kernel
from tvm_globalsel.bundle.pack import Packing, write_bundle
from tvm_globalsel.options import Options

task = TransformTask((1, 4, 4, 4), "NCHW", "NCHW")
names = ["test_correct", "test_wrong", "test_nan", "test_refuses_to_schedule", "test_crashes", "test_hangs"]
kernels = [Kernel(task, from_knobs(name, {}), "cache") for name in names]
target = host_target(1)
write_bundle(Path(sys.argv[1]), [], kernels, target, describe(target, 1), Options(), Packing(), (0, 0),
             lambda done, total, what: None)
"""


def test_a_bad_kernel_harms_only_itself(tmp_path: Path) -> None:
    bundle, log = tmp_path / "bad.pyz", tmp_path / "log.jsonl"
    built = subprocess.run(
        [sys.executable, "-c", _PACK_BAD_VARIANTS, str(bundle)], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "GLOBALSEL_VARIANTS": "tests.globalsel.bad_variants"}, timeout=300, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-2000:]
    done = run_bundle(bundle, log, "--timeout", "6")
    assert done.returncode == 0, done.stderr
    errors = {record["variant"]: record["error"] for record in map(json.loads, log.read_text().splitlines())}
    assert errors["test_correct"] is None
    assert "wrong result: relative error 1" in errors["test_wrong"]
    assert "not finite" in errors["test_nan"]
    assert "not built" in errors["test_refuses_to_schedule"]
    assert errors["test_crashes"] == "crashed (SIGABRT)"
    assert errors["test_hangs"] == "timeout after 6 s"
