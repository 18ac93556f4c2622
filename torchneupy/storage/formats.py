"""Formats of files by the endings of their names."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from torchneupy.storage.errors import FilePath
from torchneupy.storage.hdf5_format import read_hdf5, write_hdf5
from torchneupy.storage.json_format import read_json, write_json
from torchneupy.storage.pickle_format import read_pickle, write_pickle
from torchneupy.storage.safetensors_format import read_safetensors, write_safetensors
from torchneupy.storage.torch_format import read_state_dict, write_state_dict

__all__ = ["HDF5", "JSON", "PICKLE", "SAFETENSORS", "STATE_DICT", "Format", "find_format"]


class Format(NamedTuple):
    """How files of a format are read and written.

    Attributes
    ----------
    name : str
    read : callable
        Given a path, it is a context whose value is a description as :func:`torchneupy.storage.save_dict` makes it, or
        ``{"tensors": ..., "metadata": ...}`` where the file has keys and no layers.
    write : callable
        Writes such a dictionary into an open file.
    """

    name: str
    read: Callable[[FilePath], AbstractContextManager[dict[str, Any]]]
    write: Callable[[dict[str, Any], BinaryIO], None]


HDF5 = Format("HDF5", read_hdf5, write_hdf5)
JSON = Format("JSON", read_json, write_json)
PICKLE = Format("pickle", read_pickle, write_pickle)
SAFETENSORS = Format("safetensors", read_safetensors, write_safetensors)
STATE_DICT = Format("torch state dict", read_state_dict, write_state_dict)
ENDINGS = {
    ".hdf5": HDF5, ".h5": HDF5, ".json": JSON, ".pickle": PICKLE, ".pkl": PICKLE,
    ".safetensors": SAFETENSORS, ".pt": STATE_DICT, ".pth": STATE_DICT,
}  # fmt: skip


def find_format(path: FilePath) -> Format:
    """The format of a file, whether it is there or not.

    Raises
    ------
    ValueError
        If its name ends otherwise than those of the known formats.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"The name of a file should end with one of {', '.join(ENDINGS)}, got {os.fspath(path)!r}")
    return ENDINGS[ending]
