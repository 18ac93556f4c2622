"""Pickle files: NeuPy's are read without running anything that they name, and ours name nothing."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torchneupy.storage.atomic import replacing
from torchneupy.storage.errors import FilePath, parsing
from torchneupy.storage.loading import check_structure, load_file
from torchneupy.storage.saving import describe, plain, to_array

__all__ = ["load_pickle", "read_pickle", "save_pickle", "write_pickle"]

#: Protocol 4 is read by Python 3.4 and later, protocol 2 by every Python that NeuPy ran on.
PROTOCOL, COMPATIBLE_PROTOCOL = 4, 2


@contextmanager
def read_pickle(filepath: FilePath) -> Iterator[dict[str, Any]]:
    """What a file holds, in the form of :func:`save_dict`."""
    from torchneupy.storage.unpickling import load_safely

    with open(filepath, "rb") as file:
        with parsing(filepath, "pickle"):
            data = load_safely(file)
            check_structure(data)
        yield data


def write_pickle(data: dict[str, Any], file: Any, python_compatible: bool = False) -> None:
    """Write a description of a network as plain containers and numbers."""
    layers = [{**layer, "configs": plain(layer.get("configs", {}))} for layer in data["layers"]]
    for layer in layers:
        layer["parameters"] = {
            name: {**parameter, "value": to_array(parameter["value"]).tolist()}
            for name, parameter in layer["parameters"].items()
        }
    pickle.dump({**data, "layers": layers}, file, COMPATIBLE_PROTOCOL if python_compatible else PROTOCOL)


def save_pickle(network: Any, filepath: FilePath, python_compatible: bool = False) -> None:
    """Save a network into a pickle file, which is there in full or, if something fails, as it was before.

    The file holds plain containers, numbers and text, and refers to no class or function: any Python reads it, with or
    without numpy, and an unpickler may refuse all references. Arrays are nested lists, therefore; large networks are
    stored smaller and faster by :func:`save_hdf5`. Options that are no plain values are stored as text.

    Parameters
    ----------
    network : LayerGraph
    filepath : str or path
    python_compatible : bool
        Use protocol 2, which Python 2 reads too, and not protocol 4. Defaults to ``False``.

    Raises
    ------
    TypeError, WeightInitializationError, ValueError
        As :func:`save_dict`.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from torchneupy import storage
    >>> from torchneupy.layers import *
    >>> network = Input(10) >> Softmax(3)
    >>> storage.save_pickle(network, "/path/to/parameters.pickle")  # doctest: +SKIP
    """
    data = describe(network)
    with replacing(filepath) as file:
        write_pickle(data, file, python_compatible)


def load_pickle(
    network: Any,
    filepath: FilePath,
    ignore_missing: bool = False,
    load_by: str = "names_or_order",
    skip_validation: bool = True,
) -> None:
    """Load parameters from a pickle file of NeuPy's or torchneupy's.

    Nothing that the file names is imported or called. It may hold plain containers and arrays of numpy's; names of
    NeuPy's initialisers and TensorFlow's functions are kept as names, and everything else is refused.

    Arguments and errors are those of :func:`load_dict`; messages begin with the file's name. A file that cannot be
    parsed is an InvalidFormat, one that cannot be opened an OSError.
    """
    load_file(
        read_pickle, network, filepath, ignore_missing=ignore_missing, load_by=load_by, skip_validation=skip_validation
    )
