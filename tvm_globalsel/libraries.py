"""Built batches that may be run again, so that measuring a kernel once more takes no compiler."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

from tvm_globalsel.jobs import Job

#: A library of eight kernels takes half a megabyte.
_MOST = 256


@dataclass
class Libraries:
    """The libraries of the last jobs, by the log's keys of their kernels."""

    _jobs: dict[str, tuple[Job, int]] = field(default_factory=dict)
    _order: list[tuple[Job, list[str]]] = field(default_factory=list)

    def keep(self, job: Job, keys: list[str]) -> None:
        """Of a job that ran, with the keys of its kernels in order; the oldest ones make room."""
        self._jobs.update({key: (job, index) for index, key in enumerate(keys)})
        self._order.append((job, keys))
        while len(self._order) > _MOST:
            oldest, gone = self._order.pop(0)
            for key in gone:
                if self._jobs.get(key, (None,))[0] is oldest:
                    del self._jobs[key]
            drop(oldest)

    def find(self, key: str) -> tuple[Job, int] | None:
        """The job whose library holds a kernel, and the kernel's place in it."""
        return self._jobs.get(key)


def drop(job: Job) -> None:
    """Remove a job's library, if there is one."""
    if job.library is not None:
        shutil.rmtree(job.library.parent, ignore_errors=True)
