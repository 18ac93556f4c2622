"""Safetensors files: a header in JSON, then the bytes of all tensors.

The format is that of https://github.com/huggingface/safetensors: eight bytes with the length of the header; the header,
which tells for each tensor its dtype, its shape and where its bytes are among those that follow; these bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any, BinaryIO, NamedTuple, TypeGuard

import numpy as np
import torch

from torchneupy.storage.arrays import StoredArray
from torchneupy.storage.atomic import replacing
from torchneupy.storage.errors import FilePath, InvalidFormat, ParameterLoaderError, parsing, quoted, telling_file
from torchneupy.storage.loading import check_structure, compare, load_dict, write_all
from torchneupy.storage.saving import describe, extract_network, plain, to_array

__all__ = ["load_safetensors", "read_safetensors", "save_safetensors", "write_safetensors"]

DTYPES = {
    **{f"F{size * 8}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    **{f"I{size * 8}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{size * 8}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "BOOL": np.dtype("?"),
    "BF16": np.dtype("<u2"),  # the upper halves of float32 numbers
}
NAMES = {dtype: name for name, dtype in reversed(DTYPES.items())}
#: The official library refuses a longer header.
LONGEST_HEADER = 100_000_000
#: Where the layers are described in the header.
LAYERS = "torchneupy"
NAMINGS = ("neupy", "state_dict")
ALIGNMENT = 8


# Reading


@contextmanager
def read_safetensors(filepath: FilePath) -> Iterator[dict[str, Any]]:
    """What a file holds; values can be read as long as the block runs.

    In the form of :func:`save_dict` if the file has NeuPy's names; else ``{"tensors": ...}`` by their keys.
    """
    with open(filepath, "rb") as file:
        with parsing(filepath, "safetensors"):
            data = read_content(file)
            if "layers" in data:
                check_structure(data)
        yield data


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of JSON's; raises InvalidFormat if it has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidFormat("the header has a key twice")
    return found


def read_content(file: BufferedIOBase) -> dict[str, Any]:
    size = file.seek(0, 2)
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(LONGEST_HEADER, size - 8):
        raise InvalidFormat(f"the header should take {length} bytes, but the file has {size}")
    header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=unique)
    if not isinstance(header, dict):
        raise InvalidFormat(f"the header should be a dictionary, got {quoted(header)}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise InvalidFormat(f"the metadata should be a dictionary, got {quoted(metadata)}")
    fail_if_bytes_overlap(header, size - 8 - length)
    tensors = {key: read_tensor(file, 8 + length, key, entry) for key, entry in header.items()}
    if LAYERS not in metadata:
        return {"metadata": metadata, "tensors": tensors}
    data = json.loads(metadata[LAYERS])
    check_structure(data)
    for layer in data["layers"]:
        for parameter in layer["parameters"].values():
            if parameter["value"] not in tensors:
                raise InvalidFormat(f"layer {quoted(layer['name'])} refers to a tensor that is not there")
            parameter["value"] = tensors[parameter["value"]]
    described: dict[str, Any] = data
    return described


def fail_if_bytes_overlap(header: Mapping[str, Any], size: int) -> None:
    """Raise InvalidFormat unless each byte belongs to one tensor, as the format demands."""
    places = []
    for key, entry in header.items():
        place = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not is_sizes(place) or len(place) != 2:
            raise InvalidFormat(f"tensor {quoted(key)} has no offsets")
        places.append(tuple(place))
    end = 0
    for start, stop in sorted(places):
        if start != end or stop < start:
            raise InvalidFormat(f"a tensor takes the bytes {start} to {stop}, those up to {end} being taken")
        end = stop
    if end != size:
        raise InvalidFormat(f"the tensors should take {end} bytes, but the file has {size} for them")


def is_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def read_tensor(file: BufferedIOBase, start: int, key: str, entry: Mapping[str, Any]) -> StoredArray:
    dtype, shape, (begin, end) = entry.get("dtype"), entry.get("shape"), entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InvalidFormat(f"tensor {quoted(key)} has the dtype {quoted(dtype)}, which is not known")
    if not is_sizes(shape) or math.prod(shape) * DTYPES[dtype].itemsize != end - begin:
        raise InvalidFormat(f"tensor {quoted(key)} has a shape that does not fit its {end - begin} bytes")
    return StoredArray(file, start + begin, shape, DTYPES[dtype], is_bfloat16=dtype == "BF16")


# Writing


def write_safetensors(data: Mapping[str, Any], file: BinaryIO) -> None:
    """Write a description of a network under NeuPy's names, ``layer/parameter``."""
    tensors: dict[str, Any] = {}
    layers = []
    for layer in data["layers"]:
        parameters = {}
        for name, parameter in layer["parameters"].items():
            key = f"{layer['name']}/{name}"
            while key in tensors or key == "__metadata__":
                key += "+"
            tensors[key] = parameter["value"]
            parameters[name] = {**parameter, "value": key}
        layers.append({**layer, "parameters": parameters, "configs": plain(layer.get("configs", {}))})
    write_tensors(tensors, file, {LAYERS: json.dumps({**data, "layers": layers})})


