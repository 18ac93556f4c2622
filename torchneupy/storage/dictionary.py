"""The dictionary that all of NeuPy's files hold, and what loading it changes."""

from __future__ import annotations

import reprlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from torchneupy import __version__
from torchneupy.exceptions import InvalidFormat, ParameterLoaderError, WeightInitializationError
from torchneupy.layers import LayerGraph
from torchneupy.layers.base import own_class
from torchneupy.layers.variables import as_array

__all__ = ["Stored", "assign", "extract_network", "load_dict", "load_stored", "save_dict", "validate_data_structure"]

LOAD_BY = ("names", "order", "names_or_order")


class Stored(NamedTuple):
    """An array in a file, which is not read before its shape is known to be right."""

    shape: tuple[int, ...]
    read: Callable[[], Any]


def extract_network(instance: Any) -> LayerGraph:
    """The network itself, or that of an optimizer which has one.

    Raises
    ------
    TypeError
        If it is neither.
    """
    network = getattr(instance, "network", instance)
    if isinstance(network, LayerGraph):
        return network
    raise TypeError(
        f"Invalid input type. Input should be network or optimizer with network, got {type(instance).__name__} "
        f"instance instead"
    )


def save_dict(network: Any) -> dict[str, Any]:
    """A network's layers, options and variables as a dictionary, the same as NeuPy's.

    Parameters
    ----------
    network : LayerGraph

    Returns
    -------
    dict
        ``metadata``, ``graph`` (pairs of a layer's name and the names of those that it feeds) and ``layers``: for each
        of them ``class_name``, ``name``, ``parameters`` (name to ``value``, an array, and ``trainable``) and
        ``configs``, the other options.

    Raises
    ------
    TypeError
        If it is no network.
    WeightInitializationError
        If a layer has no variables yet.

    Examples
    --------
    >>> from torchneupy import storage
    >>> from torchneupy.layers import *
    >>> data = storage.save_dict(Input(2, name="x") >> Relu(1, name="y", weight=3))
    >>> data["graph"]
    [('x', ['y']), ('y', [])]
    >>> data["layers"][1]["parameters"]["weight"]
    {'value': array([[3.],
           [3.]], dtype=float32), 'trainable': True}
    """
    network = extract_network(network)
    fail_if_not_built(network)
    return {
        "metadata": {
            "language": "python",
            "library": "torchneupy",
            "version": __version__,
            "created": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        },
        "graph": network.layer_names_only(),
        "layers": [describe(layer) for layer in network],
    }


def describe(layer: Any) -> dict[str, Any]:
    parameters = {
        name: {"value": as_array(variable).copy(), "trainable": isinstance(variable, nn.Parameter)}
        for name, variable in layer.variables.items()
    }
    options = {name: value for name, value in layer.get_params().items() if name in layer.options}
    return {
        "class_name": own_class(layer).__name__,
        "name": layer.name,
        "parameters": parameters,
        "configs": {name: value for name, value in options.items() if name not in parameters},
    }


def fail_if_not_built(network: LayerGraph) -> None:
    if not network.is_built:
        waiting = ", ".join(f"`{layer.name}`" for layer in network if not getattr(layer, "is_built", True))
        raise WeightInitializationError(f"The layers {waiting} have no variables yet. Network: {network}")


def validate_data_structure(data: Any) -> None:
    """Raise InvalidFormat if something is not such a dictionary as :func:`save_dict` makes."""
    if not isinstance(data, dict):
        raise InvalidFormat(f"Stored data should be in dictionary format, got {type(data).__name__}")
    if "layers" not in data:
        raise InvalidFormat(f"Stored data has no key `layers`, only {', '.join(map(repr, data))}")
    layers = data["layers"]
    if not isinstance(layers, list):
        raise InvalidFormat(f"Layers stored not in the list format, got {type(layers).__name__}")
    if not layers:
        raise InvalidFormat("Stored data don't have any layer stored")
    for index, layer in enumerate(layers):
        validate_layer(f"Layer in the {index} position (0-based indices)", layer)


def validate_layer(where: str, layer: Any) -> None:
    """Raise InvalidFormat if something is not what such a dictionary holds of a layer."""
    if not isinstance(layer, dict):
        raise InvalidFormat(f"{where} is not a dictionary (it is {type(layer).__name__})")
    for key in ("parameters", "name"):
        if key not in layer:
            raise InvalidFormat(f"{where} doesn't have key `{key}` specified")
    if not isinstance(layer["name"], str):
        raise InvalidFormat(f"{where} has a name that is no text: {reprlib.repr(layer['name'])}")
    if not isinstance(layer["parameters"], dict):
        kind = type(layer["parameters"]).__name__
        raise InvalidFormat(f"{where} parameters specified as `{kind}`, but dictionary expected")
    for name, parameter in layer["parameters"].items():
        problem = f"{where} has incorrect value for parameter named `{name}`."
        if not isinstance(name, str):
            raise InvalidFormat(f"{problem} The name is no text")
        if not isinstance(parameter, dict):
            raise InvalidFormat(f"{problem} It has to be a dictionary, but got {type(parameter).__name__}")
        if "value" not in parameter:
            raise InvalidFormat(f"{problem} Parameter doesn't have key named `value`")


