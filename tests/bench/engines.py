"""Engine files for tests, written into a folder: one that computes, and the ways in which one can fail."""

from __future__ import annotations

import sys
from pathlib import Path

from tvm_globalsel.bench.catalogue import Engine, Hosted
from tvm_globalsel.bench.race import Entrant

_ENGINE = """
import os, sys, time
import numpy as np
MODULES = ()
def prepare(model, folder, threads):
    {prepare}
class Session:
    def __init__(self, model, folder, threads):
        {load}
    def feed(self, inputs):
        self.x = inputs["x"]
    def run(self):
        {run}
"""


def entrant(folder: Path, name: str, run: str, load: str = "pass", prepare: str = "pass") -> Entrant:
    """An engine of these statements; ``run`` returns a list of arrays made from ``self.x``."""
    file = folder / f"{name}.py"
    file.write_text(_ENGINE.format(run=run, load=load, prepare=prepare))
    return Entrant(name, Hosted(Engine(name, file, ()), sys.executable, ()), folder / "no.onnx", folder)
