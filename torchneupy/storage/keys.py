"""Keys of ``state_dict``, and the layers and parameters that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torchneupy.layers.naming import NameRequest, assign_keys, automatic_pattern, escape_key

__all__ = ["keys_to_layers", "layers_to_keys"]

#: Variables that are never trained, of torchneupy's layers and of torch's.
BUFFERS = frozenset(("running_mean", "running_inv_std", "running_var", "num_batches_tracked"))

#: The layer that holds a module of torch's, and how its keys begin; the names of its parameters are the module's.
WRAPPER, MODULE = "ModuleLayer", "module."


def layers_to_keys(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The values of described layers, by the keys that ``state_dict`` has for them in a network of such names.

    Automatic names, such as ``relu-7`` of a ``Relu``, are numbered anew, as each network does.

    >>> layers_to_keys([{"name": "fire/1.a", "parameters": {"bias": {"value": [0]}}}])
    {'@fire/1%2Ea.bias': [0]}
    >>> layers_to_keys([{"name": "relu-7", "class_name": "Relu", "parameters": {"bias": {"value": [0]}}}])
    {'relu-1.bias': [0]}
    """
    layers = list(layers)
    keys, _ = assign_keys(list(map(request_of, layers)))
    return {
        f"{key}.{MODULE if layer.get('class_name') == WRAPPER else ''}{name}": parameter["value"]
        for key, layer in zip(keys, layers, strict=True)
        for name, parameter in layer["parameters"].items()
    }


def request_of(layer: Mapping[str, Any]) -> NameRequest:
    """What a described layer wants to be called."""
    name, pattern = layer["name"], automatic_pattern(layer.get("class_name") or "")
    stem, number = name[: len(pattern) - 2], name[len(pattern) - 2 :]
    is_automatic = bool(layer.get("class_name")) and stem == pattern[:-2] and number.isascii() and number.isdigit()
    return NameRequest(pattern, literal=False) if is_automatic else NameRequest(name, literal=True)


def keys_to_layers(tensors: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tensors as described layers, in the order of the keys.

    What is before a key's first dot is the layer's. What the keys do not tell is assumed: all is trained but whole
    numbers and running statistics.

    >>> import numpy as np
    >>> [layer["name"] for layer in keys_to_layers({"@fire/1%2Ea.bias": np.zeros(3), "b.conv.weight": np.ones(2)})]
    ['fire/1.a', 'b']
    """
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for key, value in tensors.items():
        layer, dot, name = key.partition(".") if "." in key else ("", "", key)
        trainable = value.dtype.kind == "f" and name.rpartition(".")[2] not in BUFFERS
        groups.setdefault((layer, dot), {})[name] = {"value": value, "trainable": trainable}
    return [make_layer(name_of(key), parameters) for (key, _), parameters in groups.items()]


def make_layer(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """A described layer of which only the keys are known. They tell its class where it holds a module of torch's."""
    is_wrapper = all(key.startswith(MODULE) for key in parameters)
    if is_wrapper:
        parameters = {key.removeprefix(MODULE): parameter for key, parameter in parameters.items()}
    return {"class_name": WRAPPER if is_wrapper else "", "name": name, "parameters": parameters, "configs": {}}


def name_of(key: str) -> str:
    """The name of the layer that a network keeps under a key; a key that no network has is its own name."""
    name = key[1:].replace("%2E", ".").replace("%25", "%")
    return name if escape_key(name) == key else key
