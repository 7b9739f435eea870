"""Views: a reshape of row-major data moves nothing on a GPU either."""

from __future__ import annotations

from dataclasses import dataclass

from te_kernels.generic.view import View


@dataclass(frozen=True)
class CudaView(View):
    """Row-major in and out. No knobs."""

    name = "cuda_view"
    kinds = ("cuda",)
