"""A mixed-integer linear programme under construction, and HiGHS."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, sparse

Terms = list[tuple[int, float]]


@dataclass
class Model:
    """A programme under construction: columns with objective and bounds, rows ``low <= terms <= high``."""

    costs: list[float] = field(default_factory=list)
    integral: list[bool] = field(default_factory=list)
    rows: list[tuple[Terms, float, float]] = field(default_factory=list)

    def column(self, cost: float, integral: bool) -> int:
        """Add a variable between 0 and 1."""
        self.costs.append(cost)
        self.integral.append(integral)
        return len(self.costs) - 1

    def row(self, terms: Terms, low: float, high: float) -> None:
        """Add a constraint."""
        self.rows.append((terms, low, high))

    def optimise(self, scale: float, most: float, options: dict[str, float]) -> optimize.OptimizeResult:
        """Minimise the objective times ``scale`` without the columns that cost more than ``most``."""
        data = [(index, column, factor) for index, row in enumerate(self.rows) for column, factor in row[0]]
        at_row, at_column, factors = zip(*data, strict=True) if data else ((), (), ())
        # a column that occurs twice in a row counts twice: coo sums duplicates
        matrix = sparse.coo_matrix((factors, (at_row, at_column)), (len(self.rows), len(self.costs))).tocsr()
        costs = np.array(self.costs)
        low, high = [row[1] for row in self.rows], [row[2] for row in self.rows]
        return optimize.milp(
            costs * scale,
            integrality=np.array(self.integral, dtype=int),
            bounds=optimize.Bounds(0.0, np.where(costs <= most, 1.0, 0.0)),
            constraints=optimize.LinearConstraint(matrix, low, high),
            options=options,
        )


def negative(terms: Terms) -> Terms:
    """The terms with their signs turned."""
    return [(column, -factor) for column, factor in terms]


def merged(terms: Terms) -> Terms:
    """The terms with each column once."""
    total: dict[int, float] = {}
    for column, factor in terms:
        total[column] = total.get(column, 0.0) + factor
    return list(total.items())
