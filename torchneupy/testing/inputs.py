"""Strategies for what is fed to a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from hypothesis import assume
from hypothesis import strategies as st

from torchneupy.core.shape import TensorShape
from torchneupy.layers import Concatenate, Identity, LayerGraph, Reshape, Transpose
from torchneupy.testing.arguments import warm_up
from torchneupy.testing.tensors import tensors

__all__ = ["ElementsOf", "fail_unless_network", "inputs_for", "largest_index", "reads_indices"]

#: For all inputs, or for input layers, themselves or by name, each.
ElementsOf: TypeAlias = st.SearchStrategy[Any] | Mapping[Any, st.SearchStrategy[Any]] | None

#: Layers behind which whole numbers are the same whole numbers.
PASSING = (Concatenate, Identity, Reshape, Transpose)
#: No open size is tried that is larger.
LARGEST_SIZE = 256

#: An input layer to the sizes of one sample for it.
SizesOf: TypeAlias = Mapping[Any, tuple[int, ...]]


def largest_index(network: LayerGraph, layer: Any, sizes: SizesOf) -> int | None:
    """The largest whole number that an input layer can be fed with; None where it takes any other number as well."""
    bounds = [
        largest_index_at(network, reader, place, sizes)
        for reader, place in [(layer, 0), *readers_of(network, layer)]
        if reads_indices(reader, place)
    ]
    return min(bounds) if bounds else None


def readers_of(network: LayerGraph, layer: Any) -> Iterator[tuple[Any, int]]:
    """The layers that a layer's output reaches unchanged, and the place among their inputs."""
    for target in network.forward_graph[layer]:
        for place, source in enumerate(network.backward_graph[target]):
            if source is layer:
                yield target, place
        if type(target) in PASSING:
            yield from readers_of(network, target)


def reads_indices(reader: Any, place: int) -> bool:
    """Whether a layer, or those of a class, reads its input of a place as whole numbers."""
    wanted = getattr(reader, "takes_indices", False)
    return wanted is True or (isinstance(wanted, tuple) and place in wanted)


def largest_index_at(network: LayerGraph, reader: Any, place: int, sizes: SizesOf) -> int:
    """The largest whole number for an input of a layer: of its table, or of steps where these are lengths."""
    for part in reader.modules():
        size = getattr(part, "input_size", getattr(part, "num_embeddings", None))
        if isinstance(size, int):
            return size - 1
    if place == 0:
        raise ValueError(
            f"Cannot draw whole numbers for {reader!r}: its attribute `input_size` has to say how many there are, or "
            f"the argument `elements`, {{name of the input: strategy}}, which ones"
        )
    before = network.end(network.backward_graph[reader][0])
    steps = TensorShape(before.get_output_shape(*((None, *sizes[layer]) for layer in before.input_layers)))[1]
    return 0 if steps is None else steps


@st.composite
def drawn_inputs(
    draw: st.DrawFn,
    network: LayerGraph,
    batches: st.SearchStrategy[int],
    options: dict[str, Any],
    elements: ElementsOf,
    least: int,
) -> tuple[torch.Tensor, ...]:
    batch = draw(batches)
    unknown: dict[int, int] = {}  # a size that is left open is the same for all inputs: often they have to fit
    sizes: dict[Any, tuple[int, ...]] = {}
    for layer, shape in zip(network.input_layers, network.input_shapes, strict=True):
        open_axes = [axis for axis, size in enumerate(shape[1:]) if size is None and axis not in unknown]
        unknown |= {axis: draw(st.integers(least, least + 7)) for axis in open_axes}
        sizes[layer] = tuple(unknown[axis] if size is None else size for axis, size in enumerate(shape[1:]))
    if unknown:
        assume(fits(network, sizes))
    found = []
    for layer, each in sizes.items():
        given = elements.get(layer.name, elements.get(layer)) if isinstance(elements, Mapping) else None
        if given is not None:
            index = {"dtype": torch.int64} if any(reads_indices(*one) for one in readers_of(network, layer)) else {}
            found.append(draw(tensors((batch, *each), **{**options, "elements": given, **index})))
            continue
        largest = largest_index(network, layer, sizes)
        whole = {} if largest is None else {"dtype": torch.int64, "elements": st.integers(0, largest)}
        found.append(draw(tensors((batch, *each), **{**options, **whole})))
    return tuple(found)


def fits(network: LayerGraph, sizes: SizesOf) -> bool:
    """Whether a network takes inputs of these sizes."""
    try:
        network.get_output_shape(*((None, *each) for each in sizes.values()))
    except ValueError:
        return False
    return True


