"""A network as a dictionary, NeuPy's form of all that is stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from time import gmtime, strftime
from typing import Any

import numpy as np
import torch

import torchneupy
from torchneupy.layers.base import BaseLayer, own_class
from torchneupy.layers.network import LayerGraph, variables_of
from torchneupy.layers.variables import as_array
from torchneupy.storage.arrays import holds_numbers

__all__ = ["describe", "extract_network", "named_layers", "plain", "save_dict", "to_array"]

SCALARS = (str, int, float, bool, type(None))


def extract_network(instance: Any) -> LayerGraph:
    """The network itself, or that of an optimizer.

    Parameters
    ----------
    instance : LayerGraph, or an object whose attribute ``network`` is one

    Raises
    ------
    TypeError
        If it is neither. A single layer, or a list of them, is no network: ``join`` makes one of it.
    """
    network = instance if isinstance(instance, LayerGraph) else getattr(instance, "network", None)
    if not isinstance(network, LayerGraph):
        raise TypeError(
            f"Invalid input type. Input should be network or optimizer with network, got `{type(instance)}` instance "
            f"instead"
        )
    return network


def named_layers(network: LayerGraph) -> list[tuple[str, Any]]:
    """The layers with their names; a foreign module that has replaced one goes by its key."""
    return [(network._name(key), network._modules[key]) for key in network._sources]


def describe(network: Any) -> dict[str, Any]:
    """As :func:`save_dict`, the values being the network's own tensors."""
    network = extract_network(network)
    network.create_variables()
    return {
        "metadata": {
            "language": "python",
            "library": "torchneupy",
            "version": torchneupy.__version__,
            "created": strftime("%a, %d %b %Y %H:%M:%S %Z", gmtime()),
        },
        "graph": network.layer_names_only(),
        "layers": [describe_layer(name, layer) for name, layer in named_layers(network)],
    }


def describe_layer(name: str, layer: Any) -> dict[str, Any]:
    """The entry of a layer."""
    variables = variables_of(layer)
    options = layer.options if isinstance(layer, BaseLayer) else {}
    for variable, tensor in variables.items():
        if tensor.is_meta:
            raise ValueError(f"Variable `{variable}` of layer `{name}` is on the meta device and has no values to save")
        if not holds_numbers(tensor):
            raise TypeError(f"Variable `{variable}` of layer `{name}` has the dtype {tensor.dtype}, which is not saved")
    return {
        "class_name": own_class(layer).__name__,
        "name": name,
        "parameters": {
            variable: {"value": tensor.detach(), "trainable": tensor.requires_grad}
            for variable, tensor in variables.items()
        },
        "configs": {option: layer._option(option) for option in options if option not in variables},
    }


def save_dict(network: Any) -> dict[str, Any]:
    """Save a network into a dictionary.

    Parameters
    ----------
    network : LayerGraph

    Returns
    -------
    dict
        ``"metadata"``; ``"graph"``, pairs of a layer's name and the names of the layers that it feeds; and ``"layers"``
        in topological order, for each ``"class_name"``, ``"name"``, ``"parameters"`` and ``"configs"``. A parameter
        has a ``"value"``, an array that is a copy, and ``"trainable"``, which is ``False`` for buffers and for what is
        frozen. Arrays have the variables' dtypes, but for bfloat16, which numpy lacks and float32 holds.

    Raises
    ------
    TypeError
        If it is no network, or a variable's values are no real numbers, or of a dtype that numpy lacks.
    WeightInitializationError
        If a layer has no variables yet.
    ValueError
        If a variable is on the meta device.

    Examples
    --------
    >>> from torchneupy import storage
    >>> from torchneupy.layers import *
    >>> data = storage.save_dict(Input(10) >> Softmax(3, name="classes"))
    >>> list(data), data["graph"]
    (['metadata', 'graph', 'layers'], [('input-1', ['classes']), ('classes', [])])
    >>> data["layers"][1]["parameters"]["bias"]
    {'value': array([0., 0., 0.], dtype=float32), 'trainable': True}
    """
    data = describe(network)
    for layer in data["layers"]:
        for parameter in layer["parameters"].values():
            parameter["value"] = to_array(parameter["value"]).copy()
    return data


def to_array(value: Any) -> Any:
    """A value of a description as an array, which may share its memory."""
    return as_array(value) if isinstance(value, torch.Tensor) else np.asarray(value)


def plain(value: Any) -> Any:
    """A value of an option without references to classes and functions, for which text stands.

    >>> from torchneupy import init
    >>> plain({"shape": (3, None), "weight": init.Constant(1), "function": sum})
    {'shape': (3, None), 'weight': 'Constant(1)', 'function': '<function sum>'}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    return value if type(value) in SCALARS else BaseLayer._format_value(value)
