"""Libraries are kept for a while, and their files go with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_globalsel import libraries
from tvm_globalsel.jobs import Job
from tvm_globalsel.libraries import Libraries


def _job(folder: Path, number: int) -> Job:
    library = folder / str(number) / "kernels.so"
    library.parent.mkdir()
    library.touch()
    return Job(number, {"kernels": [{}, {}]}, library, None)


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_MOST", 2)
    kept, jobs = Libraries(), [_job(tmp_path, number) for number in range(3)]
    kept.keep(jobs[0], ["a", "b"])
    kept.keep(jobs[1], ["b", "c"])  # b once more
    assert kept.find("a") == (jobs[0], 0) and kept.find("b") == (jobs[1], 0) and kept.find("d") is None
    kept.keep(jobs[2], ["d", "e"])
    assert kept.find("a") is None and kept.find("b") == (jobs[1], 0) and kept.find("e") == (jobs[2], 1)
    assert [job.library is not None and job.library.exists() for job in jobs] == [False, True, True]
