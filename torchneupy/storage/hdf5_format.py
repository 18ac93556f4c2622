"""HDF5 files, NeuPy's main format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from torchneupy.storage.atomic import replacing
from torchneupy.storage.errors import FilePath, need, parsing
from torchneupy.storage.loading import check_structure, load_file
from torchneupy.storage.saving import describe, plain, to_array

__all__ = ["load_hdf5", "read_hdf5", "save_hdf5", "write_hdf5"]


@contextmanager
def read_hdf5(filepath: FilePath) -> Iterator[dict[str, Any]]:
    """What a file holds, in the form of :func:`save_dict`; values can be read as long as the block runs."""
    need("pyfive", "Reading HDF5 files")
    from torchneupy.storage.hdf5_reading import read_network

    with open(filepath, "rb") as file:
        with parsing(filepath, "HDF5"), warnings.catch_warnings():
            warnings.filterwarnings("error", "Attribute .* not implemented")  # of pyfive's, which would leave it out
            data = read_network(file)
            check_structure(data)
        yield data


class Postponed:
    """A file that keeps the first error to itself, and from then on only pretends to write.

    libhdf5 cannot close a file whose last writes fail; and it would not tell what failed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def _try(self, method: str, *args: Any) -> Any:
        if self.error is None:
            try:
                return getattr(self.file, method)(*args)
            except OSError as error:
                self.error = error
        return 0

    def seek(self, *args: Any) -> Any:
        return self._try("seek", *args)

    def tell(self) -> Any:
        return self._try("tell")

    def read(self, size: int) -> Any:
        return self._try("read", size) or b""

    def readinto(self, buffer: Any) -> Any:
        return self._try("readinto", buffer)

    def write(self, data: Any) -> Any:
        return self._try("write", data)

    def truncate(self, *args: Any) -> Any:
        return self._try("truncate", *args)

    def flush(self) -> None:
        self._try("flush")


def write_hdf5(data: dict[str, Any], file: BinaryIO) -> None:
    """Write a description of a network, one array after the other.

    Raises
    ------
    ValueError
        If names of layers or parameters collide as paths in the file.
    """
    h5py = need("h5py", "Writing HDF5 files")
    fail_if_paths_collide(data)
    target = Postponed(file)
    try:
        with h5py.File(target, "w") as root:
            for name in ("metadata", "graph"):
                root.attrs[name] = json.dumps(data[name])
            root.attrs["layer_names"] = json.dumps([layer["name"] for layer in data["layers"]])
            for layer in data["layers"]:
                write_layer(root, layer)
    finally:
        if target.error is not None:
            raise target.error


def write_layer(root: Any, layer: dict[str, Any]) -> None:
    group = root.require_group(layer["name"])
    for name, value in layer.items():
        if name != "parameters":
            group.attrs[name] = json.dumps(plain(value))
    for name, parameter in layer["parameters"].items():
        dataset = group.create_dataset(name, data=to_array(parameter["value"]))
        dataset.attrs["trainable"] = parameter["trainable"]


def fail_if_paths_collide(data: dict[str, Any]) -> None:
    """Raise ValueError if the file could not hold all layers: their names are paths in it."""
    groups: dict[tuple[str, ...], str] = {}
    arrays: dict[tuple[str, ...], str] = {}
    for layer in data["layers"]:
        name = layer["name"]
        path = tuple(part for part in name.split("/") if part not in ("", "."))
        if not path or "\0" in name or path in groups:
            same = f", as that of layer {groups[path]!r}" if path in groups else ""
            raise ValueError(f"The name of layer {name!r} cannot be a path in an HDF5 file{same}. {OTHERS}")
        groups[path] = name
        for parameter in layer["parameters"]:
            if parameter in ("", ".") or "/" in parameter or "\0" in parameter:
                raise ValueError(f"Parameter {parameter!r} of layer {name!r} cannot be a name in HDF5. {OTHERS}")
            arrays[(*path, parameter)] = name
    for path, name in groups.items():
        owner = next((arrays[path[:end]] for end in range(len(path) + 1) if path[:end] in arrays), None)
        if owner is not None:
            raise ValueError(f"Layer {name!r} would be stored where layer {owner!r} keeps a parameter. {OTHERS}")


OTHERS = "JSON, pickle and safetensors take all names"


def save_hdf5(network: Any, filepath: FilePath) -> None:
    """Save a network into an HDF5 file, which is there in full or, if something fails, as it was before.

    The file is written beside the old one and takes its place at the end; a process that is killed meanwhile may leave
    a file named ``.torchneupy-*.tmp`` behind. Options that are no plain values are stored as text. A slash in a layer's
    name makes groups in groups.

    Parameters
    ----------
    network : LayerGraph
    filepath : str or path

    Raises
    ------
    TypeError, WeightInitializationError
        As :func:`save_dict`.
    ValueError
        If names of layers collide as paths in the file (``"a"`` twice, or ``"a/weight"`` beside ``"a"`` with a
        ``weight``), or a variable is on the meta device.
    OSError
        If the file cannot be written.
    ImportError
        If h5py is not installed; the message names the extra that installs it.

    Examples
    --------
    >>> from torchneupy import storage
    >>> from torchneupy.layers import *
    >>> network = Input(10) >> Softmax(3)
    >>> storage.save(network, "/path/to/parameters.hdf5")  # doctest: +SKIP
    """
    data = describe(network)
    with replacing(filepath) as file:
        write_hdf5(data, file)


def load_hdf5(
    network: Any,
    filepath: FilePath,
    ignore_missing: bool = False,
    load_by: str = "names_or_order",
    skip_validation: bool = True,
) -> None:
    """Load parameters from an HDF5 file of NeuPy's or torchneupy's.

    All of the file is compared with the network before the first array is read; arrays are then copied in pieces, so
    that the memory needed does not grow with the file. No other process may change the file meanwhile.

    Arguments and errors are those of :func:`load_dict`; messages begin with the file's name. A file that cannot be
    parsed is an InvalidFormat, one that cannot be opened an OSError.

    Raises
    ------
    ImportError
        If pyfive is not installed; the message names the extra that installs it.
    """
    load_file(
        read_hdf5, network, filepath, ignore_missing=ignore_missing, load_by=load_by, skip_validation=skip_validation
    )
