"""The cache of models made ready: made once, again after a failure, and of bounded size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_globalsel.bench.prepared import Cache


def test_made_once_and_the_latest_are_kept(tmp_path: Path) -> None:
    made: list[int] = []
    cache = Cache(tmp_path / "cache")

    def folder(name: str, fact: int) -> Path:
        def make(into: Path) -> None:
            made.append(fact)
            (into / "file").write_text(str(fact))

        return cache.folder(name, {"fact": fact}, make)

    other = folder("net-x", 7)  # another name, although it begins alike
    first, second = folder("net", 0), folder("net", 1)
    assert (folder("net", 0), made) == (first, [7, 0, 1])
    folder("net", 2)
    folder("net", 3)  # the fourth of that name: the one not used for longest goes
    assert not second.exists() and first.exists() and other.exists()
    assert (first / "file").read_text() == "0"
    assert len(list(cache.root.iterdir())) == 4


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(into: Path) -> None:
        (into / "half").write_text("")
        raise RuntimeError

    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError):
        cache.folder("net", {}, fail)
    assert not list(tmp_path.iterdir())
    assert (cache.folder("net", {}, lambda into: None) / "complete.json").exists()
