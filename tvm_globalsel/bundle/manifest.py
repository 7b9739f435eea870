"""What is in a bundle: for every shared library its kernels, and all that their log records need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from te_kernels.gpu import KIND, Gpu
from te_kernels.machine import Machine
from te_kernels.task import Task, from_dict
from te_kernels.variant import Variant, from_knobs
from tvm_globalsel.bundle.networks import Packed
from tvm_globalsel.bundle.networks import from_json as network_from_json
from tvm_globalsel.log import Context

LIBRARIES = "kernels"


@dataclass(frozen=True)
class Kernel:
    """One candidate: a variant of a task, in a network whose weights lie where ``weights`` says (see ``Context``)."""

    task: Task
    variant: Variant
    weights: str

    def context(self, base: Context) -> Context:
        """The context of its measurement on the machine of ``base``."""
        return Context(**{**vars(base), "weights": self.weights})

    def key(self, base: Context) -> str:
        """Its key in the log."""
        return self.context(base).key(self.task, self.variant)


@dataclass(frozen=True)
class Library:
    """A shared library with the functions ``kernel0``, ``kernel1``, ...; no file where building failed, for ``error``.

    All kernels of a library have the same ``weights``.
    """

    file: str | None
    kernels: tuple[Kernel, ...]
    error: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A bundle's content. ``target``, ``threads`` and ``tvm`` are those of the log's context.

    ``machine`` is the machine model that the schedules were made for (its fields), ``device`` the kind of device they
    run on, ``needs`` what the target machine has to be: ``system``, ``machine`` and ``python``; ``modules`` hold
    variants from out of the tree.
    """

    models: tuple[str, ...]
    target: str
    threads: int
    tvm: str
    device: str
    machine: dict[str, Any]
    needs: dict[str, str]
    modules: tuple[str, ...]
    networks: tuple[Packed, ...]
    libraries: tuple[Library, ...]

    @property
    def dtype(self) -> str:
        """Type of activations and weights inside the networks."""
        return str(self.machine.get("dtype", "float32"))

    def machine_model(self) -> Machine | Gpu:
        """The model that the schedules were made for."""
        return Gpu(**self.machine) if self.machine.get("kind") == KIND else Machine(**self.machine)

    def context(self, device_name: str) -> Context:
        """The context of measurements on the device of this name."""
        return Context(self.target, device_name, self.threads, self.tvm)

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        libraries = [
            {
                "file": library.file,
                "error": library.error,
                "weights": library.kernels[0].weights,
                "kernels": [
                    {"task": k.task.to_dict(), "variant": k.variant.name, "knobs": k.variant.knobs}
                    for k in library.kernels
                ],
            }
            for library in self.libraries
        ]
        return vars(self) | {
            "models": list(self.models),
            "modules": list(self.modules),
            "networks": [packed.to_json() for packed in self.networks],
            "libraries": libraries,
        }


def from_json(body: dict[str, Any]) -> Manifest:
    """The inverse of :meth:`Manifest.to_json`; raises ValueError when it is not a manifest."""
    try:
        libraries = []
        for entry in body["libraries"]:
            weights = str(entry["weights"])
            kernels = tuple(
                Kernel(from_dict(k["task"]), from_knobs(str(k["variant"]), dict(k["knobs"])), weights)
                for k in entry["kernels"]
            )
            file, error = entry["file"], entry["error"]
            libraries.append(Library(file and str(file), kernels, error and str(error)))
        return Manifest(
            tuple(map(str, body["models"])), str(body["target"]), int(body["threads"]), str(body["tvm"]),
            str(body["device"]), dict(body["machine"]), dict(body["needs"]), tuple(map(str, body["modules"])),
            tuple(network_from_json(network) for network in body["networks"]), tuple(libraries),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its manifest is malformed ({type(error).__name__}: {error})") from error
