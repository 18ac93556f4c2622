"""What hypothesis draws for our own tests: partly known shapes, layers with valid options, whole networks.

A network is drawn as a description, plain data from which it can be built as often as a test likes. What the library
should make of it is worked out here in another way than there: shapes by functions on tuples, connections on
dictionaries of numbers, values by torch's functions, node by node.

Nothing is random but what hypothesis draws: initial values come from a drawn seed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from itertools import count
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.shaping import SHAPES, gated_shape
from torchneupy import layers
from torchneupy.layers import BaseLayer, LayerGraph, join, parallel
from torchneupy.testing.catalogue import Palette
from torchneupy.testing.layers import draw_suitable
from torchneupy.testing.shapes import partly_unknown

#: A shape with the batch, of which None is an unknown size; None alone is a shape of unknown rank.
Shape: TypeAlias = "tuple[int | None, ...] | None"

#: A shape of one sample, all of it known.
Sizes: TypeAlias = tuple[int, ...]

Node = TypeVar("Node", bound=Hashable)

#: Which nodes each node feeds, in the order in which the nodes entered.
Forward: TypeAlias = dict[Node, list[Node]]


def share(part: float) -> settings:
    """Settings for a test that takes only a part of the profile's examples, because each of them is slow."""
    return settings(max_examples=max(1, round(part * settings().max_examples)))


# Shapes


def shapes_seen(sizes: Sequence[int]) -> st.SearchStrategy[Shape]:
    """What somebody may know of a shape: all of it, some of its sizes, or nothing."""
    return partly_unknown(sizes) | st.none()


seeds = st.integers(0, 2**16)
batches = st.integers(1, 4)


# Layers


@dataclass(frozen=True, eq=False)
class Leaf:
    """One layer of a description: its class, how it is made, and a number that no other layer of the description has.

    A layer at which a network begins also has the sizes that its input really has, and if that holds whole numbers, the
    largest of them; the least is 0.
    """

    number: int
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    begins_with: Sizes | None = None
    largest_index: int | None = None

    def make(self) -> BaseLayer:
        layer: BaseLayer = getattr(layers, self.kind)(**self.options)
        return layer

    def shape(self, *inputs: Shape) -> Shape:
        """The output's shape."""
        first = inputs[0]
        if self.kind == "Input":
            return merged([first, (None, *self.options["shape"])])
        if self.kind == "Elementwise":
            return merged(inputs)
        if self.kind == "Concatenate":
            return concatenated(inputs, self.options.get("axis", -1))
        if self.kind == "GatedAverage":
            place = self.options["gate_index"]
            return with_batches_of(gated_shape(inputs, place), [inputs[place]])
        if self.kind in SHAPES:
            # Another input of LSTM and GRU has the lengths of the sequences.
            return with_batches_of(SHAPES[self.kind](self.options, first), inputs[1:])
        n_units = self.options.get("n_units")
        return first if n_units is None else (None if first is None else first[0], n_units)

    def compute(self, layer: Any, *inputs: Any, training: bool = False) -> Any:
        """What the layer should give, from the options here and the variables there.

        Noise is taken from the layer, as is what takes more than a line: the contract says how these compute.
        """
        if self.kind in ("Dropout", "GaussianNoise", "DropBlock"):
            return layer.output(*inputs, training=True) if training else inputs[0]
        if self.kind in SHAPES or self.kind == "GatedAverage":
            return layer.output(*inputs, training=training)
        if self.kind == "Elementwise":
            return reduce(FUNCTIONS.get(self.options.get("merge_function", "add"), torch.sub), inputs)
        if self.kind == "Concatenate":
            return torch.cat(inputs, dim=self.options.get("axis", -1))
        x = inputs[0]
        if self.options.get("n_units") is not None:
            has_bias = self.options.get("bias", 0) is not None
            assert (layer.bias is not None) == has_bias
            x = torch.einsum("bi,io->bo", x, layer.weight) + (layer.bias if has_bias else 0)
        return ACTIVATIONS[self.kind](x, layer, self.options)


