"""From one format of files to another."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from torchneupy.storage.arrays import StoredArray, StoredList, as_stored
from torchneupy.storage.atomic import replacing
from torchneupy.storage.errors import FilePath, InvalidFormat, quoted, telling_file
from torchneupy.storage.formats import HDF5, JSON, PICKLE, SAFETENSORS, STATE_DICT, Format, find_format
from torchneupy.storage.keys import keys_to_layers, layers_to_keys
from torchneupy.storage.safetensors_format import NAMINGS, write_tensors
from torchneupy.storage.saving import plain
from torchneupy.storage.torch_format import to_tensor

__all__ = ["convert"]

#: The largest numbers that all programs know.
LARGEST_ITEM = 8


def convert(source: FilePath, target: FilePath, names: str = "neupy", verbose: bool = False) -> None:
    """Write what a file holds into a file of another format.

    The endings of the names tell the formats: ``.hdf5`` or ``.h5``, ``.json``, ``.pickle`` or ``.pkl``,
    ``.safetensors``, and ``.pt`` or ``.pth`` for a state dict of ``torch.save``. Between the first four, all is kept:
    layers with their classes, options and connections, what is trained, and who saved the file when. A state dict has
    values under the keys of ``network.state_dict()``, where automatic names are numbered from 1, and nothing else;
    layers that are made of one have the names that its keys tell, no class, and what they do not tell is assumed to be
    trained. As their order may be any, they are loaded by order only if ``load_by="order"`` says so.

    Values keep their dtypes, but for these: HDF5 has no bfloat16, whose values float32 holds; lists of numbers, in JSON
    and in pickles that torchneupy wrote, have no dtypes, and are read as float32 if that holds all numbers of the file
    exactly, else as float64.

    HDF5 and safetensors are read and written one array after the other; a state dict is written from memory, as long
    as the file is; JSON and pickle are made of Python's numbers, which take several times as much.

    Parameters
    ----------
    source : str or path
    target : str or path
        Replaced if it is there, when the new file is complete. It may be ``source``.
    names : str
        How a safetensors file that is written calls its tensors: ``"neupy"`` or ``"state_dict"``, as in
        :func:`save_safetensors`. Defaults to ``"neupy"``.
    verbose : bool
        Show a progress bar on the standard error stream, where that is a terminal, after a second. Defaults to
        ``False``.

    Raises
    ------
    InvalidFormat
        If the source cannot be read; the message begins with its name.
    ValueError
        If an ending is not known, the format has no such names, or it cannot hold what is stored: names of layers that
        are no paths, for HDF5; lengths of rows where there are none, in lists.
    TypeError
        If the format does not know a dtype.
    OSError
        If a file cannot be opened or written.
    ImportError
        If the extra ``storage`` is not installed, which HDF5 needs.

    Examples
    --------
    >>> from torchneupy import storage
    >>> storage.convert("vgg16.hdf5", "vgg16.pt")  # doctest: +SKIP
    """
    given, wanted = find_format(source), find_format(target)
    by_keys = wanted is STATE_DICT or names == "state_dict"
    if names not in NAMINGS or (by_keys and wanted not in (SAFETENSORS, STATE_DICT)):
        raise ValueError(
            f"The names in a safetensors file can be {' or '.join(map(repr, NAMINGS))}, those in other files are what "
            f"they are; got names={names!r} for {wanted.name}"
        )
    with given.read(source) as data, telling_file(source):
        try:
            content = to_tensors(data) if by_keys else to_layers(data)
            fail_if_lost(content, wanted)
            with replacing(target) as file, watched(file, content, wanted, verbose) as written:
                write(content, wanted, written)
        except RecursionError as error:
            raise InvalidFormat("lists or dictionaries are nested too deep") from error
        except UnicodeEncodeError as error:
            part = error.object[error.start : error.end].encode("ascii", "backslashreplace").decode()
            raise ValueError(f"{os.fspath(source)}: {wanted.name} files cannot hold the text {part!r}") from error


# What is read, in one of two forms: layers with parameters, or tensors under keys


def to_layers(data: Mapping[str, Any]) -> dict[str, Any]:
    """A description of layers, all of whose values are arrays."""
    if "tensors" in data:
        return {"metadata": data["metadata"], "graph": [], "layers": keys_to_layers(data["tensors"])}
    others = {key: plain(value) for key, value in data.items() if key != "layers"}
    return {"metadata": {}, "graph": [], **others, "layers": read_layers(data["layers"])}


def to_tensors(data: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays under the keys of ``state_dict``."""
    if "tensors" in data:
        return {"metadata": data["metadata"], "tensors": data["tensors"]}
    return {"metadata": {}, "tensors": layers_to_keys(read_layers(data["layers"]))}


