"""``globalsel solve --trinnity``: the authors' figures, other tables of that form, and tables that are wrong."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.solve.trinnity import FOLDER, LAYOUTS, alexnet
from tvm_globalsel.cli import main
from tvm_globalsel.errors import UserError
from tvm_globalsel.problem import plan_cost
from tvm_globalsel.trinnity import read_tables, solve_tables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("algorithms", "primitives", "transforms"):
        (tmp_path / f"{name}.csv").write_text((FOLDER / f"{name}.csv").read_text())
    return tmp_path


def test_the_reader_has_the_costs_of_the_tables() -> None:
    read, expected = read_tables(FOLDER), alexnet()
    assert read.notes == () and read.problem.layouts == LAYOUTS
    for mine, theirs in zip(read.problem.nodes, expected.nodes, strict=True):
        assert mine.labels == theirs.labels
        np.testing.assert_array_equal(mine.costs_s, theirs.costs_s)
        np.testing.assert_array_equal(mine.in_layouts, theirs.in_layouts)
        np.testing.assert_array_equal(mine.out_layout, theirs.out_layout)
    np.testing.assert_array_equal(read.problem.transform_s[:-1], expected.transform_s[:-1])


@pytest.mark.parametrize("solver", ["pbqp", "milp", "local"])
def test_the_authors_figures(solver: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--trinnity", str(FOLDER), "--json", "--solver", solver]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["optimal"] is True and result["solver"] == ("pbqp" if solver == "local" else solver)
    assert result["global"] == pytest.approx(103294806.079, abs=1e-3)
    assert result["sum2d"] == pytest.approx(1122725468.477, abs=1e-3)
    assert result["single"]["chw"] == pytest.approx(143642006.287, abs=1e-3)
    assert result["single"]["hwc"] == pytest.approx(103664861.019, abs=1e-3)
    assert result["single"]["hcw"] is None
    paid = sum(layer["cost"] for layer in result["plan"]) + sum(move["cost"] for move in result["transforms"])
    assert paid == pytest.approx(result["selected"]["cost"])
    assert result["global"] <= result["local"] <= result["sum2d"]


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--trinnity", str(FOLDER)]) == 0
    shown = capsys.readouterr().out
    for part in ("103294806.079", "1122725468.477", "143642006.287", "103664861.019", "no such plan", "Proven optimal"):
        assert part in shown


def test_solving_tables_loads_no_tvm() -> None:
    script = (
        "import sys, tvm_globalsel.trinnity as t, pathlib; t.solve_tables(t.read_tables(pathlib.Path(sys.argv[1])))"
    )
    script += "; print('tvm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, str(FOLDER)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def write(folder: Path, algorithms: str, primitives: str, transforms: str) -> Path:
    for name, text in (("algorithms", algorithms), ("primitives", primitives), ("transforms", transforms)):
        (folder / f"{name}.csv").write_text(text)
    return folder


@pytest.mark.parametrize("seed", range(20))
def test_random_tables_against_enumeration(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    layouts = ["chw", "hwc", "odd"][: int(random.integers(2, 4))]
    layers = int(random.integers(1, 4))
    names = [f"{kind}-{i}" for i, kind in enumerate(["direct-sum2d", "im2row", "winograd", "kn2row"])]
    pairs = {name: random.choice(layouts, 2) for name in names}
    pairs[names[0]] = np.array(["chw", "chw"])
    costs = {name: random.integers(1, 50, layers) * (random.random(layers) < 0.7) for name in names}
    costs[names[0]] = random.integers(40, 90, layers)
    moves = {f"{a}-to-{b}": random.integers(1, 30, layers) for a, b in itertools.permutations(layouts, 2)}

    def text(rows: dict[str, np.ndarray]) -> str:
        return "".join(f"{name}, {', '.join(map(str, row))}\n" for name, row in rows.items())

    tables = read_tables(write(tmp_path, text(pairs), text(costs), text(moves)))
    assert "shape of the output is unknown" in tables.notes[0]
    problem = tables.problem
    every = [plan_cost(problem, c) for c in itertools.product(*(range(node.size) for node in problem.nodes))]
    result = solve_tables(tables)
    assert result["global"] == pytest.approx(min(every)) and result["optimal"]
    assert result["sum2d"] == costs[names[0]].sum()
    assert all(cost is None or cost >= result["global"] for cost in result["single"].values())


def test_an_output_of_a_new_shape_is_priced_by_size_and_said_so(folder: Path) -> None:
    path = folder / "primitives.csv"
    path.write_text(path.read_text().replace("KERNELS, 96, 256, 384, 384, 256", "KERNELS, 96, 256, 384, 384, 192"))
    tables = read_tables(folder)
    assert "0.75 times those of layer 3's input" in tables.notes[0]
    assert tables.problem.transform_s[5][0, 1] == pytest.approx(0.75 * 303361.269231)


BROKEN = {
    "a word": ("primitives.csv", "220245871.113636", "many", "primitives.csv, line 8 (direct-sum2d)"),
    "nan": ("primitives.csv", "220245871.113636", "nan", "negative or not finite"),
    "negative": ("transforms.csv", "340614.000000", "-1", "transforms.csv, line 5"),
    "a cell too few": ("primitives.csv", "220245871.113636, ", "", "4 numbers where other rows have 5"),
    "a layout too few": (
        "algorithms.csv",
        "direct-sum2d,chw,chw",
        "direct-sum2d,chw",
        "algorithms.csv, line 1: 2 cells",
    ),
    "twice": ("algorithms.csv", "im2row-scan-ab-ik,", "direct-sum2d,", "'direct-sum2d' occurs twice"),
    "unknown": ("algorithms.csv", "direct-sum2d", "other", "'direct-sum2d' not in algorithms.csv"),
    "other layers": ("transforms.csv", "WIDTH, 227", "WIDTH, 224", "row WIDTH is not that of primitives.csv"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_wrong_tables_are_refused_with_their_place(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, old, new, message = BROKEN[name]
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_tables(folder)
    assert message in str(caught.value) and str(folder) in str(caught.value)
    assert main(["solve", "--trinnity", str(folder)]) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_no_tables_are_refused(folder: Path) -> None:
    (folder / "transforms.csv").write_bytes(b"\xff\x00\xfe" * 100)
    with pytest.raises(UserError, match="not a table"):
        read_tables(folder)
    (folder / "transforms.csv").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_tables(folder)
    shutil.copy(FOLDER / "transforms.csv", folder)
    (folder / "algorithms.csv").write_text("")
    with pytest.raises(UserError, match="no rows"):
        read_tables(folder)


def test_no_plan_names_what_is_missing(tmp_path: Path) -> None:
    tables = read_tables(write(tmp_path, "a,chw,hwc\n", "a, 1, 1\n", "hwc-to-odd, 1, 1\n"))
    with pytest.raises(UserError, match=r"'conv2'.* made in hwc and cannot be turned into chw"):
        solve_tables(tables)
    with pytest.raises(UserError, match="no primitive applies to layer 2"):
        read_tables(write(tmp_path, "a,chw,hwc\n", "a, 1, 0\n", "hwc-to-chw, 1, 1\n"))


@pytest.mark.parametrize("solver", ["single:nchw", "exhaustive"])
def test_a_solver_that_cannot_be_used_is_one_line(solver: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--trinnity", str(FOLDER), "--solver", solver]) == 2
    assert f"--solver {solver}: " in capsys.readouterr().err
