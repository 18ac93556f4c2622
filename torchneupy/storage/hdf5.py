"""NeuPy's HDF5 files: written by h5py, and read by pyfive, whose Python meets damaged files better than C does."""

from __future__ import annotations

import io
import json
import math
import reprlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from torchneupy.exceptions import InvalidFormat
from torchneupy.storage.dictionary import Stored, load_stored, save_dict
from torchneupy.storage.files import FilePath, about, mapped, missing_extra, plain, reading, replacing

__all__ = ["hdf5_content", "load_hdf5", "save_hdf5"]

#: A file that is read more often than this for each of its bytes is going round in circles.
READS_PER_BYTE = 2
LEAST_READS = 20_000


def save_hdf5(network: Any, filepath: FilePath) -> None:
    """Save a network's variables to an HDF5 file that NeuPy reads.

    Parameters
    ----------
    network : LayerGraph
    filepath : path
        Replaced, if it exists, once the new file is complete.

    Raises
    ------
    ImportError
        If h5py is not installed; the message names the extra that installs it.
    TypeError, WeightInitializationError
        As for :func:`save_dict`.
    ValueError
        If the layers' names cannot be those of groups: two are equal, or one is the other's variable.
    OSError
        If the file cannot be written; the old one is there still.
    """
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("Writing HDF5 files", "h5py") from error
    data = save_dict(network)
    fail_if_names_collide(data["layers"])
    with replacing(filepath) as file:
        remembering = RememberingFile(file)
        try:
            with h5py.File(remembering, mode="w") as target:
                write_hdf5(target, data)
        except Exception as error:
            raise (remembering.error or error) from error


def write_hdf5(target: Any, data: dict[str, Any]) -> None:
    """Put a network's dictionary into an open HDF5 file."""
    for layer in data["layers"]:
        group = target.create_group(layer["name"])
        for key in ("class_name", "configs", "name"):
            group.attrs[key] = json.dumps(layer[key], default=plain)
        for name, parameter in layer["parameters"].items():
            dataset = group.create_dataset(name, data=parameter["value"])
            dataset.attrs["trainable"] = parameter["trainable"]
    target.attrs["metadata"] = json.dumps(data["metadata"])
    target.attrs["graph"] = json.dumps(data["graph"])
    target.attrs["layer_names"] = json.dumps([layer["name"] for layer in data["layers"]])


class RememberingFile:
    """A file that remembers why it could not be written: what h5py raises then says nothing of a full disk."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        try:
            self.file.flush()
        except OSError as error:
            self.error = self.error or error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def fail_if_names_collide(layers: list[dict[str, Any]]) -> None:
    """Raise ValueError if two things would have the same place in the file."""
    taken: dict[tuple[str, ...], str] = {}
    for layer in layers:
        group = parts_of(layer["name"])
        for place in (group, *((*group, name) for name in layer["parameters"])):
            if place in taken or not place or "." in place:
                raise ValueError(
                    f"HDF5 has no place for a layer named {layer['name']!r}"
                    + (f" beside the layer {taken[place]!r}" if place in taken else "")
                    + "; rename it, or save as JSON or pickle"
                )
            taken[place] = layer["name"]


def parts_of(name: str) -> tuple[str, ...]:
    """The groups, one within the other, for a layer's name."""
    return tuple(part for part in name.split("/") if part)


def load_hdf5(
    network: Any,
    filepath: FilePath,
    ignore_missing: bool = False,
    load_by: str = "names_or_order",
    skip_validation: bool = True,
) -> None:
    """Give a network the variables of an HDF5 file.

    Parameters
    ----------
    network, ignore_missing, load_by, skip_validation
        As for :func:`load_dict`.
    filepath : path

    Raises
    ------
    ImportError
        If pyfive is not installed; the message names the extra that installs it.
    InvalidFormat
        If the file is none of NeuPy's.
    OSError, TypeError, ValueError, ParameterLoaderError, WeightInitializationError
        As for :func:`load_dict`, or if the file cannot be read.
    """
    with mapped(filepath) as content, about(filepath):
        load_stored(network, hdf5_content(filepath, content), ignore_missing, load_by)


