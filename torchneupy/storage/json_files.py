"""NeuPy's JSON files."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from torchneupy.storage.dictionary import load_stored, save_dict
from torchneupy.storage.files import FilePath, about, mapped, plain, reading, replacing

__all__ = ["load_json", "read_json", "save_json"]


def as_json(value: Any) -> Any:
    """What JSON has no form for."""
    return value.tolist() if isinstance(value, np.ndarray) else plain(value)


def save_json(network: Any, filepath: FilePath, indent: int | None = None) -> None:
    """Save a network's variables to a JSON file that NeuPy reads.

    Parameters
    ----------
    network : LayerGraph
    filepath : path
        Replaced, if it exists, once the new file is complete.
    indent : int or None
        Spaces for each level; ``None`` puts all in one line. Defaults to ``None``.

    Raises
    ------
    TypeError, WeightInitializationError
        As for :func:`save_dict`.
    OSError
        If the file cannot be written; the old one is there still.
    """
    data = save_dict(network)
    with replacing(filepath) as file:
        text = io.TextIOWrapper(file, encoding="utf-8")
        json.dump(data, text, indent=indent, default=as_json)
        text.detach()


def load_json(
    network: Any,
    filepath: FilePath,
    ignore_missing: bool = False,
    load_by: str = "names_or_order",
    skip_validation: bool = True,
) -> None:
    """Give a network the variables of a JSON file.

    Parameters
    ----------
    network, ignore_missing, load_by, skip_validation
        As for :func:`load_dict`.
    filepath : path

    Raises
    ------
    InvalidFormat
        If the file is none of NeuPy's.
    OSError, TypeError, ValueError, ParameterLoaderError, WeightInitializationError
        As for :func:`load_dict`, or if the file cannot be read.
    """
    with about(filepath):
        load_stored(network, read_json(filepath), ignore_missing, load_by)


def read_json(filepath: FilePath) -> Any:
    """What a JSON file holds."""
    with mapped(filepath) as content, reading(filepath, "JSON"):
        return json.loads(content[:])