def read_layers(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Described layers in full: with arrays, and with what a file may leave out."""
    found = []
    doubles: list[dict[str, Any]] = []
    for layer in layers:
        parameters = {}
        for name, parameter in layer["parameters"].items():
            value = read_value(layer["name"], name, parameter["value"])
            others = {key: plain(other) for key, other in parameter.items() if key != "value"}
            parameters[name] = {"value": value, **others, "trainable": bool(parameter.get("trainable", True))}
            if isinstance(parameter["value"], (list, tuple, float)) and value.dtype == np.float64:
                doubles.append(parameters[name])
        others = {key: plain(other) for key, other in layer.items() if key != "parameters"}
        found.append({"class_name": "", "name": "", "parameters": {}, "configs": {}, **others})
        found[-1]["parameters"] = parameters
    if all(is_float32(entry["value"]) for entry in doubles):
        for entry in doubles:
            entry["value"] = entry["value"].astype(np.float32)
    return found


def read_value(layer: str, name: str, value: Any) -> np.ndarray[Any, Any] | StoredArray:
    """A stored value as an array."""
    try:
        stored = as_stored(value)
        return stored.to_array(stored.shape) if isinstance(stored, StoredList) else stored
    except InvalidFormat as error:
        raise InvalidFormat(f"Parameter {quoted(name)} of layer {quoted(layer)}: {error}") from error


def is_float32(array: np.ndarray[Any, Any]) -> bool:
    """Whether float32 holds all numbers of an array exactly."""
    with np.errstate(over="ignore"):
        return np.array_equal(array.astype(np.float32), array, equal_nan=True)


def places(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """What each value is called, and the dictionary and the key under which it is."""
    for key in content.get("tensors", ()):
        yield quoted(key), content["tensors"], key
    for layer in content.get("layers", ()):
        for name, parameter in layer["parameters"].items():
            yield f"{quoted(name)} of layer {quoted(layer['name'])}", parameter, "value"


def fail_if_lost(content: Mapping[str, Any], wanted: Format) -> None:
    """Raise TypeError or ValueError if a format cannot hold something."""
    for where, holder, key in places(content):
        value = holder[key]
        if value.dtype.itemsize > LARGEST_ITEM:
            raise TypeError(f"Parameter {where} has the dtype {value.dtype}, which {wanted.name} files do not have")
        if wanted in (JSON, PICKLE) and 0 in value.shape[:-1]:
            raise ValueError(f"Parameter {where} has the shape {value.shape}, which lists in {wanted.name} cannot tell")
        if wanted is HDF5:
            fail_if_unknown(holder, ("value", "trainable"), f"Parameter {where}")
    if wanted is HDF5:
        fail_if_unknown(content, ("metadata", "graph", "layers"), "What is stored")
        for layer in content["layers"]:
            fail_if_unknown(layer, [key for key in layer if key and "\0" not in key], f"Layer {quoted(layer['name'])}")


def fail_if_unknown(data: Mapping[str, Any], known: Collection[str], where: str) -> None:
    unknown = [key for key in data if key not in known]
    if unknown:
        raise ValueError(f"{where} has the keys {', '.join(map(quoted, unknown))}, which HDF5 files of NeuPy's do not")


# Writing


@contextmanager
def watched(file: BinaryIO, content: Mapping[str, Any], wanted: Format, verbose: bool) -> Iterator[BinaryIO]:
    """A file that shows how much was written into it."""
    if not verbose:
        yield file
        return
    total = None if wanted in (JSON, PICKLE) else sum(holder[key].nbytes for _, holder, key in places(content))
    # The bar vanishes: what remains on the screen is what the caller tells.
    with tqdm.wrapattr(file, "write", total=total, delay=1, leave=False, disable=None) as written:
        yield written


def write(content: dict[str, Any], wanted: Format, file: BinaryIO) -> None:
    """Write one of the two forms."""
    if wanted is SAFETENSORS:
        for _, holder, key in places(content):
            if isinstance(holder[key], StoredArray) and holder[key].is_bfloat16:
                holder[key] = to_tensor(holder[key])  # as which it keeps its dtype there
    if wanted is SAFETENSORS and "tensors" in content:
        write_tensors(content["tensors"], file, {"format": "pt", **content["metadata"]})
    else:
        wanted.write(content, file)