FUNCTIONS: dict[Any, Callable[[Any, Any], Any]] = {"add": torch.add, "multiply": torch.mul}


def with_batches_of(shape: Shape, others: Iterable[Shape]) -> Shape:
    """A shape, and what inputs of other shapes tell of the size of the batch."""
    batches = [None if other is None else other[:1] for other in others]
    return None if shape is None else (merged([shape[:1], *batches]) or ()) + shape[1:]


def merged(shapes: Iterable[Shape]) -> Shape:
    """What several shapes of one thing tell together."""
    known = [shape for shape in shapes if shape is not None]
    sizes = [[size for size in of_axis if size is not None] for of_axis in zip(*known, strict=True)]
    return tuple(found[0] if found else None for found in sizes) if known else None


def concatenated(shapes: Sequence[Shape], axis: int) -> Shape:
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    along = [shape[axis] for shape in known]
    total = None if None in along else sum(size for size in along if size is not None)
    axis %= len(known[0])
    rest = merged([(*shape[:axis], None, *shape[axis + 1 :]) for shape in known])
    assert rest is not None
    return (*rest[:axis], total, *rest[axis + 1 :])


def prelu(x: Any, layer: Any, options: Mapping[str, Any]) -> Any:
    given = options.get("alpha_axes", -1)
    axes = [axis % x.ndim for axis in (given if isinstance(given, tuple) else (given,))]
    places = "".join("abcde"[axis] for axis in axes)
    everywhere = "abcde"[: x.ndim]
    slopes = torch.einsum(f"{everywhere},{places}->{everywhere}", torch.ones_like(x), layer.alpha)
    return torch.where(x > 0, x, slopes * x)


ACTIVATIONS: dict[str, Callable[[Any, Any, Mapping[str, Any]], Any]] = {
    "Input": lambda x, layer, options: x,
    "Identity": lambda x, layer, options: x,
    "Linear": lambda x, layer, options: x,
    "Sigmoid": lambda x, layer, options: torch.sigmoid(x),
    "HardSigmoid": lambda x, layer, options: torch.clamp(0.2 * x + 0.5, 0, 1),
    "Tanh": lambda x, layer, options: torch.tanh(x),
    "Softmax": lambda x, layer, options: torch.softmax(x, dim=-1),
    "Relu": lambda x, layer, options: functional.leaky_relu(x, options.get("alpha", 0)),
    "LeakyRelu": lambda x, layer, options: functional.leaky_relu(x, 0.01),
    "Elu": lambda x, layer, options: functional.elu(x),
    "PRelu": prelu,
    "Softplus": lambda x, layer, options: functional.softplus(x),
}

# Names that get into each other's way, patterns, and some that nn.Module would refuse.
names = st.sampled_from([None, None, None, "a", "a-2", "a-{}", "relu-1", "output", "block.a", "fc{:03d}"])


def read_off(layer: BaseLayer, number: int, name: str | None) -> Leaf:
    """A layer that was drawn as data."""
    kind, options = type(layer).__name__, {**layer.get_params(), "name": name}
    if kind in ("BatchNorm", "GroupNorm"):
        options["beta"] = 0.3  # what has no variance comes out as it, and 0 is where rectifiers have no derivative
    return Leaf(number, kind, options)


def with_units(leaf: Leaf, n_units: int) -> Leaf:
    """An activation with so many outputs, without the arrays for its variables, which would not fit any more."""
    options = {name: value for name, value in leaf.options.items() if not isinstance(value, np.ndarray)}
    return replace(leaf, options={**options, "n_units": n_units})


# Which layers are drawn where. A foreign module has no options, and the inputs of a table are indices.
OF_ACTIVATIONS = Palette([getattr(layers, kind) for kind in ACTIVATIONS if kind not in ("Input", "Identity")], [])
OF_ONE_SHAPE = Palette(
    [
        *OF_ACTIVATIONS.entries,
        *(layers.Identity, layers.Input, layers.Dropout, layers.GaussianNoise, layers.DropBlock),
    ],
    [],
)
OF_OTHER_SHAPES = Palette(None, [layers.ModuleLayer, layers.Embedding, *OF_ONE_SHAPE.entries])
OF_TABLES = Palette([layers.Embedding], [])
OF_SUMS = Palette([layers.Concatenate, layers.Elementwise], [])
OF_CONCATENATIONS = Palette([layers.Concatenate], [])


