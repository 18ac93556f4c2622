"""A network while it is put together: checked in full before any layer changes.

Layers are kept under the keys that the network will have. Adding something that shares no layer with what is there
costs as much as what is added, whatever is there already; ``join`` of n layers is linear in n.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import naming, topology
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.description import describe_graph
from torchneupy.layers.structure import Structure
from torchneupy.layers.variables import Connection, build_layers

__all__ = ["Draft"]


class Draft:
    """Layers, their connections and their shapes.

    Attributes
    ----------
    layers : dict
        Key to layer, in topological order.
    members : set
        The layers.
    forward : dict
        Key to the keys that it feeds, in the order in which the layers entered.
    sources : dict
        Key to the keys that feed it, in topological order.
    shapes : dict
        Key to the layer's output shape.
    inputs, outputs : list of str
        Keys of layers that nothing feeds, and of those that feed nothing, in the order in which they entered.
    numbers : dict
        The next number of each pattern of names.
    in_order : bool
        Whether the layers entered in topological order.
    n_edges : int
        Number of connections.
    connections : list of (layer, input shapes)
        What is to be built, in topological order.
    """

    def __init__(self) -> None:
        self.layers: dict[str, BaseLayer] = {}
        self.members: set[BaseLayer] = set()
        self.forward: dict[str, tuple[str, ...]] = {}
        self.sources: dict[str, tuple[str, ...]] = {}
        self.shapes: dict[str, TensorShape] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.numbers: dict[str, int] = {}
        self.in_order = True
        self.n_edges = 0
        self.connections: list[Connection] = []

    @classmethod
    def of(cls, operand: BaseLayer | Structure) -> Draft:
        """A layer or a network as a draft; the shape of a layer is left open until it is known where it goes."""
        draft = cls()
        if isinstance(operand, BaseLayer):
            key = operand.name  # for the time being: it gets its key from the draft that it is added to
            draft.layers[key], draft.forward[key], draft.sources[key] = operand, (), ()
            draft.inputs, draft.outputs = [key], [key]
            draft.members.add(operand)
        else:
            draft.layers = operand._as_layers()
            draft.forward = operand._forward.copy()
            draft.sources = operand._sources.copy()
            draft.shapes = operand._shapes.copy()
            draft.inputs, draft.outputs = list(operand._inputs), list(operand._outputs)
            draft.numbers, draft.in_order, draft.n_edges = operand._numbers, operand._in_order, operand._n_edges
            draft.members.update(draft.layers.values())
        return draft

    @classmethod
    def from_forward(cls, forward: dict[BaseLayer, Sequence[BaseLayer]]) -> Draft:
        """A draft from a graph of layers.

        Raises
        ------
        GraphHasCycleError
            If the graph has a cycle.
        LayerConnectionError
            If layers do not fit together.
        """
        draft = cls()
        sources = topology.find_sources(forward)
        order, draft.in_order = topology.topological_order(forward, sources)
        keys, draft.numbers = naming.assign_keys([naming.name_request(layer) for layer in order])
        key_of = dict(zip(order, keys, strict=True))
        draft.layers = dict(zip(keys, order, strict=True))
        draft.members.update(order)
        draft.forward = {key_of[layer]: tuple(key_of[target] for target in forward[layer]) for layer in forward}
        draft.sources = {key_of[layer]: tuple(key_of[source] for source in sources[layer]) for layer in order}
        draft.inputs = [key for key in draft.forward if not draft.sources[key]]
        draft.outputs = [key for key, targets in draft.forward.items() if not targets]
        draft.n_edges = sum(map(len, draft.sources.values()))
        draft.infer(keys)
        return draft

    def infer(self, keys: Iterable[str]) -> None:
        """Work out the output shapes of layers whose sources' are known, and check the connections.

        Raises
        ------
        LayerConnectionError
            If a layer does not fit behind its sources.
        """
        for key in keys:
            layer, sources = self.layers[key], self.sources[key]
            shapes = [self.shapes[source] for source in sources] or [layer.input_shape]
            if len(sources) == 1 and not shapes[0].is_compatible_with(layer.input_shape):
                self.refuse(sources[0], layer)
            self.shapes[key], connections = layer._infer(*shapes)
            self.connections += connections

    def refuse(self, source: str, layer: BaseLayer) -> None:
        """Raise the error of two layers whose shapes do not fit."""
        left = self.layers[source]
        raise LayerConnectionError(
            f"Cannot connect layer `{left.name}` to layer `{layer.name}`, because output shape ({self.shapes[source]}) "
            f"of the first layer is incompatible with the input shape ({layer.input_shape}) of the second layer. "
            f"First layer: {left}, Second layer: {layer}"
        )

    def by_layer(self) -> dict[BaseLayer, list[BaseLayer]]:
        return {self.layers[key]: [self.layers[target] for target in targets] for key, targets in self.forward.items()}

    def fail_if_many_to_many(self, other: Draft) -> None:
        if len(self.outputs) > 1 and len(other.inputs) > 1:
            left = [self.layers[key].name for key in self.outputs]
            right = [other.layers[key].name for key in other.inputs]
            raise LayerConnectionError(
                f"Cannot make many to many connection between graphs. One graph has {len(left)} outputs (layer names: "
                f"{left}) and the other one has {len(right)} inputs (layer names: {right}). "
                f"First graph: {self}, Second graph: {other}"
            )

    def add(self, other: Draft, connect: bool) -> Draft:
        """Put another draft beside this one, or behind it.

        Parameters
        ----------
        other : Draft
        connect : bool
            Whether this one's outputs feed the other one's inputs.

        Returns
        -------
        Draft
            This one, changed, or a new one.

        Raises
        ------
        LayerConnectionError
            If the two do not fit together, or there would be a cycle.
        """
        if not self.layers and other.shapes:
            return other
        if connect:
            self.fail_if_many_to_many(other)
        apart = self.in_order and other.in_order and self.members.isdisjoint(other.members)
        if not apart or not self.append(other, connect):
            return self.rebuild(other, connect)
        return self

    def append(self, other: Draft, connect: bool) -> bool:
        """Add a draft that has no layer of this one; False, and nothing done, if keys of this one would change."""
        requests = [naming.name_request(layer) for layer in other.layers.values()]
        literal = [naming.escape_key(request.text) for request in requests if request.literal]
        if len(set(literal)) < len(literal) or not self.layers.keys().isdisjoint(literal):
            return False  # a suffix goes before the numbers of patterns, those of this draft too
        keys, self.numbers = naming.assign_keys(requests, self.layers, self.numbers)
        key_of = dict(zip(other.layers, keys, strict=True))
        behind = tuple(self.outputs) if connect else ()
        first = [key_of[key] for key in other.inputs]
        self.layers.update(zip(keys, other.layers.values(), strict=True))
        self.members |= other.members
        self.forward.update((key, self.forward[key] + tuple(first)) for key in behind)
        for key, targets in other.forward.items():
            self.forward[key_of[key]] = tuple([key_of[target] for target in targets])
        for key, sources in other.sources.items():
            self.sources[key_of[key]] = tuple([key_of[source] for source in sources]) or behind
        self.n_edges += other.n_edges + len(behind) * len(first)
        self.inputs += first if not behind else []
        self.outputs = [*([] if behind and first else self.outputs), *(key_of[key] for key in other.outputs)]
        if other.shapes and not behind:
            self.shapes.update((key_of[key], shape) for key, shape in other.shapes.items())
            self.connections += other.connections
        else:
            self.infer(keys)
        return True

    def rebuild(self, other: Draft, connect: bool) -> Draft:
        """Add a draft that may share layers with this one: everything is worked out anew."""
        forward = self.by_layer()
        for layer, targets in other.by_layer().items():
            present = forward.setdefault(layer, [])
            present += [target for target in targets if target not in present]
        if connect:
            for key in self.outputs:
                forward[self.layers[key]] += [other.layers[target] for target in other.inputs]
        try:
            return Draft.from_forward(forward)  # type: ignore[arg-type]
        except topology.GraphHasCycleError:
            raise LayerConnectionError(
                "Cannot define connection between layers, because it creates cycle in the graph. "
                f"Left graph: {self}, Right graph: {other}"
            ) from None

    def is_chain(self) -> bool:
        """Whether the layers stand in one row: between one input and one output, no layer has a second connection."""
        return len(self.inputs) == len(self.outputs) == 1 and self.n_edges == len(self.layers) - 1

    def build(self) -> None:
        """Make the variables that can be made now; if one cannot be made as it should, no layer has changed."""
        build_layers(self.connections)

    def __repr__(self) -> str:
        if len(self.layers) == 1 and not self.shapes:
            return repr(next(iter(self.layers.values())))
        return describe_graph(
            [self.layers[key].input_shape for key in self.inputs],
            len(self.layers),
            [self.shapes[key] for key in self.outputs],
        )
