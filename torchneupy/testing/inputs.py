"""Strategies for what is fed to a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from hypothesis import assume
from hypothesis import strategies as st

from torchneupy.core.shape import TensorShape
from torchneupy.layers import LayerGraph
from torchneupy.testing.tensors import tensors

__all__ = ["inputs_for", "largest_index"]

#: An input layer to the sizes of one sample for it.
SizesOf: TypeAlias = Mapping[Any, tuple[int, ...]]


def largest_index(network: LayerGraph, layer: Any, sizes: SizesOf) -> int | None:
    """The largest whole number that an input layer can be fed with; None where it takes any other number as well."""
    places = {target: network.backward_graph[target].index(layer) for target in network.forward_graph[layer]}
    bounds = [
        largest_index_at(network, reader, place, sizes)
        for reader, place in {layer: 0, **places}.items()
        if reads_indices(reader, place)
    ]
    return min(bounds) if bounds else None


def reads_indices(reader: Any, place: int) -> bool:
    """Whether a layer reads its input of a place as whole numbers."""
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
            f"Cannot draw whole numbers for {reader!r}: an attribute `input_size` has to say how many there are"
        )
    before = network.end(network.backward_graph[reader][0])
    steps = TensorShape(before.get_output_shape(*((None, *sizes[layer]) for layer in before.input_layers)))[1]
    return 0 if steps is None else steps


@st.composite
def drawn_inputs(
    draw: st.DrawFn, network: LayerGraph, batches: st.SearchStrategy[int], options: dict[str, Any]
) -> tuple[torch.Tensor, ...]:
    batch = draw(batches)
    unknown: dict[int, int] = {}  # a size that is left open is the same for all inputs: often they have to fit
    sizes: dict[Any, tuple[int, ...]] = {}
    for layer, shape in zip(network.input_layers, network.input_shapes, strict=True):
        open_axes = [axis for axis, size in enumerate(shape[1:]) if size is None and axis not in unknown]
        unknown |= {axis: draw(st.integers(1, 8)) for axis in open_axes}
        sizes[layer] = tuple(unknown[axis] if size is None else size for axis, size in enumerate(shape[1:]))
    if unknown:
        assume(fits(network, sizes))
    found = []
    for layer, each in sizes.items():
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


def inputs_for(
    network: LayerGraph,
    batch: int | st.SearchStrategy[int] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    *,
    elements: st.SearchStrategy[Any] | None = None,
) -> st.SearchStrategy[tuple[torch.Tensor, ...]]:
    """Inputs that a network can take: ``network(*inputs)`` works.

    Where the network looks values up in a table, or takes lengths of sequences, whole numbers in their range are drawn.

    Parameters
    ----------
    network : LayerGraph
    batch : int, strategy or None
        Number of samples. Defaults to ``None``, which is 1 to 4.
    dtype : torch.dtype or None
    device : torch.device, str or None
        Default to ``None``: those of the network's first variable, or else torch's defaults.
    elements : strategy or None
        For values that are no indices, as for :func:`tensors`. Defaults to ``None``.

    Returns
    -------
    strategy of tuple of Tensor
        One for each input layer, in their order.

    Raises
    ------
    ValueError
        If not even the number of dimensions of an input is known.

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
        "elements": elements,
    }
    if batch is None:
        batch = st.integers(1, 4)
    return drawn_inputs(network, batch if isinstance(batch, st.SearchStrategy) else st.just(batch), options)
