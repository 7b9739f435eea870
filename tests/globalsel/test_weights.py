"""The file of weights: what is written is read back, and nothing else is."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_globalsel.artefacts import WEIGHTS
from tvm_globalsel.errors import UserError
from tvm_globalsel.runtime import Deployed, read_plan
from tvm_globalsel.weights import check_record, read_weights, write_weights


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal((3, 5, 7)).astype(np.float32), rng.integers(-9, 9, 11), np.zeros((0, 4), np.float32),
        rng.standard_normal((5 << 20) + 3).astype(np.float32), rng.standard_normal((4, 4)).T.astype(np.float16),
    ]  # fmt: skip


def test_round_trip_aligned(tmp_path: Path) -> None:
    record = write_weights(arrays(), tmp_path / "w")
    check_record(json.loads(json.dumps(record)))
    assert (tmp_path / "w").stat().st_size == record["bytes"]
    for read, written in zip(read_weights(tmp_path / "w", record), arrays(), strict=True):
        assert read.dtype == written.dtype
        np.testing.assert_array_equal(read, written)
        assert read.ctypes.data % 64 == 0


def test_parts_have_checksums_of_their_own(tmp_path: Path) -> None:
    """Tensors begin and end anywhere in them; together they are of the whole file, word by word."""
    record = write_weights(arrays(), tmp_path / "w")
    words = np.frombuffer((tmp_path / "w").read_bytes(), "<u8")
    expected = []
    for start in range(0, len(words), 1 << 20):
        pages = [words[page : page + 512] for page in range(start, min(start + (1 << 20), len(words)), 512)]
        sums = (sum(page.tolist()) * (i * 0x9E3779B97F4A7C14 + 1) for i, page in enumerate(pages))
        expected.append(f"{sum(sums) % (1 << 64):016x}")
    assert record["checksums"] == expected
    assert len(expected) > 2
    for checksums in ([], expected[1:], [*expected, expected[0]], [None] * len(expected), [0] * len(expected), 5):
        with pytest.raises((ValueError, TypeError)):
            check_record({**record, "checksums": checksums})


def test_no_weights(tmp_path: Path) -> None:
    assert read_weights(tmp_path / "w", write_weights([], tmp_path / "w")) == []


@pytest.mark.parametrize("damage", ["flip", "swap", "zero", "cut", "longer", "gone"])
def test_damage_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "w"
    record = write_weights(arrays(), path)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    if damage == "swap":  # two pages
        content[: 1 << 13] = content[1 << 12 : 1 << 13] + content[: 1 << 12]
    if damage == "zero":
        content[1 << 23 : (1 << 23) + 512] = bytes(512)
    path.write_bytes(content[:-1] if damage == "cut" else content + (b"x" if damage == "longer" else b""))
    if damage == "gone":
        path.unlink()
    with pytest.raises(UserError, match="cannot be read" if damage == "gone" else "not the weights that plan.json"):
        read_weights(path, record)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": -64}, {"offset": 8}, {"offset": 1 << 30}, {"shape": [1 << 30]}, {"shape": [-1]}, {"shape": ["2"]},
        {"dtype": "object"}, {"dtype": "float32x2"}, {"offset": 0.0},
    ],
)  # fmt: skip
def test_a_record_cannot_point_outside(tmp_path: Path, change: dict[str, Any]) -> None:
    record = write_weights(arrays(), tmp_path / "w")
    check_record(record)
    bad = copy.deepcopy(record)
    bad["tensors"][0].update(change)
    with pytest.raises((ValueError, TypeError)):
        check_record(bad)


def test_weights_are_outside_of_the_library(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    record = read_plan(tiny[1])["weights"]
    library = (tiny[1] / "model.so").read_bytes()
    loaded = read_weights(tiny[1] / WEIGHTS, record)
    assert loaded and all(array.nbytes >= 4096 for array in loaded)
    assert not any(array.tobytes()[:64] in library for array in loaded if np.count_nonzero(array.reshape(-1)[:16]) > 8)


def test_a_network_whose_weights_were_changed_is_refused(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny[1], folder)
    inputs = Deployed(folder).random_inputs()
    assert Deployed(folder).run(inputs)
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[100] ^= 0xFF
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match=r"weights.bin: not the weights"):
        Deployed(folder)
