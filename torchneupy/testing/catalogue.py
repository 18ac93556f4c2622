"""What can be drawn for each class of layers, given the sizes of its inputs.

The sizes are those of one sample, without the batch, and all known. A strategy function takes them, one tuple for each
input, and gives a strategy for layers that can take such inputs, or ``st.nothing()`` where no layer of the class can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from torchneupy import init
from torchneupy import layers as library
from torchneupy.layers import BaseLayer
from torchneupy.testing.arguments import read_range
from torchneupy.testing.randomness import seeded
from torchneupy.testing.shapes import partly_unknown

__all__ = ["CATALOGUE", "Entry", "LayerStrategy", "Palette", "Sizes", "register_layer", "unregister_layer"]

#: A shape of one sample, all of it known.
Sizes: TypeAlias = tuple[int, ...]

#: Takes the sizes of each input, and gives a strategy for layers.
LayerStrategy: TypeAlias = Callable[..., st.SearchStrategy[Any]]

Strategies: TypeAlias = st.SearchStrategy[Any]

LARGEST_SIDE = 6  # of an image that a layer makes larger

NOTHING: Strategies = st.nothing()
seeds = st.integers(0, 2**16)
units = st.integers(1, 4)


class Entry(NamedTuple):
    """How layers of a class are drawn.

    Attributes
    ----------
    strategy : callable
    n_inputs : tuple of int
        The least and the largest number of inputs.
    """

    strategy: LayerStrategy
    n_inputs: tuple[int, int]


def make(cls: Callable[..., Any], required: dict[str, Strategies], **optional: Strategies) -> Strategies:
    """Layers of a class, with some of the optional arguments; with none of them in the smallest example."""
    return st.fixed_dictionaries(required, optional=optional).map(lambda options: cls(**options))


def for_ranks(*ranks: int) -> Callable[[LayerStrategy], LayerStrategy]:
    """Let a strategy function for one input draw nothing where a sample has another number of axes."""

    def decorate(function: LayerStrategy) -> LayerStrategy:
        return lambda sizes: function(sizes) if len(sizes) in ranks else NOTHING

    return decorate


variables: Strategies = st.one_of(
    st.sampled_from([0.5, 1, init.HeUniform(seed=3), init.XavierNormal(seed=4)]),
    seeds.map(lambda seed: init.Uniform(-1, 1, seed=seed)),
)
biases: Strategies = st.none() | variables


def variable(*shape: int) -> Strategies:
    """What a variable of a shape can be made from, an array of that shape among it."""
    return variables | seeds.map(lambda seed: np.random.default_rng(seed).normal(size=shape))


# Any number of axes


def keeps_shape(cls: type[BaseLayer], sizes: Sizes, **optional: Strategies) -> Strategies:
    return make(cls, {}, **optional)


def inputs(sizes: Sizes) -> Strategies:
    return partly_unknown(sizes).map(library.Input)


def activations(cls: type[BaseLayer], sizes: Sizes, **optional: Strategies) -> Strategies:
    """An activation, with a linear transformation before it where a sample has one axis, or without."""
    if not sizes:
        return NOTHING  # Softmax would go over the batch
    alone = make(cls, {}, **optional)
    if len(sizes) > 1:
        return alone

    @cache
    def transformed(n_units: int) -> Strategies:
        weight, bias = variable(*sizes, n_units), st.none() | variable(n_units)
        return make(cls, {"n_units": st.just(n_units)}, weight=weight, bias=bias, **optional)

    return units.flatmap(transformed) | alone


def prelus(sizes: Sizes) -> Strategies:
    if not sizes:
        return NOTHING
    axes = st.lists(st.integers(1, len(sizes)), min_size=1, unique=True)
    signed = axes.flatmap(lambda found: st.tuples(*(st.sampled_from([axis - len(sizes) - 1, axis]) for axis in found)))
    return activations(library.PRelu, sizes, alpha_axes=signed, alpha=variables)


def batch_norms(sizes: Sizes) -> Strategies:
    if not sizes:
        return NOTHING
    axes = st.lists(st.integers(1, len(sizes)), unique=True).map(lambda found: (0, *sorted(found)))
    return make(
        library.BatchNorm,
        {},
        axes=axes,
        alpha=st.sampled_from([0.1, 0.5]),
        epsilon=st.sampled_from([1e-5, 0.1]),
        gamma=variables,
        beta=variables,
    )


def reshapes(sizes: Sizes) -> Strategies:
    if not sizes:
        return NOTHING
    count = math.prod(sizes)
    factors = st.sampled_from([factor for factor in range(1, count + 1) if count % factor == 0])
    in_two = factors.flatmap(lambda a: st.sampled_from([(a, count // a), (-1, count // a), (a, -1)]))
    return make(library.Reshape, {}, shape=st.sampled_from([-1, (count,)]) | in_two)


def transposes(sizes: Sizes) -> Strategies:
    if len(sizes) < 2:
        return NOTHING
    return st.permutations(range(1, len(sizes) + 1)).map(lambda order: library.Transpose((0, *order)))


def embeddings(sizes: Sizes) -> Strategies:
    return make(library.Embedding, {"input_size": units, "output_size": st.integers(1, 3)}, weight=variables)


def modules(sizes: Sizes) -> Strategies:
    """Modules of torch, and a network, as layers."""
    found: list[Strategies] = [st.just(nn.Tanh)]
    if sizes:
        found.append(units.map(lambda n_units: partial(nn.Linear, sizes[-1], n_units)))
        found.append(st.just(partial(nn.LayerNorm, sizes[-1])))
    if len(sizes) == 1:
        found.append(units.map(lambda n_units: lambda: library.Relu(n_units) >> library.Dropout(0.5)))
    return st.builds(adapted, st.one_of(found), seeds)


def adapted(make_module: Callable[[], nn.Module], seed: int) -> library.ModuleLayer:
    with seeded(seed):  # modules draw their initial values at once
        return library.ModuleLayer(make_module())


# Images


@for_ranks(3)
def drop_blocks(sizes: Sizes) -> Strategies:
    sides = st.integers(1, 3)
    return make(library.DropBlock, {"keep_proba": fractions, "block_size": sides | st.tuples(sides, sides)})


@for_ranks(3)
@st.composite
def convolutions(draw: st.DrawFn, sizes: Sizes) -> BaseLayer:
    padding = draw(st.sampled_from(["valid", "same", 1, (0, 1)]))
    dilation = draw(st.sampled_from([1, 2]))
    added = {"valid": (0, 0), "same": (math.inf, math.inf), 1: (2, 2), (0, 1): (0, 2)}[padding]
    # The kernel, with its gaps, has to fit into the padded image.
    most = [int(min(3, (side + extra - 1) // dilation + 1)) for side, extra in zip(sizes, added, strict=False)]
    kernel = [draw(st.integers(1, size)) for size in most]
    options = draw(st.fixed_dictionaries({}, optional={"stride": strides, "weight": variables, "bias": biases}))
    n_filters = draw(st.integers(1, 3))
    return library.Convolution((kernel[0], kernel[1], n_filters), padding=padding, dilation=dilation, **options)


@for_ranks(3)
def deconvolutions(sizes: Sizes) -> Strategies:
    small = max(sizes[:2]) * 2 <= LARGEST_SIDE
    return make(
        library.Deconvolution,
        {"size": st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 3))},
        padding=st.sampled_from(["valid", "same"]),
        stride=strides if small else st.just(1),
        weight=variables,
        bias=biases,
    )


def poolings(cls: type[BaseLayer], sizes: Sizes) -> Strategies:
    window = st.tuples(*(st.integers(1, min(3, side)) for side in sizes[:2]))
    return make(cls, {"size": window}, padding=st.sampled_from(["valid", "same"]), stride=strides)


@for_ranks(3)
def upscales(sizes: Sizes) -> Strategies:
    most = [max(1, min(2, LARGEST_SIDE // side)) for side in sizes[:2]]
    return make(library.Upscale, {"scale": st.tuples(*(st.integers(1, size) for size in most))})


@for_ranks(2, 3)
def global_poolings(sizes: Sizes) -> Strategies:
    return make(library.GlobalPooling, {"function": st.sampled_from(["avg", "max", "sum", torch.logsumexp])})


@for_ranks(3)
def group_norms(sizes: Sizes) -> Strategies:
    possible = [count for count in range(1, sizes[-1] + 1) if sizes[-1] % count == 0]
    return make(library.GroupNorm, {"n_groups": st.sampled_from(possible)}, gamma=variables, beta=variables)


@for_ranks(3)
def response_norms(sizes: Sizes) -> Strategies:
    return make(library.LocalResponseNorm, {}, depth_radius=st.sampled_from([1, 3]), alpha=st.sampled_from([1e-4, 0.5]))


# Sequences


def recurrent(cls: type[BaseLayer], sizes: Sizes, lengths: Sizes = ()) -> Strategies:
    """LSTM or GRU for sequences, and where there is another input, for their lengths."""
    if len(sizes) != 2 or lengths:
        return NOTHING
    optional = {
        "only_return_final": st.booleans(),
        "backwards": st.booleans(),
        "learn_init": st.booleans(),
        "hidden_init": variables,
        "gradient_clipping": st.just(1),
    }
    if cls is library.LSTM:
        optional["peepholes"] = st.booleans()
    return make(cls, {"n_units": st.integers(1, 3)}, **optional)


# Several inputs


def difference(left: Any, right: Any) -> Any:
    """A function for Elementwise that tells its inputs apart."""
    return left - right


def elementwise(*branches: Sizes) -> Strategies:
    if len(set(branches)) > 1:
        return NOTHING
    return make(library.Elementwise, {}, merge_function=st.sampled_from(["add", "multiply", difference]))


def concatenates(*branches: Sizes) -> Strategies:
    axes = [axis + 1 for axis in range(len(branches[0])) if fit_beside(branches, axis)]
    if not axes:
        return NOTHING
    ndims = len(branches[0]) + 1
    given = st.sampled_from([signed for axis in reversed(axes) for signed in (axis - ndims, axis)])
    return make(library.Concatenate, {"axis": given})


def fit_beside(branches: Sequence[Sizes], axis: int) -> bool:
    """Whether sizes differ along no axis but one."""
    return len({len(sizes) for sizes in branches}) == 1 and len({(*s[:axis], *s[axis + 1 :]) for s in branches}) == 1


def gated_averages(*branches: Sizes) -> Strategies:
    """For places of the gate that leave inputs of one shape, as many as it has numbers."""
    places = [
        place
        for place, sizes in enumerate(branches)
        if sizes == (len(branches) - 1,) and len({*branches[:place], *branches[place + 1 :]}) == 1
    ]
    signed = [*places, *(place - len(branches) for place in places)]
    return st.sampled_from(signed).map(library.GatedAverage) if places else NOTHING


fractions = st.sampled_from([0.5, 0, 0.3, 1])
strides = st.sampled_from([1, 2, (1, 2)])

ONE, ONE_OR_TWO, SEVERAL = (1, 1), (1, 2), (2, 16)

#: Class to what is drawn for it; where a strategy chooses a class, those that stand first are the smaller examples.
CATALOGUE: dict[type[BaseLayer], Entry] = {
    library.Identity: Entry(partial(keeps_shape, library.Identity), ONE),
    **{
        cls: Entry(partial(activations, cls), ONE)
        for cls in (library.Linear, library.Tanh, library.Sigmoid, library.HardSigmoid, library.Softplus, library.Elu)
    },
    library.LeakyRelu: Entry(partial(activations, library.LeakyRelu), ONE),
    library.Relu: Entry(partial(activations, library.Relu, alpha=st.sampled_from([0, 0.25, 1])), ONE),
    library.Softmax: Entry(partial(activations, library.Softmax), ONE),
    library.PRelu: Entry(prelus, ONE),
    library.Input: Entry(inputs, ONE),
    library.Dropout: Entry(lambda sizes: make(library.Dropout, {"proba": fractions}), ONE),
    library.GaussianNoise: Entry(
        partial(keeps_shape, library.GaussianNoise, mean=st.sampled_from([0, -1.5]), std=st.sampled_from([1, 0, 0.1])),
        ONE,
    ),
    library.BatchNorm: Entry(batch_norms, ONE),
    library.Reshape: Entry(reshapes, ONE),
    library.Transpose: Entry(transposes, ONE),
    library.Convolution: Entry(convolutions, ONE),
    library.Deconvolution: Entry(deconvolutions, ONE),
    library.MaxPooling: Entry(for_ranks(3)(partial(poolings, library.MaxPooling)), ONE),
    library.AveragePooling: Entry(for_ranks(3)(partial(poolings, library.AveragePooling)), ONE),
    library.GlobalPooling: Entry(global_poolings, ONE),
    library.Upscale: Entry(upscales, ONE),
    library.GroupNorm: Entry(group_norms, ONE),
    library.LocalResponseNorm: Entry(response_norms, ONE),
    library.DropBlock: Entry(drop_blocks, ONE),
    library.LSTM: Entry(partial(recurrent, library.LSTM), ONE_OR_TWO),
    library.GRU: Entry(partial(recurrent, library.GRU), ONE_OR_TWO),
    library.Embedding: Entry(embeddings, ONE),
    library.ModuleLayer: Entry(modules, ONE),
    library.Elementwise: Entry(elementwise, SEVERAL),
    library.Concatenate: Entry(concatenates, SEVERAL),
    library.GatedAverage: Entry(gated_averages, SEVERAL),
}


def register_layer(
    layer_class: type[BaseLayer], strategy_function: LayerStrategy, n_inputs: int | tuple[int, int] = 1
) -> None:
    """Tell how layers of a class are drawn; :func:`layers` and :func:`networks` draw them from then on.

    Parameters
    ----------
    layer_class : subclass of BaseLayer
        A class that is registered already gets another strategy.
    strategy_function : callable
        Takes the sizes of one sample of each input, a tuple of int for each, and gives a strategy for layers of the
        class that can take such inputs. Where none can, it gives ``st.nothing()``.
    n_inputs : int or tuple of int
        How many inputs a layer takes, or the least and the largest number. Defaults to ``1``.

    Raises
    ------
    TypeError
        If it is no class of layers, the function cannot be called, or the numbers of inputs are not whole.
    ValueError
        If the numbers of inputs are no range.

    Examples
    --------
    >>> from hypothesis import find, strategies as st
    >>> from torchneupy.layers import BaseLayer
    >>> from torchneupy.testing import networks, register_layer, unregister_layer
    >>> class Scale(BaseLayer):
    ...     def __init__(self, factor, name=None):
    ...         self.factor = factor
    ...         super().__init__(name=name)
    ...     def get_output_shape(self, input_shape):
    ...         return input_shape
    ...     def output(self, x):
    ...         return self.factor * x
    >>> register_layer(Scale, lambda sizes: st.builds(Scale, st.integers(1, 3)))
    >>> find(networks(allow=[Scale]), lambda network: len(network) == 3)
    (?, 1) -> [... 3 layers ...] -> (?, 1)
    >>> unregister_layer(Scale)
    """
    if BaseLayer not in getattr(layer_class, "__mro__", ()):
        raise TypeError(f"Expected a subclass of BaseLayer, got {layer_class!r}")
    if not callable(strategy_function):
        raise TypeError(
            f"Expected a function that takes the sizes of the inputs of {layer_class.__name__} and gives a strategy, "
            f"got {strategy_function!r}"
        )
    CATALOGUE[layer_class] = Entry(strategy_function, read_range(f"n_inputs of {layer_class.__name__}", n_inputs))


def unregister_layer(layer_class: type[BaseLayer]) -> None:
    """Draw no more layers of a class.

    Raises
    ------
    ValueError
        If the class is not registered.
    """
    if CATALOGUE.pop(layer_class, None) is None:
        raise ValueError(f"{layer_class!r} is not registered")


def layers_of(layer_class: type[BaseLayer], strategy: Any) -> Strategies:
    """What a registered function gave, if that is a strategy that draws layers of the class."""
    if not isinstance(strategy, st.SearchStrategy):
        raise TypeError(f"What is registered for {layer_class.__name__} should give a strategy, gave {strategy!r}")

    def check(layer: Any) -> Any:
        if not isinstance(layer, layer_class):
            raise TypeError(f"What is registered for {layer_class.__name__} should draw such layers, drew {layer!r}")
        return layer

    return strategy.map(check)


def strategy_of(cls: type[BaseLayer], entry: Entry, sizes: tuple[Sizes, ...]) -> Any:
    """What is registered for a class gives for these sizes; its errors say what was called."""
    try:
        return entry.strategy(*sizes)
    except Exception as error:
        error.add_note(f"Raised by what is registered for {cls.__name__}, called with {', '.join(map(str, sizes))}")
        raise


class Palette:
    """Some classes of the catalogue, and what is drawn for each, kept for sizes that occur again.

    Parameters
    ----------
    allow : collection of classes, or None
        ``None`` is all that are registered, at the time when something is drawn.
    forbid : collection of classes

    Raises
    ------
    ValueError
        If a class is not registered, or none is left.
    """

    def __init__(self, allow: Collection[type[BaseLayer]] | None, forbid: Collection[type[BaseLayer]]) -> None:
        given: dict[str, Any] = {"allow": () if allow is None else allow, "forbid": forbid}
        for name, classes in given.items():
            if isinstance(classes, (type, str)) or not isinstance(classes, Collection):
                raise TypeError(f"`{name}` should be a list of classes of layers, got {classes!r}")
        for cls in (*(allow or ()), *forbid):
            if cls not in CATALOGUE:
                name = getattr(cls, "__name__", repr(cls))
                raise ValueError(f"Nobody said how to draw {name}: call register_layer({name}, strategy_function)")
        self._allow, self._forbid = allow, forbid
        self._chosen: dict[type[BaseLayer], Entry] = {}
        self._chosen_from: dict[type[BaseLayer], Entry] = {}
        self._found: dict[tuple[Sizes, ...], dict[type[BaseLayer], Strategies]] = {}
        if not self.entries:
            raise ValueError(f"There is no class of layers left to draw: {allow=}, {forbid=}")

    def __repr__(self) -> str:
        return ", ".join(cls.__name__ for cls in self.entries)

    @property
    def takes_one(self) -> bool:
        """Whether there is a class whose layers take one input."""
        return any(entry.n_inputs[0] == 1 for entry in self.entries.values())

    @property
    def entries(self) -> dict[type[BaseLayer], Entry]:
        """The classes and how they are drawn; others may have been registered since the last time."""
        if self._chosen_from != CATALOGUE:
            allow = CATALOGUE if self._allow is None else self._allow
            self._chosen_from = dict(CATALOGUE)
            self._chosen = {c: entry for c, entry in CATALOGUE.items() if c in allow and c not in self._forbid}
            self._found = {}
        return self._chosen

    def suitable(self, *sizes: Sizes) -> dict[type[BaseLayer], Strategies]:
        """The classes of which layers can take inputs of these sizes, and the strategies for them."""
        entries = self.entries
        if sizes not in self._found:
            drawn = {
                cls: layers_of(cls, strategy_of(cls, entry, sizes))
                for cls, entry in entries.items()
                if entry.n_inputs[0] <= len(sizes) <= entry.n_inputs[1]
            }
            self._found[sizes] = {cls: strategy for cls, strategy in drawn.items() if not strategy.is_empty}
        return self._found[sizes]