def least_size(network: LayerGraph) -> int:
    """The smallest number that will do for all open sizes, so that what is drawn often does."""
    for least in range(1, LARGEST_SIZE + 1):
        shapes = zip(network.input_layers, network.input_shapes, strict=True)
        sizes = {layer: tuple(least if size is None else size for size in shape[1:]) for layer, shape in shapes}
        if fits(network, sizes):
            return least
    return 1


def fail_unless_network(value: Any, caller: str) -> None:
    """Raise TypeError if something is no network."""
    if not isinstance(value, LayerGraph):
        raise TypeError(f"{caller} expects a network, such as `Input(3) >> Relu(2)`, got {type(value).__name__}")


def fail_unless_elements(network: LayerGraph, elements: ElementsOf) -> None:
    """Raise an error if elements are no strategies, or given for what is no input layer."""
    given: list[Any] = list(elements.values()) if isinstance(elements, Mapping) else [elements]
    if not all(isinstance(one, st.SearchStrategy) for one in given if elements is not None):
        raise TypeError(f"`elements` should be a strategy, or input layers to strategies, got {elements!r}")
    names = {layer.name for layer in network.input_layers}
    for key in elements if isinstance(elements, Mapping) else ():
        if key not in names and not any(key is layer for layer in network.input_layers):
            raise ValueError(f"There is no input layer {key!r} to draw elements for: they are {sorted(names)}")


def inputs_for(
    network: LayerGraph,
    batch: int | st.SearchStrategy[int] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    *,
    elements: ElementsOf = None,
) -> st.SearchStrategy[tuple[torch.Tensor, ...]]:
    """Inputs that a network can take: ``network(*inputs)`` works.

    Where the network looks values up in a table, or takes lengths of sequences, whole numbers in their range are drawn:
    where an input reaches, unchanged, a layer whose class says ``takes_indices = True``, or of which inputs, ``(1,)``.
    The table's size is the layer's ``input_size``; without one all but the first input are lengths.

    Parameters
    ----------
    network : LayerGraph
    batch : int, strategy or None
        Number of samples. Defaults to ``None``, which is 1 to 4.
    dtype : torch.dtype or None
        Of values that are no indices. Defaults to ``None``: that of the network's first variable, or torch's default.
    device : torch.device, str or None
        Defaults to ``None``: that of the network's first variable, or torch's default.
    elements : strategy, mapping or None
        For values that are no indices, as for :func:`tensors`; or for some input layers, by name, to a strategy, also
        for indices. Defaults to ``None``.

    Returns
    -------
    strategy of tuple of Tensor
        One for each input layer, in their order.

    Raises
    ------
    TypeError
        If it is no network, the batch no whole number, or the elements no strategies.
    ValueError
        If not even the number of dimensions of an input is known, the batch is negative, or there is no such input
        layer.

    Examples
    --------
    >>> from hypothesis import given
    >>> from torchneupy.layers import *
    >>> from torchneupy.testing import inputs_for
    >>> network = (Input((None, 3)) | Input(())) >> LSTM(4) >> Softmax(2)
    >>> @given(inputs_for(network))
    ... def test_shares_add_up_to_one(inputs):
    ...     assert ((network(*inputs).sum(dim=1) - 1).abs() < 1e-5).all()
    >>> test_shares_add_up_to_one()
    """
    warm_up()
    fail_unless_network(network, "inputs_for()")
    fail_unless_elements(network, elements)
    if batch is not None and type(batch) is not int and not isinstance(batch, st.SearchStrategy):
        raise TypeError(f"`batch` should be a whole number, or a strategy for them, got {batch!r}")
    if isinstance(batch, int) and batch < 0:
        raise ValueError(f"The number of samples has to be at least 0, got {batch}")
    for layer, shape in zip(network.input_layers, network.input_shapes, strict=True):
        if shape.ndims is None:
            raise ValueError(
                f"Cannot draw inputs, because nothing is known of the shape for `{layer.name}`: put an Input before "
                f"it. Network: {network}"
            )
    tensor = next((value for value in network.state_dict().values() if value.is_floating_point()), None)
    options = {
        "dtype": dtype or (torch.get_default_dtype() if tensor is None else tensor.dtype),
        "device": device or (torch.get_default_device() if tensor is None else tensor.device),
        "elements": None if isinstance(elements, Mapping) else elements,
    }
    if batch is None:
        batch = st.integers(1, 4)
    batches = batch if isinstance(batch, st.SearchStrategy) else st.just(batch)
    return drawn_inputs(network, batches, options, elements, least_size(network))
