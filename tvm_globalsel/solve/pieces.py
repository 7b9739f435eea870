"""Where a graph falls apart: biconnected components and the nodes that hold them together."""

from __future__ import annotations

from tvm_globalsel.solve.graph import Graph


def biconnected_components(graph: Graph) -> list[set[int]]:
    """The node sets of the biconnected components; two of them share at most one node, a cut node.

    Hopcroft and Tarjan, "Algorithm 447" (CACM 1973), without recursion. A node without edges is a component.
    """
    components: list[set[int]] = []
    depth: dict[int, int] = {}
    low: dict[int, int] = {}
    for root in graph.costs:
        if root in depth:
            continue
        if not graph.edges[root]:
            components.append({root})
            continue
        depth[root] = low[root] = 0
        below: list[int] = []  # nodes visited but not yet in a component
        path = [(root, root, iter(graph.edges[root]))]
        while path:
            node, parent, others = path[-1]
            for other in others:
                if other not in depth:
                    depth[other] = low[other] = len(path)
                    below.append(other)
                    path.append((other, node, iter(graph.edges[other])))
                    break
                if other != parent:
                    low[node] = min(low[node], depth[other])
            else:
                path.pop()
                if not path:
                    continue
                low[parent] = min(low[parent], low[node])
                if low[node] >= depth[parent]:
                    cut = below.index(node) if len(below) < 64 else len(below) - 1 - below[::-1].index(node)
                    components.append({parent, *below[cut:]})
                    del below[cut:]
    return components


def leaf(graph: Graph) -> tuple[set[int], int | None] | None:
    """A component that hangs on the rest by one cut node, and that node; or one that hangs on nothing, and None.

    None when the graph is a single component. Of several, the one whose cut node has the fewest choices.
    """
    components = biconnected_components(graph)
    if len(components) < 2:
        return None
    times: dict[int, int] = {}
    for component in components:
        for node in component:
            times[node] = times.get(node, 0) + 1
    best: tuple[int, set[int], int | None] | None = None
    for component in components:
        cuts = [node for node in component if times[node] > 1]
        if not cuts:
            return component, None
        if len(cuts) == 1:
            choices = graph.costs[cuts[0]].size
            if best is None or choices < best[0]:
                best = (choices, component, cuts[0])
    assert best is not None, "a forest of components has leaves"
    return best[1], best[2]
