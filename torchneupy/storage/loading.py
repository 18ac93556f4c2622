"""A dictionary's parameters into a network: all of them or none.

First everything is compared, names, shapes and dtypes, which makes a list of writes; then the writes are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.nn.utils import parametrize

from torchneupy.core.warn import warn_user
from torchneupy.layers.base import own_class
from torchneupy.layers.network import variables_of
from torchneupy.layers.variables import sample_into
from torchneupy.storage.arrays import StoredArray, StoredList, as_stored, copy_into, holds_numbers, numpy_dtype
from torchneupy.storage.errors import FilePath, InvalidFormat, ParameterLoaderError, quoted, telling_file
from torchneupy.storage.saving import extract_network, named_layers

__all__ = [
    "Write",
    "compare",
    "load_dict",
    "load_dict_by_names",
    "load_dict_sequentially",
    "load_file",
    "load_layer_parameter",
    "validate_data_structure",
    "write_all",
]

#: What a network has under a name, and what is stored for it.
Pair: TypeAlias = "tuple[str, Any, Mapping[str, Any]]"

STRATEGIES = ("names", "order", "names_or_order")


class Write(NamedTuple):
    """A stored value that fits a variable."""

    layer: Any
    name: str
    target: torch.Tensor
    source: np.ndarray[Any, Any] | StoredArray


# What is stored


def validate_data_structure(data: Any) -> None:
    """Raise InvalidFormat if a dictionary is not built as :func:`save_dict` builds it, or holds no layer."""
    check_structure(data)
    if not data["layers"]:
        raise InvalidFormat("Stored data has no layers: the list `layers` is empty")


def check_structure(data: Any) -> None:
    """As :func:`validate_data_structure`, but a network of no layers is one too."""
    if not isinstance(data, Mapping):
        raise InvalidFormat(f"Stored data should be a dictionary, got {quoted(data)}")
    if "layers" not in data:
        raise InvalidFormat("Stored data has no key `layers`")
    if not isinstance(data["layers"], (list, tuple)):
        raise InvalidFormat(f"The layers should be stored in a list, got {quoted(data['layers'])}")
    for index, layer in enumerate(data["layers"]):
        check_layer(layer, f"The layer in position {index} (from 0)")


def check_layer(layer: Any, where: str) -> None:
    """As :func:`check_structure`, for one entry."""
    if not isinstance(layer, Mapping):
        raise InvalidFormat(f"{where} should be a dictionary, got {quoted(layer)}")
    for key in ("parameters", "name"):
        if key not in layer:
            raise InvalidFormat(f"{where} has no key `{key}`")
    if not isinstance(layer["name"], str):
        raise InvalidFormat(f"{where} should have a text as its name, got {quoted(layer['name'])}")
    if not isinstance(layer["parameters"], Mapping):
        raise InvalidFormat(f"{where} should have a dictionary of parameters, got {quoted(layer['parameters'])}")
    for name, parameter in layer["parameters"].items():
        if not isinstance(parameter, Mapping):
            raise InvalidFormat(
                f"{where} should have a dictionary for its parameter {quoted(name)}, got {quoted(parameter)}"
            )
        if "value" not in parameter:
            raise InvalidFormat(f"{where} has no key `value` for its parameter {quoted(name)}")


# Which stored layer belongs to which layer


def match_by_names(
    layers: Sequence[tuple[str, Any]], stored: Sequence[Mapping[str, Any]], ignore_missing: bool
) -> list[Pair]:
    """Layers and what is stored under their names.

    Raises
    ------
    ParameterLoaderError
        If the names differ, or one of them is there twice; with ``ignore_missing``, if none is found.
    """
    names = [name for name, _ in layers]
    by_name = {layer["name"]: layer for layer in stored}
    shared = by_name.keys() & set(names)
    if len(by_name) < len(stored) or len(set(names)) < len(names):
        problem = "a name is there twice"
    elif not shared or (not ignore_missing and len(shared) < max(len(by_name), len(names))):
        problem = f"{len(shared)} of the names are in both"
    else:
        return [(name, layer, by_name[name]) for name, layer in layers if name in by_name]
    raise ParameterLoaderError(
        f"Cannot match layers by name: {problem}. Layer names in the network: {names}. {names_of(stored)}"
    )


def names_of(stored: Iterable[Mapping[str, Any]]) -> str:
    return f"Layer names in stored data: [{', '.join(quoted(layer['name']) for layer in stored)}]"


def match(
    layers: Sequence[tuple[str, Any]],
    stored: Sequence[Mapping[str, Any]],
    ignore_missing: bool,
    load_by: str,
    has_order: bool,
) -> list[Pair]:
    """Layers that have variables, and what is stored for each."""
    if not ignore_missing and len(layers) != len(stored):
        raise ParameterLoaderError(
            f"Couldn't load parameters from the dictionary. The network has {len(layers)} layers with parameters, "
            f"stored data has {len(stored)}. Layer names in the network: {[name for name, _ in layers]}. "
            f"{names_of(stored)}"
        )
    if load_by != "order":
        try:
            return match_by_names(layers, stored, ignore_missing)
        except ParameterLoaderError as error:
            if load_by == "names":
                raise
            if stored and not has_order:
                raise ParameterLoaderError(
                    f"{error}. They are not matched by order, as what is stored was made of a state dict, whose keys "
                    f"may have any: load_by='order' does so all the same"
                ) from error
    return match_by_order(layers, stored)


def match_by_order(layers: Sequence[tuple[str, Any]], stored: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """Layers and what is stored in their places. Classes that differ are only worth a warning, as in NeuPy."""
    pairs = [(name, layer, entry) for (name, layer), entry in zip(layers, stored, strict=False)]
    for name, layer, entry in pairs:
        own, other = own_class(layer).__name__, entry.get("class_name", "")
        if other not in ("", own):
            warn_user(
                f"Parameters are loaded by order: layer `{name}`, a {own}, takes those of the stored layer "
                f"{quoted(entry['name'])}, a {quoted(other)}"
            )
    return pairs


# Whether it fits


def compare(name: str, layer: Any, target: torch.Tensor, parameter: str, value: Any) -> Write:
    """A stored value as a write into a variable.

    Raises
    ------
    ParameterLoaderError
        If shape or dtype do not fit, or the variable has no values that could be replaced.
    InvalidFormat
        If the value is no array of real numbers.
    """
    where = f"Parameter `{parameter}` of layer `{name}`"
    try:
        source, shape = as_stored(value), tuple(target.shape)
        if not (source.fits(shape) if isinstance(source, StoredList) else source.shape == shape):
            raise ParameterLoaderError(
                f"{where} has the shape {shape}, the stored one has {source.shape}. Layer: {layer}"
            )
        if isinstance(source, StoredList):
            source = source.to_array(shape)
    except InvalidFormat as error:
        raise InvalidFormat(f"{where}: {error}") from error
    if target.is_meta:
        raise ParameterLoaderError(
            f"{where} is on the meta device, where nothing can be kept: write network.to_empty(device=...) before"
        )
    # A fraction cannot become a whole number.
    known = holds_numbers(target)
    if not known or source.dtype.kind not in {"b": "b", "i": "biu", "u": "biu", "f": "biuf"}[numpy_dtype(target).kind]:
        raise ParameterLoaderError(
            f"{where} has the dtype {target.dtype}, which cannot hold the stored {source.dtype}. Layer: {layer}"
        )
    write = Write(layer, parameter, target, source)
    if not is_computed(write) and all(target is not own for own in chain(layer.parameters(), layer.buffers())):
        raise ParameterLoaderError(
            f"{where} is computed from others by a hook, and what is stored would be lost at the next call; "
            f"torch.nn.utils.parametrizations can take it. Layer: {layer}"
        )
    return write


def compare_layers(pairs: Iterable[Pair], tell_missing: bool = False) -> list[Write]:
    """All that is stored for some layers, as writes; warns of variables for which nothing is stored."""
    writes = []
    for name, layer, entry in pairs:
        variables = variables_of(layer)
        for parameter, stored in entry["parameters"].items():
            target = variables.get(parameter)
            if target is None:
                raise ParameterLoaderError(
                    f"Parameter {quoted(parameter)} is stored for layer `{name}`, which has no such variable: it has "
                    f"{list(variables)}. Layer: {layer}"
                )
            writes.append(compare(name, layer, target, parameter, stored["value"]))
        missing = [variable for variable in variables if variable not in entry["parameters"]]
        if missing and tell_missing:
            warn_user(f"Nothing is stored for {', '.join(missing)} of layer `{name}`, which stay as they are")
    return writes


# Doing it


def is_computed(write: Write) -> bool:
    """Whether a variable is computed from others, having been parametrised or pruned."""
    layer = write.layer
    key = getattr(layer, "_variable_keys", {}).get(write.name)
    return key is not None and (parametrize.is_parametrized(layer, key) or f"{key}_orig" in layer._parameters)


@torch.no_grad()
def write_all(writes: Sequence[Write]) -> None:
    """Do what was compared.

    Variables that are computed from others come first: a parametrisation may refuse values, and what was written until
    then is put back.
    """
    computed = list(filter(is_computed, writes))
    before = [(write.layer, {k: v.clone() for k, v in write.layer.state_dict().items()}) for write in computed]
    try:
        for write in computed:
            sample_into(write.layer, write.name, np.asarray(write.source))()
    except Exception as error:
        for layer, state in before:
            layer.load_state_dict(state)
        raise ParameterLoaderError(
            f"Parameter `{write.name}` of layer `{write.layer.name}` is parametrised, and does not take the stored "
            f"values: {error}"
        ) from error
    for write in writes:
        if not is_computed(write):
            copy_into(write.target, write.source)


def load_layer_parameter(layer: Any, layer_data: Mapping[str, Any]) -> None:
    """Load what is stored for one layer; as :func:`load_dict`."""
    write_all(compare_layers([(layer.name, layer, layer_data)]))


def load_dict_by_names(layers_conn: Iterable[Any], layers_data: Any, ignore_missing: bool = False) -> None:
    """Load what is stored for some layers, matched by their names; as :func:`load_dict`."""
    layers = [(layer.name, layer) for layer in layers_conn]
    write_all(compare_layers(match_by_names(layers, list(layers_data), ignore_missing)))


def load_dict_sequentially(layers_conn: Iterable[Any], layers_data: Any) -> None:
    """Load what is stored for some layers, matched by their order; as :func:`load_dict`."""
    write_all(compare_layers(match_by_order([(layer.name, layer) for layer in layers_conn], list(layers_data))))


def load_dict(
    network: Any,
    data: Any,
    ignore_missing: bool = False,
    load_by: str = "names_or_order",
    skip_validation: bool = True,
) -> None:
    """Load parameters from a dictionary into a network: all that fit together, or, with an error, none.

    Only layers that have parameters are compared. Within a layer, what is stored must have a variable of its name and
    shape; variables for which nothing is stored stay as they are, with a warning. Values are converted to the
    variables' dtypes, on their devices; ``trainable`` is not looked at.

    Parameters
    ----------
    network : LayerGraph
    data : dict
        As :func:`save_dict` makes it; values may be arrays, nested lists, numbers or tensors.
    ignore_missing : bool
        Layers may be missing, in the network or in the dictionary; one at least must match. Defaults to ``False``.
    load_by : str
        - ``"names"`` matches layers by their names.
        - ``"order"`` matches them by their places in topological order, whatever their names and classes are; classes
          that differ get a warning.
        - ``"names_or_order"`` matches by names where they are the same in both, and else by order, unless what is
          stored was converted from a state dict, which has none.

        Defaults to ``"names_or_order"``.
    skip_validation : bool
        ``False`` refuses a dictionary without layers. All else is always checked. Defaults to ``True``.

    Raises
    ------
    InvalidFormat
        If the dictionary is not built as it should be.
    ParameterLoaderError
        If the parameters do not fit the network.
    ValueError
        If ``load_by`` is something else.
    TypeError
        If it is no network.
    WeightInitializationError
        If a layer has no variables yet.

    Examples
    --------
    >>> from torchneupy import storage
    >>> from torchneupy.layers import *
    >>> trained = Input(4) >> Relu(3, name="hidden") >> Softmax(2, name="classes")
    >>> network = Input(4) >> Relu(3, name="hidden") >> Softmax(5, name="others")
    >>> storage.load_dict(network, storage.save_dict(trained), ignore_missing=True)
    >>> bool((network["hidden"].weight == trained["hidden"].weight).all())
    True
    >>> storage.load_dict(network, storage.save_dict(trained), load_by="order")
    Traceback (most recent call last):
    ...
    torchneupy.exceptions.ParameterLoaderError: Parameter `weight` of layer `others` has the shape (3, 5), the ...
    """
    if load_by not in STRATEGIES:
        raise ValueError(
            f"Invalid value for the `load_by` argument: {load_by}. Should be one of the following values: "
            f"{', '.join(STRATEGIES)}."
        )
    network = extract_network(network)
    network.create_variables()
    (check_structure if skip_validation else validate_data_structure)(data)
    layers = [(name, layer) for name, layer in named_layers(network) if variables_of(layer)]
    stored = [layer for layer in data["layers"] if layer["parameters"]]
    # What convert made of keys tells of no connections.
    has_order = data.get("graph") != []
    pairs = match(layers, stored, ignore_missing, load_by, has_order)
    write_all(compare_layers(pairs, tell_missing=not ignore_missing))


def load_file(
    read: Callable[[FilePath], AbstractContextManager[Any]], network: Any, filepath: FilePath, **arguments: Any
) -> None:
    """Load what ``read`` makes of a file; as :func:`load_dict`."""
    network = extract_network(network)
    with read(filepath) as data, telling_file(filepath):
        load_dict(network, data, **arguments)
