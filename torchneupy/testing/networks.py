"""Strategies for whole networks: chains, branches, residual connections, several inputs and outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain, islice, product

from hypothesis import assume, note
from hypothesis import strategies as st

from torchneupy.layers import BaseLayer, LayerGraph
from torchneupy.testing.arguments import Range, read_range, warm_up
from torchneupy.testing.catalogue import Palette, Sizes
from torchneupy.testing.growth import Growth
from torchneupy.testing.layers import LARGEST_INPUT_SIDE, sample_sizes
from torchneupy.testing.randomness import seeded

__all__ = ["networks"]


def fewest_layers(n_inputs: int, n_outputs: int) -> int:
    """Of how many layers a network with so many inputs and outputs consists at least."""
    beginning = n_inputs if n_inputs == 1 else n_inputs + 1
    return beginning if n_outputs == 1 else max(beginning, 2) + n_outputs - 1


class Listing:
    """A network that is printed layer by layer; what is not printed costs nothing."""

    def __init__(self, network: LayerGraph) -> None:
        self.network = network

    def __repr__(self) -> str:
        feeds = self.network.forward_graph.items()
        return "\n".join(f"{layer} feeds {[target.name for target in targets]}" for layer, targets in feeds)


@st.composite
def grown(
    draw: st.DrawFn,
    palette: Palette,
    n_layers: tuple[int, int],
    ndims: list[int],
    inputs: tuple[int, int],
    outputs: tuple[int, int],
) -> LayerGraph:
    n_inputs, n_outputs = draw(st.integers(*inputs)), draw(st.integers(*outputs))
    least = max(n_layers[0], fewest_layers(n_inputs, n_outputs)) - n_outputs + 1
    growth = Growth(draw, palette, n_layers[1] - n_outputs + 1)
    # As many sizes whatever the number of dimensions is, so that what is drawn after them does not depend on it.
    sizes = draw(sample_sizes(max(ndims), max(ndims)))[: draw(st.sampled_from(ndims)) - 1]
    # As a strategy of its own a step is left out as a whole when an example shrinks.
    step = st.builds(growth.extend)
    goes_on = st.integers(0, max(1, n_layers[1] - n_layers[0]))  # with 0 it ends
    with seeded(draw(st.integers(0, 2**16))):
        if n_inputs != 2 or not growth.begin_with_lengths(sizes):
            growth.begin_with(n_inputs, sizes)
        while growth.room > 0 and (len(growth.nodes) < least or draw(goes_on) > 0) and draw(step):
            pass
        assume(len(growth.nodes) >= least)
        for _ in range(1, n_outputs):
            growth.end_beside()
        network = growth.as_network()
    note(Listing(network))
    return network


def networks(
    min_layers: int = 1,
    max_layers: int = 8,
    ndim: int | None = None,
    inputs: Range = 1,
    outputs: Range = 1,
    *,
    allow: Collection[type[BaseLayer]] | None = None,
    forbid: Collection[type[BaseLayer]] = (),
) -> st.SearchStrategy[LayerGraph]:
    """Networks that can be run: chains, branches, residual connections, merges, layers that feed several others.

    All their variables exist; initial values come from a drawn seed. Some take whole numbers: :func:`inputs_for` draws
    what fits. When a test fails, the layers are listed with the example.

    Parameters
    ----------
    min_layers, max_layers : int
        The least and the largest number of layers, the input layers included. Default to ``1`` and ``8``.
    ndim : int or None
        Number of dimensions of the inputs, the batch included: 2 for rows of features, 3 for sequences, 4 for images.
        Defaults to ``None``, which is any of these for which there are layers.
    inputs, outputs : int or tuple of int
        How many inputs and outputs a network has, or the least and the largest number. Default to ``1``.
    allow, forbid : collection of classes
        Which layers may be drawn, and which not, as in :func:`layers`. Input layers are there in any case, and several
        inputs need a class that merges them.

    Returns
    -------
    strategy of LayerGraph
        Shrinks towards few layers and small sizes; the smallest is an input layer alone.

    Raises
    ------
    TypeError
        If an argument is of a wrong type.
    ValueError
        If an argument is out of its range, ``max_layers`` is too small for so many inputs and outputs, a class is not
        registered, or none is left of which such networks can be made.

    Examples
    --------
    >>> from hypothesis import given, strategies as st
    >>> from torchneupy.testing import inputs_for, networks
    >>> @given(networks(max_layers=5, ndim=2), st.data())
    ... def test_declared_shapes_come_out(network, data):
    ...     x, = data.draw(inputs_for(network))
    ...     assert network.get_output_shape(x.shape) == network(x).shape
    >>> test_declared_shapes_come_out()
    """
    warm_up()
    palette = Palette(allow, forbid)
    n_inputs, n_outputs = read_range("inputs", inputs), read_range("outputs", outputs)
    least, most = read_range("min_layers and max_layers", (min_layers, max_layers))
    needed = fewest_layers(n_inputs[1], n_outputs[1])
    if most < needed:
        raise ValueError(
            f"A network with {n_inputs[1]} input(s) and {n_outputs[1]} output(s) has at least {needed} layers, but "
            f"max_layers is {max_layers}"
        )
    if ndim is not None and type(ndim) is not int:
        raise TypeError(f"`ndim` should be a whole number, got {ndim!r}")
    if ndim is not None and not 1 <= ndim <= 33:
        raise ValueError(f"`ndim` counts the dimensions of an input with the batch, from 1 on, got {ndim!r}")
    ndims = [ndim] if ndim is not None else useful_ndims(palette)
    if n_inputs[1] > 1 and not any(can_merge(palette, sizes, n_inputs[1]) for sizes in tried_sizes(ndims)):
        raise ValueError(
            f"{n_inputs[1]} inputs of {ndims} dimensions need a class of layers that merges them, but there are only "
            f"{palette}"
        )
    if (least > needed or n_outputs[1] > 1) and not any(map(palette.suitable, tried_sizes(ndims))):
        raise ValueError(
            f"No layer can take an input of {ndims} dimensions alone, so that there is no network of {least} layers, "
            f"or with {n_outputs[1]} output(s): there are only {palette}"
        )
    return grown(palette, (least, most), ndims, n_inputs, n_outputs)


def useful_ndims(palette: Palette) -> list[int]:
    """The usual numbers of dimensions for which there are layers."""
    usual = [2, 3, 4]
    return [ndim for ndim in usual if any(map(palette.suitable, tried_sizes([ndim])))] or usual


def can_merge(palette: Palette, sizes: Sizes, n_inputs: int) -> bool:
    """Whether there is a class of layers that takes so many inputs of these sizes, or sequences and their lengths."""
    return bool(palette.suitable(*(sizes,) * n_inputs) or (n_inputs == 2 and palette.suitable(sizes, ())))


def tried_sizes(ndims: list[int]) -> Iterator[Sizes]:
    """Sizes of samples of these numbers of dimensions: all that are drawn, or the first of very many."""
    sizes = (product(range(1, LARGEST_INPUT_SIDE + 1), repeat=ndim - 1) for ndim in ndims)
    return chain.from_iterable(islice(each, 256) for each in sizes)
