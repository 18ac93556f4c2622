"""Which layer feeds which, worked out on plain dictionaries.

A graph maps each node to the nodes that it feeds, ``{node: (node, ...)}``, in the order in which the nodes entered it.
NeuPy's files and merging layers depend on the two orders that are defined here. Nothing recurses, so that a thousand
layers in a row are no trouble.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

__all__ = ["GraphHasCycleError", "Step", "find_sources", "plan_steps", "reachable", "subgraph", "topological_order"]

Node = TypeVar("Node", bound=Hashable)

#: What to run: a layer's key, the keys of its inputs, and the keys whose values nobody needs afterwards.
Step: TypeAlias = tuple[str, tuple[str, ...], tuple[str, ...]]


class GraphHasCycleError(Exception):
    """The nodes of a graph cannot be put in an order."""


def find_sources(forward: Mapping[Node, Sequence[Node]]) -> dict[Node, tuple[Node, ...]]:
    """What feeds each node: sources in the order in which they entered the graph.

    >>> find_sources({"b": ("c",), "a": ("c",), "c": ()})
    {'b': (), 'a': (), 'c': ('b', 'a')}
    """
    sources: dict[Node, list[Node]] = {node: [] for node in forward}
    for node, targets in forward.items():
        for target in targets:
            sources[target].append(node)
    return {node: tuple(found) for node, found in sources.items()}


def topological_order(
    forward: Mapping[Node, Sequence[Node]], sources: Mapping[Node, Sequence[Node]]
) -> tuple[list[Node], bool]:
    """NeuPy's order, and whether it is the order in which the nodes entered the graph.

    NeuPy goes over the nodes again and again, in the order in which they entered, and takes each one whose sources are
    taken. A node is thus taken in the same round as its latest source, or in the next one where that source entered
    after it.

    >>> topological_order({"b": ("c",), "a": ("b",), "c": ()}, {"b": ("a",), "a": (), "c": ("b",)})
    (['a', 'b', 'c'], False)

    Raises
    ------
    GraphHasCycleError
    """
    entered = {node: index for index, node in enumerate(forward)}
    rounds = dict.fromkeys(forward, 0)
    missing = {node: len(found) for node, found in sources.items()}
    ready = [node for node, count in missing.items() if count == 0]
    for node in ready:
        for target in forward[node]:
            rounds[target] = max(rounds[target], rounds[node] + (entered[node] > entered[target]))
            missing[target] -= 1
            if missing[target] == 0:
                ready.append(target)
    if len(ready) < len(entered):
        raise GraphHasCycleError
    order = sorted(forward, key=lambda node: (rounds[node], entered[node]))
    return order, not any(rounds.values())


def reachable(edges: Mapping[Node, Iterable[Node]], starts: Iterable[Node]) -> set[Node]:
    """The nodes that some nodes lead to, themselves included."""
    found = set(starts)
    waiting = list(found)
    while waiting:
        for node in edges[waiting.pop()]:
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def subgraph(forward: Mapping[Node, Sequence[Node]], nodes: set[Node]) -> dict[Node, tuple[Node, ...]]:
    """A graph with some of its nodes and the edges between them, in the same order."""
    return {
        node: tuple(target for target in targets if target in nodes)
        for node, targets in forward.items()
        if node in nodes
    }


def plan_steps(sources: Mapping[str, Sequence[str]], outputs: Sequence[str]) -> list[Step]:
    """Work out what to run, in order. An input layer's input stands under its own key.

    >>> plan_steps({"x": (), "a": ("x",), "b": ("x", "a")}, ["b"])
    [('x', ('x',), ()), ('a', ('x',), ()), ('b', ('x', 'a'), ('x', 'a'))]
    """
    steps = []
    needed = set(outputs)
    for key, found in reversed(list(sources.items())):
        inputs = tuple(found) or (key,)
        unused = tuple(dict.fromkeys(source for source in inputs if source not in needed and source != key))
        needed.update(unused)
        steps.append((key, inputs, unused))
    return steps[::-1]
