"""JSON files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from torchneupy.storage.atomic import replacing
from torchneupy.storage.errors import FilePath, parsing
from torchneupy.storage.loading import check_structure, load_file
from torchneupy.storage.saving import describe, plain, to_array

__all__ = ["load_json", "read_json", "save_json", "write_json"]

#: How many of the encoder's texts, each of them a number or a bracket, are written at a time.
PARTS = 4096


@contextmanager
def read_json(filepath: FilePath) -> Iterator[dict[str, Any]]:
    """What a file holds, in the form of :func:`save_dict`; values are nested lists."""
    content = Path(filepath).read_bytes()
    with parsing(filepath, "JSON"):
        data = json.loads(content)
        check_structure(data)
    yield data


def write_json(data: dict[str, Any], file: BinaryIO, indent: int | None = None) -> None:
    """Write a description of a network, one array after the other."""
    data = {**data, "layers": [{**layer, "configs": plain(layer.get("configs", {}))} for layer in data["layers"]]}
    encoder = json.JSONEncoder(indent=indent, default=lambda value: to_array(value).tolist())
    parts = encoder.iterencode(data)
    while text := "".join(islice(parts, PARTS)):
        file.write(text.encode("ascii"))


def save_json(network: Any, filepath: FilePath, indent: int | None = None) -> None:
    """Save a network into a JSON file, which is there in full or, if something fails, as it was before.

    The numbers are exact; infinite ones and NaN are written as ``Infinity`` and ``NaN``, which Python reads. Options
    that are no plain values are stored as text.

    Parameters
    ----------
    network : LayerGraph
    filepath : str or path
    indent : int or None
        Spaces for each level; ``None`` writes all in one line. Defaults to ``None``.

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
    >>> storage.save_json(network, "/path/to/parameters.json")  # doctest: +SKIP
    """
    data = describe(network)
    with replacing(filepath) as file:
        write_json(data, file, indent)


def load_json(
    network: Any,
    filepath: FilePath,
    ignore_missing: bool = False,
    load_by: str = "names_or_order",
    skip_validation: bool = True,
) -> None:
    """Load parameters from a JSON file of NeuPy's or torchneupy's.

    Arguments and errors are those of :func:`load_dict`; messages begin with the file's name. A file that cannot be
    parsed is an InvalidFormat, one that cannot be opened an OSError.
    """
    load_file(
        read_json, network, filepath, ignore_missing=ignore_missing, load_by=load_by, skip_validation=skip_validation
    )
