"""Targets as users write them, and the machine models they stand for."""

from __future__ import annotations

import json

import tvm

from te_kernels.gpu import Gpu, machine_of
from te_kernels.machine import Machine, host_target
from tvm_globalsel.errors import UserError
from tvm_globalsel.options import Options

#: Host code beside CUDA kernels: what every x86-64 server of the last ten years runs.
CUDA_HOST = {"kind": "llvm", "mcpu": "x86-64-v3"}


def parse_target(text: str, threads: int) -> tvm.target.Target:
    """``host``, a tag, or a target as JSON."""
    if text == "host":
        return host_target(threads)
    try:
        target = tvm.target.Target(json.loads(text) if text.lstrip().startswith("{") else text)
    except Exception as error:  # TVM raises many types for a bad target
        raise UserError(
            f"--target {text!r} is not a TVM target ({str(error).strip().splitlines()[-1][:120]})",
            'use \'host\', a tag, or JSON such as \'{"kind": "llvm", "mcpu": "haswell"}\'',
        ) from error
    if target.kind.name == "cuda":
        return tvm.target.Target(target, host=tvm.target.Target(CUDA_HOST)) if target.host is None else target
    if target.kind.name != "llvm":
        raise UserError(f"--target {text!r}: neither an llvm nor a cuda target", "use 'host', or a target such as "
                        "nvidia/nvidia-h100")  # fmt: skip
    return target


def describe_target(target: tvm.target.Target, options: Options) -> Machine | Gpu:
    """The machine model of a target, or :class:`UserError`."""
    try:
        return machine_of(target, options.threads, options.precision)
    except ValueError as error:
        raise UserError(f"--target {options.target!r}: {error}", "choose another target or --precision") from error