# Networks


@dataclass(frozen=True, eq=False)
class Row:
    """Parts that are joined."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, eq=False)
class Fork:
    """Parts side by side."""

    parts: tuple[Tree, ...]


Tree: TypeAlias = Leaf | Row | Fork


def leaves_of(tree: Tree) -> dict[int, Leaf]:
    if isinstance(tree, Leaf):
        return {tree.number: tree}
    return {number: leaf for part in tree.parts for number, leaf in leaves_of(part).items()}


def inputs_of(forward: Forward[Node]) -> list[Node]:
    fed = {target for targets in forward.values() for target in targets}
    return [node for node in forward if node not in fed]


def outputs_of(forward: Forward[Node]) -> list[Node]:
    return [node for node, targets in forward.items() if not targets]


def sources_of(forward: Forward[Node], node: Node) -> list[Node]:
    """What feeds a node, in the order in which it entered."""
    return [source for source, targets in forward.items() for target in targets if target == node]


def unite(first: Forward[Node], second: Forward[Node], connect: bool) -> Forward[Node]:
    """Two graphs as one, in which nodes that are in both are there once."""
    united = {node: list(targets) for node, targets in first.items()}
    for node, targets in second.items():
        known = united.setdefault(node, [])
        known += [target for target in targets if target not in known]
    if connect and first:
        for node in outputs_of(first):
            united[node] += inputs_of(second)
    return united


def connections_of(tree: Tree) -> Forward[int]:
    if isinstance(tree, Leaf):
        return {tree.number: []}
    found: Forward[int] = {}
    for part in tree.parts:
        found = unite(found, connections_of(part), connect=isinstance(tree, Row))
    return found


def sweep(forward: Forward[Node]) -> list[Node]:
    """NeuPy's order: again and again over the nodes as they entered, taking each one whose sources are taken.

    Where there is a cycle, its nodes and all that come after them are missing.
    """
    sources = {node: sources_of(forward, node) for node in forward}
    taken: dict[Node, None] = {}
    before = -1
    while before < len(taken):
        before = len(taken)
        for node in forward:
            if node not in taken and all(source in taken for source in sources[node]):
                taken[node] = None
    return list(taken)


@dataclass(frozen=True, eq=False)
class Description:
    """A network as data.

    Attributes
    ----------
    tree : Row
    batch : int
        How many samples its inputs have.
    seed : int
        For initial values, and for inputs.
    """

    tree: Row
    batch: int = 2
    seed: int = 0

    @cached_property
    def leaves(self) -> dict[int, Leaf]:
        return leaves_of(self.tree)

    @cached_property
    def forward(self) -> Forward[int]:
        return connections_of(self.tree)

    @cached_property
    def begins(self) -> dict[int, Sizes]:
        """The numbers of the layers at which it begins, and the sizes of what they get."""
        leaves = self.leaves
        return {node: leaves[node].begins_with or () for node in inputs_of(self.forward)}

    def first_layers(self, declared: Mapping[int, Shape] | None = None) -> dict[int, Any]:
        """Layers to begin with that declare these shapes: an Input, or an Identity where not even the rank is known."""
        leaves, found = self.leaves, {}
        for number, sizes in self.begins.items():
            shape = (None, *sizes) if declared is None else declared[number]
            name = leaves[number].options.get("name")
            found[number] = layers.Identity(name=name) if shape is None else layers.Input(shape[1:], name=name)
        return found

    def build(self, declared: Mapping[int, Shape] | None = None) -> Built:
        """A new network; its first layers know the shapes of their inputs unless it is said what they know."""
        torch.manual_seed(self.seed)
        made = self.first_layers(declared)
        return Built(self, as_network(build_tree(self.tree, made)), made)

    def inputs(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed + seed + 1)
        drawn = []
        for node, sizes in self.begins.items():
            shape, largest = (self.batch, *sizes), self.leaves[node].largest_index
            if largest is None:
                drawn.append(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
            else:
                drawn.append(torch.randint(largest + 1, shape, generator=generator))
        return drawn

    def shapes(self, first: Mapping[int, Shape]) -> dict[int, Shape]:
        """The output shape of each node, when the layers at which it begins get these."""
        forward, leaves = self.forward, self.leaves
        found: dict[int, Shape] = {}
        for node in sweep(forward):
            sources = sources_of(forward, node)
            found[node] = leaves[node].shape(*[found[source] for source in sources]) if sources else first[node]
        return found

    def compute(
        self, made: Mapping[int, Any], inputs: Sequence[torch.Tensor], training: bool = False
    ) -> dict[int, torch.Tensor]:
        """The value of each node, worked out by hand from the variables of these layers."""
        forward, leaves = self.forward, self.leaves
        given = dict(zip(inputs_of(forward), inputs, strict=True))
        found: dict[int, torch.Tensor] = {}
        for node in sweep(forward):
            if node in given:
                found[node] = given[node]
                continue
            sources = [found[source] for source in sources_of(forward, node)]
            found[node] = leaves[node].compute(made[node], *sources, training=training)
        return found


def build_tree(tree: Tree, made: dict[int, Any]) -> Any:
    """A layer or a network; layers are made when they are met first, and kept in ``made``."""
    if isinstance(tree, Leaf):
        if tree.number not in made:
            made[tree.number] = tree.make()
        return made[tree.number]
    parts = [build_tree(part, made) for part in tree.parts]
    return join(*parts) if isinstance(tree, Row) else parallel(*parts)


def as_network(made: Any) -> LayerGraph:
    return join(made) if isinstance(made, BaseLayer) else made


@dataclass(frozen=True, eq=False)
class Built:
    """A network, what it was built from, and its layers by their numbers."""

    description: Description
    network: Any
    layers: dict[int, Any]

    def in_double(self) -> Built:
        """The same, and it computes in float64."""
        self.network.double()
        return self

    def numbers(self, found: Iterable[Any]) -> list[int]:
        """The numbers of some of its layers."""
        number_of = {layer: number for number, layer in self.layers.items()}
        return [number_of[layer] for layer in found]


def total(outputs: Iterable[torch.Tensor]) -> torch.Tensor:
    """One number that depends on each value of the outputs in another way."""
    weighted = [(part * torch.linspace(-1, 2, part.numel(), dtype=part.dtype).view_as(part)).sum() for part in outputs]
    return torch.stack(weighted).sum()


class Drawing:
    """Draws the parts of one description, whose layers get numbers one after the other.

    ``reshapes`` says whether there may be layers that some inputs only suit, or whose output has another shape.
    """

    def __init__(self, draw: Any, reshapes: bool = False) -> None:
        self.draw = draw
        self.reshapes = reshapes
        self.numbers = count()

    def leaf(self, palette: Palette, *sizes: Sizes) -> Leaf:
        """A layer of some class that can take inputs of these sizes."""
        layer = draw_suitable(self.draw, palette, *sizes)
        return read_off(layer, next(self.numbers), self.draw(names))

    def activation(self, sizes: Sizes, n_units: int | None = None) -> Leaf:
        """An activation, with a linear transformation to so many outputs before it, if it is said how many."""
        leaf = self.leaf(OF_ACTIVATIONS, sizes)
        return leaf if n_units is None else with_units(leaf, n_units)

    def layer(self, sizes: Sizes) -> tuple[Tree, Sizes]:
        # The former are many more classes, but the latter have more to get wrong.
        palettes = [OF_ONE_SHAPE, OF_OTHER_SHAPES, OF_OTHER_SHAPES] if self.reshapes else [OF_ONE_SHAPE]
        leaf = self.leaf(self.draw(st.sampled_from(palettes)), sizes)
        return leaf, self.sizes_behind(leaf, [sizes])

    @staticmethod
    def sizes_behind(leaf: Leaf, before: Sequence[Sizes]) -> Sizes:
        shape = leaf.shape(*[(1, *sizes) for sizes in before])
        assert shape is not None
        return tuple(size for size in shape[1:] if size is not None)

    def row(self, sizes: Sizes, depth: int, max_size: int = 3) -> tuple[Row, Sizes]:
        """Layers and blocks in a row, at least one."""
        parts: list[Tree] = []
        for _ in range(self.draw(st.integers(1, max_size))):
            blocks: list[Any] = [self.branches, self.residual, self.bypass] if depth > 0 else []
            blocks += [self.gated] if blocks and self.reshapes else []
            block = self.draw(st.sampled_from([None, None, *blocks]))
            part, sizes = self.layer(sizes) if block is None else block(sizes, depth - 1)
            parts.append(part)
        return Row(tuple(parts)), sizes

    def merge(self, fork: Fork, branches: Sequence[Sizes]) -> tuple[Tree, Sizes]:
        """Branches and the layer that makes one of them; only the first branch where they do not fit together."""
        if not OF_SUMS.suitable(*branches):
            return fork.parts[0], branches[0]
        leaf = self.leaf(OF_SUMS, *branches)
        return Row((fork, leaf)), self.sizes_behind(leaf, branches)

    def branches(self, sizes: Sizes, depth: int) -> tuple[Tree, Sizes]:
        """Two or three rows side by side, which come together again."""
        drawn = [self.row(sizes, depth, 2) for _ in range(self.draw(st.integers(2, 3)))]
        rows, found = zip(*drawn, strict=True)
        return self.merge(Fork(rows), found)

    def residual(self, sizes: Sizes, depth: int) -> tuple[Tree, Sizes]:
        """A row beside a way past it."""
        row, found = self.row(sizes, depth, 2)
        if found != sizes and len(found) == len(sizes) == 1:
            row = Row((*row.parts, self.activation(found, n_units=sizes[0])))
            found = sizes
        way_past = Leaf(next(self.numbers), "Identity")
        if self.draw(st.booleans()):
            return self.merge(Fork((row, way_past)), [found, sizes])
        return self.merge(Fork((way_past, row)), [sizes, found])

    def bypass(self, sizes: Sizes, depth: int) -> tuple[Tree, Sizes]:
        """A layer that feeds a row, and what comes behind the row as well: two networks share layers."""
        first, start = self.layer(sizes)
        row, found = self.row(start, depth, 2)
        # Alone behind one layer, Elementwise would have a single input.
        if not OF_CONCATENATIONS.suitable(start, found):
            return Row((first, row)), found
        last = self.leaf(OF_CONCATENATIONS, start, found)
        long, short = Row((first, row, last)), Row((first, last))
        fork = Fork((long, short) if self.draw(st.booleans()) else (short, long))
        return fork, self.sizes_behind(last, [start, found])

    def gated(self, sizes: Sizes, depth: int) -> tuple[Tree, Sizes]:
        """Two or three layers side by side, added up with weights that one more gives."""
        n_branches, width = self.draw(st.integers(2, 3)), self.draw(st.integers(1, 3))
        is_row = len(sizes) == 1
        found = (width,) if is_row else sizes
        branches: list[Tree] = [self.activation(sizes, width if is_row else None) for _ in range(n_branches)]
        gate: Tree = self.activation(sizes[-1:], n_units=n_branches)
        if not is_row:
            gate = Row((Leaf(next(self.numbers), "GlobalPooling", {"function": "avg"}), gate))
        place = self.draw(st.sampled_from([0, -1]))
        fork = Fork((*branches, gate) if place else (gate, *branches))
        return Row((fork, Leaf(next(self.numbers), "GatedAverage", {"gate_index": place}))), found

    def looked_up(self, sizes: Sizes) -> tuple[Tree, Sizes]:
        """An input of whole numbers, and the table in which they are looked up."""
        first, table = self.beginning(sizes), self.leaf(OF_TABLES, sizes)
        first = replace(first, largest_index=table.options["input_size"] - 1)
        return Row((first, table)), self.sizes_behind(table, [sizes])

    def with_lengths(self, sizes: Sizes) -> tuple[Tree, Sizes]:
        """An input of sequences, one of their lengths, and what reads both."""
        inputs = self.beginning(sizes), replace(self.beginning(()), largest_index=sizes[0])
        leaf = self.leaf(OF_OTHER_SHAPES, sizes, ())
        return Row((Fork(inputs), leaf)), self.sizes_behind(leaf, [sizes])

    def begin(self, sizes: Sizes) -> tuple[Tree, Sizes]:
        """A beginning, and perhaps what has to stand right behind it."""
        special: dict[int, Any] = {1: self.looked_up, 2: self.with_lengths} if self.reshapes else {}
        if len(sizes) in special and self.draw(st.booleans()):
            begun: tuple[Tree, Sizes] = special[len(sizes)](sizes)
            return begun
        return self.beginning(sizes), sizes

    def beginning(self, sizes: Sizes) -> Leaf:
        name = self.draw(names)
        return Leaf(next(self.numbers), "Input", {"shape": sizes, "name": name}, begins_with=sizes)

    def several_beginnings(self, sizes: Sizes, depth: int) -> tuple[Tree, Sizes]:
        """Two or three inputs, each with layers behind it or none, which come together."""
        rows: list[Tree] = []
        branches = []
        for _ in range(self.draw(st.integers(2, 3))):
            first = self.beginning(sizes)
            if self.draw(st.booleans()):
                row, found = self.row(sizes, depth, 1)
                rows.append(Row((first, *row.parts)))
                branches.append(found)
            else:
                rows.append(first)
                branches.append(sizes)
        if not OF_SUMS.suitable(*branches):  # this takes the shape of an image away from the rest
            return self.beginning(sizes), sizes
        return self.merge(Fork(tuple(rows)), branches)

    def ending(self, sizes: Sizes, depth: int) -> Fork:
        """Two or three outputs of their own."""
        return Fork(tuple(self.row(sizes, depth, 1)[0] for _ in range(self.draw(st.integers(2, 3)))))


def features(max_size: int = 4) -> st.SearchStrategy[Sizes]:
    return st.integers(1, max_size).map(lambda size: (size,))


sample_sizes = features() | st.tuples(*[st.integers(1, 3)] * 2) | st.tuples(*[st.integers(1, 4)] * 3)


@st.composite
def descriptions(
    draw: Any,
    sizes: st.SearchStrategy[Sizes] = sample_sizes,
    several_inputs: bool = True,
    several_outputs: bool = True,
    depth: int = 2,
) -> Description:
    """A network that can be run: chains, branches, residual blocks, several inputs and outputs, shared layers.

    Parameters
    ----------
    sizes : strategy
        Of one sample of the inputs.
    several_inputs, several_outputs : bool
        Whether there may be two or three.
    depth : int
        How often branches may stand within branches.
    """
    drawing = Drawing(draw, reshapes=True)
    found = draw(sizes)
    if several_inputs and draw(st.booleans()):
        first, found = drawing.several_beginnings(found, depth - 1)
    else:
        first, found = drawing.begin(found) if several_inputs else (drawing.beginning(found), found)
    row, found = drawing.row(found, depth)
    parts = [first, *row.parts]
    if several_outputs and draw(st.booleans()):
        parts.append(drawing.ending(found, depth - 1))
    return Description(Row(tuple(parts)), batch=draw(batches), seed=draw(seeds))


@st.composite
def rows_without_input(draw: Any, sizes: Sizes, first_number: int = 0, max_size: int = 3) -> tuple[Row, Sizes]:
    """Layers and blocks in a row that take an input of these sizes but do not say so, and the sizes behind them."""
    drawing = Drawing(draw, reshapes=True)
    drawing.numbers = count(first_number)
    return drawing.row(sizes, 1, max_size)


def in_three(row: Row, first: int, second: int) -> tuple[Row, Row, Row]:
    """A row as three rows, cut before its parts of these places."""
    return Row(row.parts[:first]), Row(row.parts[first:second]), Row(row.parts[second:])
