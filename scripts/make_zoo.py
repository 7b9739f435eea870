"""Write the twelve networks of the benchmark: the nine light nets that ship with onnx, resnet18, vgg16, mobilenet_v2.

Weights are seeded (He-normal), batch normalisation has statistics near identity; every file has passed onnx.checker
and one run by ONNX Runtime with finite outputs that are not saturated.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tvm_globalsel.bench.zoo.make import make, names
from tvm_globalsel.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/make_zoo", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="OUT")
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"default: all ({', '.join(names())})")
    parser.add_argument("--batch", type=int, default=1, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    if args.batch < 1 or args.seed < 0:
        parser.error("--batch must be at least 1, --seed at least 0")
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.nets or names():
        made = make(name, args.folder, args.batch, args.seed)
        print(
            f"{made.path}: {made.parameters / 1e6:.1f} M parameters; outputs: largest {made.largest:.3g}, "
            f"deviation {made.spread:.3g}", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