def write_tensors(tensors: Mapping[str, Any], file: BinaryIO, metadata: Mapping[str, str]) -> None:
    """Write tensors, or arrays, under their keys, one after the other."""
    header: dict[str, Any] = {"__metadata__": metadata}
    kinds = {key: kind_of(value) for key, value in tensors.items()}
    end = 0
    # As the official library does it, large values first, so that all of them are aligned.
    order = sorted(kinds, key=lambda key: -kinds[key].itemsize)
    for key in order:
        kind = kinds[key]
        header[key] = {"dtype": kind.name, "shape": kind.shape, "data_offsets": [end, end + kind.nbytes]}
        end += kind.nbytes
    text = json.dumps(header, ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % ALIGNMENT)
    file.write(struct.pack("<Q", len(text)) + text)
    for key in order:
        file.write(np.ascontiguousarray(to_bytes_like(tensors[key])[1]).reshape(-1).view(np.uint8).data)


class Kind(NamedTuple):
    """What the header tells of a value, and how large one of its numbers is."""

    name: str
    shape: list[int]
    itemsize: int
    nbytes: int


def kind_of(value: Any) -> Kind:
    """What a value is, without reading it if it is in a file."""
    if isinstance(value, StoredArray):
        value = np.broadcast_to(np.empty((), value.dtype), value.shape)
    name, array = to_bytes_like(value)
    return Kind(name, list(array.shape), array.itemsize, array.nbytes)


def to_bytes_like(value: Any) -> tuple[str, np.ndarray[Any, Any]]:
    """The format's name of a value's dtype, and an array with the value's bytes."""
    if isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16:
        array: np.ndarray[Any, Any] = value.detach().cpu().contiguous().view(torch.int16).numpy()
        return "BF16", array.view(np.uint16)
    array = to_array(value)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype not in NAMES:
        raise TypeError(f"A safetensors file cannot hold the dtype {array.dtype}")
    return NAMES[array.dtype], array


def save_safetensors(network: Any, filepath: FilePath, names: str = "neupy") -> None:
    """Save a network into a safetensors file, which is there in full or, if something fails, as it was before.

    Parameters
    ----------
    network : LayerGraph
    filepath : str or path
    names : str
        - ``"neupy"``: the tensors are called ``layer/parameter``, by NeuPy's names, and the header describes the
          layers, as :func:`save_dict` does.
        - ``"state_dict"``: the tensors are those of ``network.state_dict()`` under their keys; for other programs.

        Defaults to ``"neupy"``.

    Raises
    ------
    TypeError, WeightInitializationError, ValueError
        As :func:`save_dict`; and TypeError if there is a dtype that the format or numpy do not know.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from torchneupy import storage
    >>> from torchneupy.layers import *
    >>> network = Input(10) >> Softmax(3)
    >>> storage.save_safetensors(network, "/path/to/parameters.safetensors")  # doctest: +SKIP
    """
    if names not in NAMINGS:
        raise ValueError(f"The names in a safetensors file can be {' or '.join(map(repr, NAMINGS))}, got {names!r}")
    network = extract_network(network)
    data = describe(network)
    with replacing(filepath) as file:
        if names == "neupy":
            write_safetensors(data, file)
        else:
            write_tensors(network.state_dict(), file, {"format": "pt"})


def load_safetensors(
    network: Any,
    filepath: FilePath,
    ignore_missing: bool = False,
    load_by: str = "names_or_order",
    skip_validation: bool = True,
) -> None:
    """Load parameters from a safetensors file, with NeuPy's names or with the keys of ``state_dict``.

    A file that describes its layers is loaded as by :func:`load_dict`. In any other one, the keys should be those of
    ``network.state_dict()``; with ``ignore_missing`` some of them, in the network or in the file, may be missing. Such
    a file has no order. As in :func:`load_hdf5`, the memory needed does not grow with the file.

    Arguments and errors are those of :func:`load_dict`; messages begin with the file's name. A file that cannot be
    parsed is an InvalidFormat, one that cannot be opened an OSError.
    """
    network = extract_network(network)
    with read_safetensors(filepath) as data, telling_file(filepath):
        if "layers" in data:
            load_dict(network, data, ignore_missing, load_by, skip_validation)
        elif load_by == "order":
            raise ParameterLoaderError("the file has no layers, only keys, and cannot be loaded by order")
        else:
            load_by_keys(network, data["tensors"], ignore_missing)


def load_by_keys(network: Any, tensors: Mapping[str, StoredArray], ignore_missing: bool) -> None:
    """Write what is stored under the keys of ``state_dict``."""
    network.create_variables()
    targets = network.state_dict(keep_vars=True)
    shared = [key for key in targets if key in tensors]
    if not shared or (not ignore_missing and len(shared) < max(len(targets), len(tensors))):
        raise ParameterLoaderError(
            f"{len(shared)} keys are both in the network's state_dict and in the file. In the network: "
            f"{list(targets)}. In the file: [{', '.join(map(quoted, tensors))}]"
        )
    write_all([compare(key, network, targets[key], key, tensors[key]) for key in shared])