class BoundedFile(io.RawIOBase):
    """A mapped file that can be read only so often: a damaged one may lead its reader round in circles."""

    def __init__(self, content: Any) -> None:
        self.content = content
        self.left = LEAST_READS + READS_PER_BYTE * min(len(content), 10**6)
        super().__init__()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        begin: int = {0: 0, 1: self.content.tell(), 2: len(self.content)}[whence]
        if not 0 <= begin + offset <= len(self.content):
            raise InvalidFormat(f"it refers to byte {begin + offset} of {len(self.content)}")
        self.content.seek(begin + offset)
        return begin + offset

    def tell(self) -> int:
        position: int = self.content.tell()
        return position

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise InvalidFormat("it goes round in circles")
        found: bytes = self.content.read(-1 if size is None else size)
        return found


def hdf5_content(filepath: FilePath, content: Any) -> dict[str, Any]:
    """The dictionary that a mapped file holds, of which the values are not read yet."""
    try:
        import pyfive
    except ImportError as error:
        raise missing_extra("Reading HDF5 files", "pyfive") from error
    with reading(filepath, "HDF5"):
        root = pyfive.File(BoundedFile(content))
        names = json_attribute(root, "layer_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidFormat(f"its layer_names are no list of texts: {reprlib.repr(names)}")
        if len(names) > len(content):
            raise InvalidFormat(f"it has {len(names)} names of layers")
        return {
            **{key: json_attribute(root, key) for key in ("metadata", "graph") if key in root.attrs},
            "layers": [stored_layer(filepath, content, root, name) for name in names],
        }


def json_attribute(node: Any, key: str) -> Any:
    if key not in node.attrs:
        raise InvalidFormat(f"it has no attribute {key!r}")
    value = node.attrs[key]
    if not isinstance(value, (str, bytes)):
        raise InvalidFormat(f"its attribute {key!r} is no text but {type(value).__name__}")
    return json.loads(value)


def stored_layer(filepath: FilePath, content: Any, root: Any, name: str) -> dict[str, Any]:
    group = root["/".join(parts_of(name))]
    if not hasattr(group, "items"):
        raise InvalidFormat(f"the layer {name!r} is no group")
    described = {key: json_attribute(group, key) for key in ("class_name", "configs") if key in group.attrs}
    # A layer "a/b" is a group within that of the layer "a", and no variable of it.
    parameters = {
        key: {"value": stored_array(filepath, content, child), "trainable": bool(child.attrs.get("trainable", True))}
        for key, child in children(group)
        if not hasattr(child, "items")
    }
    return {"name": name, "parameters": parameters, **described}


def children(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in group:
        yield key, group[key]


def stored_array(filepath: FilePath, content: Any, dataset: Any) -> Stored:
    """A dataset, which where it lies in one piece is shown where it is, without a copy."""
    shape, dtype = tuple(int(size) for size in dataset.shape), np.dtype(dataset.dtype)

    def read() -> Any:
        with reading(filepath, "HDF5"):
            if dtype.kind not in "biuf":
                raise InvalidFormat(f"it holds {dtype}, not real numbers")
            begin, size = contiguous_place(dataset), math.prod(shape)
            if begin is None:
                return np.asarray(dataset[()])
            if not 0 <= begin <= begin + size * dtype.itemsize <= len(content):
                raise InvalidFormat(f"a variable of the shape {shape} reaches beyond its end")
            return np.frombuffer(content, dtype, count=size, offset=begin).reshape(shape)

    return Stored(shape, read)


def contiguous_place(dataset: Any) -> int | None:
    """Where a dataset begins that lies in one piece; None for others."""
    identifier = dataset.id
    if identifier.layout_class != 1 or not identifier.shape or 0 in identifier.shape:
        return None
    offset = identifier.data_offset
    return None if offset is None else int(offset)
