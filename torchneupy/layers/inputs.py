"""What is given to a network, brought into the order, the type and the shape that it wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx import Proxy

from torchneupy.core.shape import TensorShape
from torchneupy.layers.structure import Structure

__all__ = ["fail_unless_they_fit", "in_order_of_layers", "prepare"]

TENSORS = (torch.Tensor, Proxy)


def prepare(network: Structure, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs as tensors in the order of the input layers, their shapes checked.

    Raises
    ------
    ValueError
        If there are too many or too few, or one has another shape than its input layer.
    """
    expected = network._expected
    if len(inputs) == len(expected) == 1 and type(inputs[0]) is torch.Tensor:
        ndims, sizes = expected[0]
        if inputs[0].ndim == ndims and inputs[0].shape[1:] == sizes:
            return inputs  # what nearly every call brings
    if len(inputs) != len(expected) or not all(isinstance(value, TENSORS) for value in inputs):
        inputs = in_order_of_layers(network, inputs)
        inputs = tuple(as_tensor(network, index, value) for index, value in enumerate(inputs))
    fail_unless_they_fit(network, inputs)
    return inputs


def fail_unless_they_fit(network: Structure, inputs: Sequence[Any]) -> None:
    """Raise ValueError if a tensor has another shape than its input layer.

    A compiler that leaves sizes open learns here which ones are declared, and makes better code.
    """
    for index, (ndims, sizes) in enumerate(network._expected):
        shape = None if isinstance(inputs[index], Proxy) else inputs[index].shape
        if shape is not None and ndims is not None and not (len(shape) == ndims and fits(shape[1:], sizes)):
            raise ValueError(
                f"Cannot feed value of shape {tuple(shape)} to the input layer "
                f"`{network._name(network._inputs[index])}`, which has shape {TensorShape((None, *sizes))}. "
                f"Network: {network}"
            )


def fits(sizes: Sequence[int], expected: Sequence[int | None]) -> bool:
    """Whether sizes are the expected ones, of which None is any."""
    return all(wanted is None or wanted == size for size, wanted in zip(sizes, expected, strict=True))


def in_order_of_layers(
    network: Structure, inputs: tuple[Any, ...], named: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """Inputs in the order of the input layers, given one by one, or in a dictionary by layer or name, or as keywords.

    Raises
    ------
    TypeError
        If there are keywords and others.
    ValueError
        If there are too many or too few, or one is for something that is no input layer of the network.
    NameError
        If there is no layer of a name.
    """
    if named:
        if inputs:
            raise TypeError(
                f"Inputs are given one by one or by name, not both, got {len(inputs)} and {', '.join(named)}. "
                f"Network: {network}"
            )
        inputs = (named,)
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        keys = [input_key(network, reference) for reference in inputs[0]]
        twice = {network._name(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"The input layer(s) {', '.join(sorted(twice))} are given twice. Network: {network}")
        given = dict(zip(keys, inputs[0].values(), strict=True))
        missing = [network._name(key) for key in network._inputs if key not in given]
        if missing:
            raise ValueError(f"There is no input for the input layer(s) {', '.join(missing)}. Network: {network}")
        return tuple(given[key] for key in network._inputs)
    network._fail_unless_one_each(len(inputs))
    return inputs


def input_key(network: Structure, reference: Any) -> str:
    """The key of an input layer that is given itself or by its name."""
    name = getattr(reference, "name", reference)
    if isinstance(reference, str):
        key = network._key(reference)
    elif reference in network:
        key = next(key for key, child in network._modules.items() if child is reference)
    else:
        raise ValueError(f"The `{name}` layer doesn't appear in the network. Network: {network}")
    if key not in network._inputs:
        raise ValueError(f"`{name}` is not an input layer in the network. Network: {network}")
    return key


def as_tensor(network: Structure, index: int, value: Any) -> Any:
    """An array-like as a tensor on the network's device, and of its dtype unless it holds indices."""
    if isinstance(value, TENSORS):
        return value
    # Not network.parameters(), which warns of layers that have no variables yet.
    tensors = chain(nn.Module.named_parameters(network), network.named_buffers())
    example = next((tensor for _, tensor in tensors if tensor.is_floating_point()), None)
    device = torch.get_default_device() if example is None else example.device
    dtype = torch.get_default_dtype() if example is None else example.dtype
    key = network._inputs[index]
    try:
        array = np.asarray(value)
        if holds_indices(network, key):
            if array.dtype.kind in "biu":
                return torch.as_tensor(array, device=device)
            dtype = torch.promote_types(dtype, torch.float32)  # bfloat16 has no whole numbers beyond 256
        return torch.as_tensor(array, dtype=dtype, device=device)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"Cannot make a tensor for the input layer `{network._name(key)}` of {value!r}: {error}. Network: {network}"
        ) from error


def holds_indices(network: Structure, key: str) -> bool:
    """Whether an input layer, or a layer that it feeds, reads its values as whole numbers."""
    places = {reader: network._sources[reader].index(key) for reader in network._forward[key]}
    for reader, place in {key: 0, **places}.items():
        wanted = getattr(network._modules[reader], "takes_indices", False)
        if wanted is True or (wanted and place in wanted):
            return True
    return False
