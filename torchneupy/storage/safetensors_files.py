"""Files of safetensors, https://huggingface.co/docs/safetensors."""

from __future__ import annotations

import os
from typing import Any

import torch

from torchneupy.exceptions import ParameterLoaderError
from torchneupy.storage.dictionary import Stored, assign, extract_network, fail_if_not_built
from torchneupy.storage.files import FilePath, about, mapped, missing_extra, reading, replacing

__all__ = ["load_safetensors", "save_safetensors"]

NAMES = ("neupy", "state_dict")


def save_safetensors(network: Any, filepath: FilePath, names: str = "neupy") -> None:
    """Save a network's variables to a safetensors file.

    Parameters
    ----------
    network : LayerGraph
    filepath : path
        Replaced, if it exists, once the new file is complete.
    names : {"neupy", "state_dict"}
        ``"neupy"`` calls a variable ``layer/variable``, ``"state_dict"`` as ``network.state_dict()`` does. Defaults to
        ``"neupy"``.

    Raises
    ------
    ImportError
        If safetensors is not installed; the message names the extra that installs it.
    TypeError, WeightInitializationError
        As for :func:`save_dict`.
    ValueError
        If there are no such names, or two variables have the same one.
    OSError
        If the file cannot be written; the old one is there still.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise missing_extra("Writing safetensors files", "safetensors") from error
    network = extract_network(network)
    fail_if_not_built(network)
    tensors = named_tensors(network, names)
    # Variables that layers share are written with each of them: the format has no other way.
    content = save({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, {"format": "pt"})
    with replacing(filepath) as file:
        file.write(content)


def named_tensors(network: Any, names: str) -> dict[str, torch.Tensor]:
    if names not in NAMES:
        raise ValueError(f"Names can be {' or '.join(map(repr, NAMES))}, got {names!r}")
    if names == "state_dict":
        state: dict[str, torch.Tensor] = network.state_dict()
        return state
    tensors: dict[str, torch.Tensor] = {}
    for (layer, name), variable in network.variables.items():
        key = f"{layer.name}/{name}"
        if key in tensors:
            raise ValueError(f"Two variables are called {key!r}; rename a layer, or save with names='state_dict'")
        tensors[key] = variable
    return tensors


def load_safetensors(network: Any, filepath: FilePath, ignore_missing: bool = False, names: str = "neupy") -> None:
    """Give a network the variables of a safetensors file.

    All names and shapes are compared before the first variable changes.

    Parameters
    ----------
    network : LayerGraph
    filepath : path
    ignore_missing : bool
        Whether variables may be missing or left over. Defaults to ``False``.
    names : {"neupy", "state_dict"}
        As for :func:`save_safetensors`.

    Raises
    ------
    ImportError
        If safetensors is not installed; the message names the extra that installs it.
    InvalidFormat
        If it is no safetensors file.
    ParameterLoaderError
        If names or shapes do not match.
    OSError, TypeError, ValueError, WeightInitializationError
        As for :func:`save_safetensors`, or if the file cannot be read.
    """
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise missing_extra("Reading safetensors files", "safetensors") from error
    network = extract_network(network)
    fail_if_not_built(network)
    tensors = named_tensors(network, names)
    with mapped(filepath):  # which says so if it cannot be read
        pass
    with reading(filepath, "safetensors"):
        file: Any = safe_open(os.fspath(filepath), framework="pt")
        stored = {name: stored_tensor(filepath, file, name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    different = sorted(stored.keys() ^ tensors.keys())
    if (different and not ignore_missing) or not stored.keys() & tensors.keys():
        raise ParameterLoaderError(
            f"Cannot load {os.fspath(filepath)!r}: variables do not match by name. Missing or left over: "
            f"{', '.join(different)}. Network: {network}"
        )
    with about(filepath):
        assign((f"`{name}`", variable, stored[name]) for name, variable in tensors.items() if name in stored)


def stored_tensor(filepath: FilePath, file: Any, name: str) -> Stored:
    def read() -> Any:
        with reading(filepath, "safetensors"):
            return file.get_tensor(name)

    return Stored(tuple(file.get_slice(name).get_shape()), read)
