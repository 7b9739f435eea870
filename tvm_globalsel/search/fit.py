"""A regression of tuning records: what candidates took, as the logarithm of a multiple of a guess.

The mean of a candidate's relatives is where it starts; gradient boosted trees learn what that leaves unexplained, as a
low quantile and the median.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xgboost

from tvm_globalsel.search.relatives import Kin, Relatives

LOW_QUANTILE = 0.1
#: Standard normal quantile of 90 %: how many deviations the low quantile lies below the median.
_LOW_DEVIATIONS = 1.2816
_TREES, _DEPTH, _RATE = 100, 5, 0.15
#: Deviation of the logarithm: the least that is believed of any prediction.
LEAST_SPREAD = 0.03


@dataclass(frozen=True)
class Samples:
    """What candidates look like: ``features`` ``(n, features)``, and to whom they are related."""

    features: np.ndarray
    kin: list[Kin]

    def __getitem__(self, chosen: np.ndarray) -> Samples:
        """Those of a mask ``(n,)``."""
        return Samples(self.features[chosen], [one for one, own in zip(self.kin, chosen, strict=True) if own])


class Fit:
    """Fitted to ``values`` ``(n,)`` of samples."""

    def __init__(self, samples: Samples, values: np.ndarray) -> None:
        self._relatives = Relatives(samples.kin, values)
        means = self._relatives.leave_one_out
        # one thread: the data are small, and threads that wait for each other spin where the machine is busy
        settings = {
            "objective": "reg:quantileerror", "quantile_alpha": np.array([LOW_QUANTILE, 0.5]), "tree_method": "hist",
            "max_depth": _DEPTH, "eta": _RATE, "min_child_weight": 2, "max_bin": 64, "seed": 0, "nthread": 1,
            "base_score": 0.0,
        }  # fmt: skip
        data = xgboost.QuantileDMatrix(_with(samples.features, means), values - means, max_bin=64, nthread=1)
        self._trees = xgboost.train(settings, data, _TREES)

    def quantiles(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        """(median, deviation) of what samples that it was not fitted to may have, each ``(n,)``."""
        means = np.array([self._relatives.of(one) for one in samples.kin])
        low, median = self._trees.inplace_predict(_with(samples.features, means)).T.astype(np.float64)
        return means + median, np.maximum(LEAST_SPREAD, (median - low) / _LOW_DEVIATIONS)


def _with(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    return np.column_stack([features, means])
