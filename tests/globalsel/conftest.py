"""Fixtures that the tests of the compiler share."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.globalsel import nets
from tvm_globalsel.options import Options
from tvm_globalsel.pipeline import compile


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tuning log for all tests: what one has measured the others find."""
    return tmp_path_factory.mktemp("log") / "tuning.jsonl"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, log: Path) -> tuple[Path, Path]:
    """(model file, deployed folder) of the tiny network."""
    folder = tmp_path_factory.mktemp("tiny")
    model = folder / "tiny.onnx"
    onnx.save(nets.tiny(), model)
    compile(model, folder / "out", Options(tuning_log=log))
    return model, folder / "out"
