"""Rows of a linear programme for the memory of a plan at every moment: see :mod:`tvm_globalsel.solve.memory`.

The rows know a tensor in the layout in which it is produced and in those that are demanded, which is linear in the
choices. Layouts on the way, in a chain of transforms, are charged to each pair of a produced and a demanded layout;
where several readers demand, only for the combinations of demands that :meth:`MemoryRows.refute` has seen. So the rows
never charge more than :func:`tvm_globalsel.solve.memory.peak`, and no less for a plan that was refuted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvm_globalsel.arborescence import cheapest_arborescence, shortest_paths
from tvm_globalsel.problem import Problem
from tvm_globalsel.solve.memory import Memory, between, storage
from tvm_globalsel.solve.model import Model, Terms, merged
from tvm_globalsel.solve.signatures import Signatures

#: The limit in the rows' unit: HiGHS' tolerance of a millionth is then a thousand-millionth of the limit. Much larger
#: numbers than this make HiGHS reject its own solutions.
UNIT = 1e3


class MemoryRows:
    """Adds that the peak stays within ``most`` bytes; or, with ``peak_column``, within that times ``most``."""

    def __init__(
        self, model: Model, problem: Problem, memory: Memory, known: list[Signatures], chosen: list[list[int]],
        most: float, peak_column: int | None = None,
    ) -> None:  # fmt: skip
        self._model, self._problem, self._memory = model, problem, memory
        self._known, self._chosen = known, chosen
        self._most, self._peak_column = most, peak_column
        self._on_the_way: dict[int, int] = {}  # by node, the column for layouts between produced and demanded ones
        self._patterns: set[tuple[int, int, tuple[tuple[int, tuple[int, ...]], ...]]] = set()
        self._rows: list[Terms] = [[] for _ in range(2 * len(problem.nodes))]
        self._most_at = np.zeros(2 * len(problem.nodes))
        self._weights = self._weight_column()
        self._add_moments()

    def _weight_column(self) -> Terms:
        """The packed weights of all operators as one term, so that the many rows stay short."""
        each = [w[s.choice] for w, s in zip(self._memory.weight_bytes, self._known, strict=True)]
        self.most_weight = sum(float(w.max(initial=0.0)) for w in each)
        if not self.most_weight:
            return []
        column = self._model.column(0.0, False)
        terms = [(c, w / self.most_weight) for cs, ws in zip(self._chosen, each, strict=True)
                 for c, w in zip(cs, ws.tolist(), strict=True) if w]  # fmt: skip
        self._model.row([(column, -1.0), *terms], 0.0, 0.0)
        return [(column, self.most_weight)]

    def _row(self, terms: Terms, bytes_at_once: float) -> None:
        """``terms`` (bytes) and the weights stay within the limit; nothing to say where they cannot exceed it."""
        if self._peak_column is None and bytes_at_once + self.most_weight <= self._most:
            return
        scale = UNIT / self._most
        scaled = [(column, factor * scale) for column, factor in merged([*terms, *self._weights])]
        if self._peak_column is not None:
            scaled.append((self._peak_column, -UNIT))
            self._model.row(scaled, -np.inf, 0.0)
        else:
            self._model.row(scaled, -np.inf, UNIT)

    def _sum(self, node: int, amounts: np.ndarray) -> tuple[Terms, float]:
        """Terms of ``amounts`` for the choices of a node, and the largest amount."""
        terms = [(c, a) for c, a in zip(self._chosen[node], amounts.tolist(), strict=True) if a]
        return terms, float(amounts.max(initial=0.0))

    def _add_moments(self) -> None:
        count = len(self._problem.nodes)

        def charge(moments: range, terms: Terms, largest: float) -> None:
            for moment in moments:
                self._rows[moment] += terms
                self._most_at[moment] += largest

        for index in range(count):
            known = self._known[index]
            number, sizes = storage(self._problem, self._memory, index)
            workspace = self._memory.workspace_bytes[index][known.choice]
            charge(range(2 * index, 2 * index + 1), *self._sum(index, workspace))
            produced = number[known.out_layout]
            terms, largest = self._sum(index, sizes[produced])
            charge(range(2 * index, 2 * index + 1), terms, largest)
            if not sizes.any() or not self._problem.consumers[index]:
                continue
            readers: dict[int, list[tuple[int, np.ndarray]]] = {}
            for reader, slot in self._problem.consumers[index]:
                reads = number[self._known[reader].in_layouts[:, slot]]
                readers.setdefault(self._memory.held_until[reader], []).append((reader, reads))
            held: dict[int, Terms] = {}
            ends = sorted(readers, reverse=True)
            for end, before in zip(ends, [*ends[1:], index], strict=True):
                held = self._held(held, readers[end])
                terms, largest = self._priced(held, sizes)
                # also while the output of the last reader before is transformed; the own transforms come below
                charge(range(2 * before + (1 if before > index else 2), 2 * end + 1), terms, largest)
            held = self._held(held, [(index, produced)])
            charge(range(2 * index + 1, 2 * index + 2), *self._priced(held, sizes))
        for moment in range(2 * count):
            self._row(self._rows[moment], float(self._most_at[moment]))
        for index in range(count):
            if self._problem.consumers[index]:
                self._add_chains(index, *storage(self._problem, self._memory, index))

    def _held(self, held: dict[int, Terms], readers: list[tuple[int, np.ndarray]]) -> dict[int, Terms]:
        """By storage, terms that are 1 where one of the readers, or what ``held`` says already, wants it."""
        wanting: dict[int, list[Terms]] = {one: [terms] for one, terms in held.items()}
        for reader, reads in readers:
            each: dict[int, Terms] = {}
            for column, one in zip(self._chosen[reader], reads.tolist(), strict=True):
                each.setdefault(one, []).append((column, 1.0))
            for one, terms in each.items():
                wanting.setdefault(one, []).append(terms)
        result: dict[int, Terms] = {}
        for one, several in wanting.items():
            if len(several) == 1:
                result[one] = several[0]
                continue
            column = self._model.column(0.0, False)
            for terms in several:
                self._model.row([(column, -1.0), *terms], -np.inf, 0.0)
            result[one] = [(column, 1.0)]
        return result

    @staticmethod
    def _priced(held: dict[int, Terms], sizes: np.ndarray) -> tuple[Terms, float]:
        terms = [(column, factor * float(sizes[one])) for one, each in held.items() for column, factor in each]
        return [term for term in terms if term[1]], float(sum(sizes[one] for one in held))

    def _add_chains(self, node: int, number: np.ndarray, sizes: np.ndarray) -> None:
        """What chains of transforms need between two layouts, where a tensor is read in one layout at a time."""
        if len({reader for reader, _ in self._problem.consumers[node]}) > 1:
            return  # which layouts are made then depends on all the readers: see refute
        (reader,) = {reader for reader, _ in self._problem.consumers[node]}
        slots = [slot for slot, producer in enumerate(self._problem.nodes[reader].inputs) if producer == node]
        if len(slots) > 1:
            return
        table = self._problem.transform_s[node]
        by_chain = shortest_paths(table) < table
        for produced in np.unique(self._known[node].out_layout).tolist():
            for read in np.unique(self._known[reader].in_layouts[:, slots[0]]).tolist():
                if by_chain[produced, read]:
                    self._add_pattern(node, number, sizes, produced, {reader: (read,)})

    def _add_pattern(
        self, node: int, number: np.ndarray, sizes: np.ndarray, produced: int, reads: dict[int, tuple[int, ...]]
    ) -> bool:
        """Charge the layouts on the way for this layout of the node's output and these of its readers."""
        pattern = (node, produced, tuple(sorted(reads.items())))
        demanded = {layout for layouts in reads.values() for layout in layouts}
        arcs = cheapest_arborescence(self._problem.transform_s[node], produced, demanded)
        amount = between(number, sizes, produced, demanded, arcs or ())
        if not amount or pattern in self._patterns:
            return False
        self._patterns.add(pattern)
        unit = float(sizes.sum())
        if node not in self._on_the_way:
            self._on_the_way[node] = column = self._model.column(0.0, False)
            moment = 2 * node + 1
            self._row([*self._rows[moment], (column, unit)], float(self._most_at[moment]) + unit)
        groups = [self._matching(node, self._known[node].out_layout[:, None], (produced,))]
        for reader, layouts in reads.items():
            inputs = self._problem.nodes[reader].inputs
            slots = [slot for slot, producer in enumerate(inputs) if producer == node]
            groups.append(self._matching(reader, self._known[reader].in_layouts[:, slots], layouts))
        share = amount / unit
        terms = [(column, share) for group in groups for column in group]
        self._model.row([*terms, (self._on_the_way[node], -1.0)], -np.inf, share * (len(groups) - 1))
        return True

    def _matching(self, node: int, layouts: np.ndarray, wanted: tuple[int, ...]) -> list[int]:
        same = (layouts == np.array(wanted)).all(1)
        return [column for column, is_it in zip(self._chosen[node], same.tolist(), strict=True) if is_it]

    def refute(self, choice: Sequence[int]) -> bool:
        """Charge all layouts that this plan makes on the way; False when they were charged already."""
        added = False
        for index, node in enumerate(self._problem.nodes):
            number, sizes = storage(self._problem, self._memory, index)
            reads: dict[int, tuple[int, ...]] = {}
            for reader, slot in self._problem.consumers[index]:
                layout = int(self._problem.nodes[reader].in_layouts[choice[reader], slot])
                reads[reader] = (*reads.get(reader, ()), layout)
            added |= self._add_pattern(index, number, sizes, int(node.out_layout[choice[index]]), reads)
        return added