def load_dict(
    network: Any,
    data: dict[str, Any],
    ignore_missing: bool = False,
    load_by: str = "names_or_order",
    skip_validation: bool = True,
) -> None:
    """Give a network the variables that a dictionary holds.

    Layers without variables do not count, neither in the network nor in the dictionary. All names, shapes and types are
    compared before the first variable changes; the variables keep their types and devices, and ``trainable`` is not
    looked at.

    Parameters
    ----------
    network : LayerGraph
    data : dict
        As :func:`save_dict` makes it.
    ignore_missing : bool
        Whether the two may have different layers. Defaults to ``False``.
    load_by : {"names", "order", "names_or_order"}
        - ``"names"`` brings layers of the same name together.
        - ``"order"`` brings layers of the same place together, whatever their names and classes are.
        - ``"names_or_order"`` goes by order where the names do not match.

        Defaults to ``"names_or_order"``.
    skip_validation : bool
        ``False`` checks the structure of all of the dictionary, also of layers that are not loaded. Defaults to
        ``True``.

    Raises
    ------
    TypeError
        If it is no network.
    ValueError
        If there is no such ``load_by``.
    InvalidFormat
        If the dictionary is not of this form.
    ParameterLoaderError
        If layers, variables or shapes do not match; it is a ValueError.
    WeightInitializationError
        If a layer of the network has no variables yet.
    """
    if not skip_validation:
        validate_data_structure(data)
    load_stored(network, data, ignore_missing, load_by)


def load_stored(network: Any, data: Any, ignore_missing: bool, load_by: str) -> None:
    """:func:`load_dict`, of which a value may also be a :class:`Stored`."""
    if load_by not in LOAD_BY:
        raise ValueError(
            f"Invalid value for the `load_by` argument: {load_by}. Should be one of the following values: "
            f"{', '.join(LOAD_BY)}."
        )
    network = extract_network(network)
    fail_if_not_built(network)
    validate_data_structure(data)
    stored = [layer for layer in data["layers"] if layer["parameters"]]
    layers = [layer for layer in network if layer.variables]
    pairs = list(match(layers, stored, ignore_missing, load_by))
    assign(write for layer, content in pairs for write in assignments(layer, content["parameters"]))


def assign(writes: Iterable[tuple[str, torch.Tensor, Any]]) -> None:
    """Write values into variables, each with words for where it is, once all of them are known to fit."""
    values = [(variable, read_value(where, value, variable)) for where, variable, value in writes]
    with torch.no_grad(), warnings.catch_warnings():
        # Torch warns of arrays that cannot be written to, such as those that show a mapped file; they are only read.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        for variable, value in values:
            variable.copy_(torch.as_tensor(value))


def match(
    layers: Sequence[Any], stored: Sequence[Any], ignore_missing: bool, load_by: str
) -> Iterator[tuple[Any, Any]]:
    """Layers of the network, each with the stored one whose variables it gets."""
    if not ignore_missing and len(layers) != len(stored):
        raise ParameterLoaderError(
            f"Couldn't load parameters from the dictionary. Network has {len(layers)} layers with parameters whereas "
            f"stored data has {len(stored)}"
        )
    ours, theirs = {layer.name: layer for layer in layers}, {layer["name"]: layer for layer in stored}
    unique = len(ours) == len(layers) and len(theirs) == len(stored)
    same = unique and (bool(ours.keys() & theirs.keys()) if ignore_missing else ours.keys() == theirs.keys())
    if same and load_by != "order":
        return ((layer, theirs[name]) for name, layer in ours.items() if name in theirs)
    if load_by == "names":
        raise ParameterLoaderError(
            f"{'None of the layers can be matched' if ignore_missing else 'Cannot match layers'} by name.\n"
            f"  Layer names in network: {', '.join(layer.name for layer in layers)}\n"
            f"  Layer names in stored data: {', '.join(str(layer['name']) for layer in stored)}"
        )
    return zip(layers, stored, strict=False)


def assignments(layer: Any, parameters: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor, Any]]:
    """What is stored for a layer: where, the variable, and the value."""
    for name, parameter in parameters.items():
        if name not in layer.variables:
            known = ", ".join(layer.variables)
            raise ParameterLoaderError(
                f"The `{name}` parameter from the `{layer.name}` layer expected to be a variable, but the layer has "
                f"only {known}. Layer: {layer}"
            )
        yield f"`{name}` of layer `{layer.name}`", layer.variables[name], parameter["value"]


def read_value(where: str, value: Any, variable: torch.Tensor) -> Any:
    """A stored value as an array or a tensor of the variable's shape."""
    shape = tuple(variable.shape)
    if isinstance(value, Stored):
        fail_if_other_shape(where, value.shape, shape)
        value = value.read()
    if not isinstance(value, torch.Tensor):
        try:
            value = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise InvalidFormat(f"The value for {where} is no array: {error}") from error
        if value.dtype.kind not in "biuf":
            raise InvalidFormat(f"The value for {where} holds no real numbers but {value.dtype}")
        if not value.dtype.isnative or value.dtype.kind != "f" or value.dtype.itemsize > 8:
            value = value.astype(np.float64)
    fail_if_other_shape(where, value.shape, shape)
    return value


def fail_if_other_shape(where: str, found: Sequence[int], wanted: Sequence[int]) -> None:
    if tuple(found) != tuple(wanted):
        raise ParameterLoaderError(
            f"Cannot load a value of shape {tuple(found)} into {where}, which has shape {tuple(wanted)}"
        )
