"""Run a deployed folder with TVM's runtime only: no compiler is loaded, neither its library nor its Python side."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.artefacts import LIBRARY, PLAN, PLAN_FORMAT, WEIGHTS
from tvm_globalsel.errors import UserError
from tvm_globalsel.runtime_cpu import Cpu
from tvm_globalsel.runtime_cuda import Cuda
from tvm_globalsel.weights import check_record, read_weights

_MAX_PLAN_BYTES = 256 << 20
_MAX_THREADS = 1024
#: Of TVM's virtual machine: allocate from a pool.
_POOLED = 2
_BOUND = "main_with_weights"


def read_plan(folder: str | Path) -> dict[str, Any]:
    """``plan.json`` of a deployed folder; raises :class:`UserError` when it is missing or not a plan."""
    path = Path(folder) / PLAN
    try:
        if path.stat().st_size > _MAX_PLAN_BYTES:
            raise UserError(f"{path}: larger than any plan", "compile the model again")
        plan = json.loads(path.read_text())
        if not isinstance(plan, dict) or plan.get("format") != PLAN_FORMAT:
            raise ValueError("it is not a plan of this version")
        threads, library = plan["threads"], plan["library"]
        if not isinstance(threads, int) or not 1 <= threads <= _MAX_THREADS:
            raise ValueError("its thread count is out of range")
        str(library["sha256"]), int(library["bytes"]), list(plan["nodes"])
        check_record(plan["weights"])
        str(plan["target"]["kind"]), str(plan["target"].get("arch", ""))
        for value in [*plan["inputs"], *plan["outputs"]]:
            if not isinstance(value["name"], str) or not all(0 <= int(size) < 1 << 31 for size in value["shape"]):
                raise ValueError("an input or output is malformed")
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the plan ({error.strerror})", "give the folder that 'globalsel compile -o' wrote"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: not a readable plan ({type(error).__name__}: {str(error)[:100]})", "compile the model again"
        ) from error
    return plan


def fingerprint(library: Path) -> dict[str, Any]:
    """Size and SHA-256 of a deployed library, as its plan records them."""
    digest = hashlib.sha256()
    with open(library, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return {"bytes": library.stat().st_size, "sha256": digest.hexdigest()}


class Deployed:
    """A compiled network. ``run`` takes and returns arrays by name."""

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        self.folder = Path(folder)
        self.plan = read_plan(folder)
        # both are read when the library is loaded, the threads before the first parallel kernel
        os.environ["TVM_NUM_THREADS"] = str(threads or self.plan["threads"])
        library = self.folder / LIBRARY
        if not library.is_file():
            raise UserError(f"{library}: no such file", "compile the model again")
        if fingerprint(library) != self.plan["library"]:  # a damaged library crashes the process that loads it
            raise UserError(f"{library}: not the library that plan.json belongs to", "compile the model again")
        target = self.plan["target"]
        self._device = Cuda(target.get("arch", "")) if target["kind"] == "cuda" else Cpu()
        try:
            self._main = self._virtual_machine(library)
        except UserError:
            raise
        except Exception as error:  # a damaged or foreign library fails in many ways
            message = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            raise UserError(
                f"{library}: cannot be loaded ({message})", "compile the model on this kind of machine"
            ) from error

    def _virtual_machine(self, library: Path) -> Any:
        """``main`` of the network's inputs alone: ``save_function`` binds a function's last arguments."""
        import tvm_ffi

        machine = tvm_ffi.load_module(str(library.resolve()))["vm_load_executable"]()
        machine["vm_initialization"](*(n for device in self._device.identities for n in (*device, _POOLED)))
        self._set_instrument = machine["set_instrument"]
        weights = read_weights(self.folder / WEIGHTS, self.plan["weights"])
        if not weights:
            return machine["main"]
        machine["save_function"]("main", _BOUND, 1, *(tvm_ffi.from_dlpack(array) for array in weights))
        return machine[_BOUND]

    def check_inputs(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Arrays in the module's order, or :class:`UserError` naming the input that does not fit."""
        expected = {i["name"]: i for i in self.plan["inputs"]}
        unknown = set(arrays) - set(expected)
        if unknown or set(expected) - set(arrays):
            raise UserError(f"inputs are {sorted(arrays)}", f"the model takes {sorted(expected)}")
        ordered = []
        for name, spec in expected.items():
            array = np.asarray(arrays[name])
            if list(array.shape) != spec["shape"] or str(array.dtype) != spec["dtype"]:
                raise UserError(
                    f"input {name!r} is {array.dtype}{list(array.shape)}",
                    f"the module was compiled for {spec['dtype']}{spec['shape']}",
                )
            ordered.append(np.asarray(array, order="C"))  # ascontiguousarray would make scalars vectors
        return ordered

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference."""
        results = self.arrays(self.bound(arrays)())
        return {o["name"]: result for o, result in zip(self.plan["outputs"], results, strict=True)}

    def bound(self, arrays: dict[str, np.ndarray]) -> Callable[[], list[Any]]:
        """A function that runs one inference on these inputs and returns TVM's tensors, in the order of the outputs."""
        tensors = [self._device.tensor(array) for array in self.check_inputs(arrays)]

        def call() -> list[Any]:
            result = self._main(*tensors)
            return [result] if hasattr(result, "shape") else list(result)

        return call

    def arrays(self, tensors: list[Any]) -> list[np.ndarray]:
        """Copies of what :meth:`bound`'s function returned."""
        return [self._device.array(tensor) for tensor in tensors]

    def latencies_s(self, arrays: dict[str, np.ndarray], repeat: int, warmup: int = 3) -> list[float]:
        """Seconds of ``repeat`` inferences after ``warmup`` more; inputs and outputs stay on the device."""
        call = self.bound(arrays)
        for _ in range(warmup):
            call()
        self._device.sync()
        taken = []
        for _ in range(repeat):
            start = time.perf_counter()
            call()
            self._device.sync()
            taken.append(time.perf_counter() - start)
        return taken

    @contextmanager
    def watched(self, watch: Callable[[str, bool], None]) -> Iterator[None]:
        """While inside, ``watch(name, before)`` is called before and after everything that TVM's machine calls."""
        import tvm_ffi

        def instrument(function: Any, name: str, before: bool, *rest: Any) -> int:
            watch(name, before)
            return 0

        self._set_instrument(tvm_ffi.convert(instrument))
        try:
            yield
        finally:
            self._set_instrument(None)

    def random_inputs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Seeded random arrays of the right shapes."""
        rng = np.random.default_rng(seed)
        return {
            i["name"]: rng.standard_normal(i["shape"]).astype(i["dtype"])
            if i["dtype"].startswith("float")
            else rng.integers(0, 8, i["shape"]).astype(i["dtype"])
            for i in self.plan["inputs"]
        }
