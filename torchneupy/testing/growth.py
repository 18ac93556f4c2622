"""How a network is drawn: it grows from its inputs, one layer at a time, behind its last one, the tip.

What stands beside the tip, a branch, an earlier layer or another input, is merged with it at once, so that the network
is valid wherever it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from hypothesis import assume
from hypothesis import strategies as st

from torchneupy.core.shape import TensorShape
from torchneupy.layers import BaseLayer, GatedAverage, Input, LayerGraph, Linear, Relu, Sigmoid, Softmax
from torchneupy.testing.catalogue import Palette, Sizes
from torchneupy.testing.inputs import reads_indices

__all__ = ["Growth"]

GATES = (Softmax, Sigmoid, Linear, Relu)


@dataclass(frozen=True, eq=False)
class Node:
    """A layer of a network that is being drawn.

    Attributes
    ----------
    layer : BaseLayer
    sizes : tuple of int
        Of one sample of its output.
    sources : tuple of Node
        What feeds it, in the order in which they entered the network.
    holds_indices : bool
        Whether its output are whole numbers for the layer that it feeds, with which nothing else can be done.
    """

    layer: BaseLayer
    sizes: Sizes
    sources: tuple[Node, ...] = ()
    holds_indices: bool = False


class Growth:
    """A network in the making.

    Parameters
    ----------
    draw : callable
    palette : Palette
    n_layers : int
        With how many layers it stops to grow.
    """

    def __init__(self, draw: st.DrawFn, palette: Palette, n_layers: int) -> None:
        self.draw = draw
        self.palette = palette
        self.n_layers = n_layers
        self.nodes: list[Node] = []

    @property
    def tip(self) -> Node:
        return self.nodes[-1]

    @property
    def room(self) -> int:
        """How many layers are still missing."""
        return self.n_layers - len(self.nodes)

    @property
    def values(self) -> list[Node]:
        """The nodes that other layers can be put behind."""
        return [node for node in self.nodes if not node.holds_indices]

    def suitable(self, *sources: Node) -> list[type[BaseLayer]]:
        """Classes of layers that can stand behind these nodes."""
        found = self.palette.suitable(*(source.sizes for source in sources))
        return [cls for cls in found if not any(reads_indices(cls, place) for place in range(len(sources)))]

    def add(self, layer: BaseLayer, *sources: Node) -> Node:
        shapes = [TensorShape((None, *source.sizes)) for source in sources]
        shape = TensorShape(layer.get_output_shape(*shapes))
        if not shape or None in shape[1:]:
            raise ValueError(
                f"Cannot draw networks with {type(layer).__name__}: for {', '.join(map(str, shapes))} its "
                f"get_output_shape gives {shape}, of which all sizes but the batch have to be known. Layer: {layer}"
            )
        self.nodes.append(Node(layer, tuple(size for size in shape[1:] if size is not None), sources))
        return self.tip

    def grow(self, classes: Sequence[type[BaseLayer]], *sources: Node) -> Node:
        """Put a layer of one of these classes behind nodes."""
        strategies = self.palette.suitable(*(source.sizes for source in sources))
        return self.add(self.draw(strategies[self.draw(st.sampled_from(classes))]), *sources)

    def begin(self, sizes: Sizes, holds_indices: bool = False) -> Node:
        self.nodes.append(Node(Input(sizes), sizes, holds_indices=holds_indices))
        return self.tip

    # Beginnings

    def begin_with(self, n_inputs: int, sizes: Sizes) -> None:
        """One or more inputs of equal shapes, with a layer behind some of them, which come together."""
        ends = [self.begin(sizes)]
        for missing in reversed(range(1, n_inputs)):
            end = self.begin(sizes)
            # What is missing are inputs, and the layer that merges all.
            if self.room > missing and self.draw(st.booleans()):
                end = self.beside(ends, end)
            ends.append(end)
        if n_inputs > 1:
            self.merge(*ends)

    def merge(self, *sources: Node) -> Node:
        classes = self.suitable(*sources)
        assume(classes)
        return self.grow(classes, *sources)

    def beside(self, others: Sequence[Node], source: Node) -> Node:
        """A layer behind a node, if it can be merged with others; else that node."""
        classes = self.suitable(source)
        if not classes:
            return source
        node = self.grow(classes, source)
        if self.suitable(*others, node):
            return node
        self.nodes.remove(node)
        return source

    def begin_with_lengths(self, sizes: Sizes) -> bool:
        """An input of sequences, one of their lengths, and a layer that reads both, if there is a class for it."""
        readers = [cls for cls in self.palette.suitable(sizes, ()) if reads_indices(cls, 1)]
        if not readers or not self.draw(st.booleans()):
            return False
        self.grow(readers, self.begin(sizes), self.begin((), holds_indices=True))
        return True

    # What stands behind

    def extend(self) -> bool:
        """One layer more behind the tip, or a few with something beside them; or nothing, if there is no way."""
        moves: list[Callable[[], object]] = []
        if self.suitable(self.tip):
            moves += [self.chain, self.chain]
            moves += [self.branch] if self.room >= 2 else []
        moves += [self.skip] if self.partners() else []
        moves += [self.look_up] if self.tables() else []
        moves += [self.gate] if self.room >= 2 and self.gates() and self.groups() else []
        if moves:
            self.draw(st.sampled_from(moves))()
        return bool(moves)

    def chain(self) -> Node:
        return self.grow(self.suitable(self.tip), self.tip)

    def partners(self) -> list[Node]:
        """Earlier nodes that can be merged with the tip."""
        tip = self.tip
        return [node for node in self.values if node is not tip and self.suitable(node, tip)]

    def skip(self) -> Node:
        """The tip merged with one or two earlier nodes, as in residual and dense connections."""
        tip, partners = self.tip, self.partners()
        pairs = [pair for pair in combinations(partners, 2) if self.suitable(*pair, tip)]
        groups = [*((partner,) for partner in partners), *pairs]
        return self.merge(*self.draw(st.sampled_from(groups)), tip)

    def branch(self) -> Node:
        """Layers behind any node, which are merged with the tip; one behind the tip, if none of them can be."""
        tip = self.tip
        source = end = self.draw(st.sampled_from([node for node in reversed(self.values) if self.suitable(node)]))
        for _ in range(self.draw(st.integers(1, min(3, self.room - 1)))):
            end = self.beside([tip], end)
        return self.chain() if end is source else self.merge(tip, end)

    def tables(self) -> list[type[BaseLayer]]:
        """Classes of layers that can look up the values of an input, if there is nothing else yet."""
        found = self.palette.suitable(self.tip.sizes) if len(self.nodes) == 1 else {}
        return [cls for cls in found if reads_indices(cls, 0)]

    def look_up(self) -> Node:
        """The values of the input are whole numbers from here on, which a layer looks up in a table."""
        tables, source = self.tables(), replace(self.nodes.pop(), holds_indices=True)
        self.nodes.append(source)
        return self.grow(tables, source)

    def groups(self) -> list[tuple[Node, ...]]:
        """Nodes of equal sizes, the tip among them, which a gate can add up."""
        tip = self.tip
        equal = [node for node in self.values if node.sizes == tip.sizes and node is not tip]
        return [(*group, tip) for n_others in (1, 2) for group in combinations(equal, n_others)]

    def gates(self) -> list[tuple[type[Linear], Node]]:
        """Classes of gates, and the nodes that they can stand behind."""
        if GatedAverage not in self.palette.entries:
            return []
        flat = [node for node in self.values if len(node.sizes) == 1]
        return [(cls, node) for cls in GATES if cls in self.palette.entries for node in flat]

    def gate(self) -> Node:
        """The tip and earlier nodes added up, by the weights of a gate."""
        group = self.draw(st.sampled_from(self.groups()))
        cls, source = self.draw(st.sampled_from(self.gates()))
        return self.add(GatedAverage(-1), *group, self.add(cls(len(group)), source))

    # Ends

    def end_beside(self) -> Node:
        """One more output: a layer behind a node that feeds something already."""
        sources = {source: None for node in self.nodes for source in node.sources if self.suitable(source)}
        possible = [source for source in sources if not source.holds_indices]
        assume(possible)
        source = self.draw(st.sampled_from(possible))
        return self.grow(self.suitable(source), source)

    def as_network(self) -> LayerGraph:
        targets = {node: [other.layer for other in self.nodes if node in other.sources] for node in self.nodes}
        return LayerGraph([(node.layer, layers) for node, layers in targets.items()])
