"""State dicts as ``torch.save`` writes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import torch

from torchneupy.storage.arrays import StoredArray
from torchneupy.storage.errors import FilePath, parsing
from torchneupy.storage.hdf5_format import Postponed
from torchneupy.storage.torch_archive import read_archive
from torchneupy.storage.torch_unpickling import load_tensors

__all__ = ["read_state_dict", "write_state_dict"]


@contextmanager
def read_state_dict(filepath: FilePath) -> Iterator[dict[str, Any]]:
    """What a state dict's file holds; values can be read as long as the block runs.

    The file is ``torch.save(network.state_dict(), path)``; the tensors, wherever they were, are read as real numbers.
    Nothing of it is run, and torch does not see it. The versions of torch's own layers are left out.
    """
    with open(filepath, "rb") as file:
        with parsing(filepath, "torch"):
            tensors = load_tensors(file, read_archive(file))
        yield {"metadata": {}, "tensors": tensors}


def write_state_dict(data: Mapping[str, Any], file: BinaryIO) -> None:
    """Write tensors, or arrays, under their keys, as ``torch.load`` reads them. All of them are in memory meanwhile.

    Raises
    ------
    TypeError
        If torch does not know a dtype.
    """
    target: Any = Postponed(file)  # torch would hide errors of the disk behind its own
    try:
        torch.save(OrderedDict((key, to_tensor(value)) for key, value in data["tensors"].items()), target)
    finally:
        if target.error is not None:
            raise target.error


def to_tensor(value: Any) -> torch.Tensor:
    """A tensor, or an array as one, in its own dtype."""
    if isinstance(value, torch.Tensor):
        return value
    array = np.asarray(value)
    if isinstance(value, StoredArray) and value.is_bfloat16:
        return torch.from_numpy(np.asarray(array.view("u4") >> 16).astype("i2")).view(torch.bfloat16)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array = array.view(np.dtype(array.dtype.str))  # torch does not know numpy's second names of some dtypes
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
