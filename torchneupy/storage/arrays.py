"""Stored values: arrays in memory, lists, and arrays in a file that are read a piece at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.autograd.graph import increment_version

from torchneupy.layers.variables import as_array
from torchneupy.storage.errors import InvalidFormat, quoted

__all__ = ["StoredArray", "StoredList", "as_stored", "copy_into", "holds_numbers", "numpy_dtype"]

#: Bytes that are read from a file at a time: few enough for the processor's cache.
PIECE = 1 << 20
LARGEST_RANK = 32
#: Kinds of numpy's dtypes.
REAL = "biuf"


class StoredArray:
    """An array that lies in an open file in one piece, row after row.

    Parameters
    ----------
    file : binary file
    offset : int
        Where the first value is.
    shape : sequence of int
    dtype : np.dtype
        What a value is.
    is_bfloat16 : bool
        The values, of dtype uint16, are the upper halves of float32 numbers, as which they are read.

    Raises
    ------
    InvalidFormat
        If the values are no real numbers, or the file ends before they do.
    """

    def __init__(
        self, file: BufferedIOBase, offset: int, shape: Sequence[int], dtype: np.dtype[Any], is_bfloat16: bool = False
    ) -> None:
        self.file, self.offset, self.shape, self.is_bfloat16 = file, offset, tuple(shape), is_bfloat16
        self.dtype = np.dtype(np.float32) if is_bfloat16 else dtype
        self._stored = dtype
        fail_unless_numbers(dtype)
        if any(size < 0 for size in self.shape):
            raise InvalidFormat(f"an array has the shape {self.shape}")
        available = file.seek(0, 2)
        if self.nbytes and not 0 <= offset <= available - self.nbytes:
            raise InvalidFormat(
                f"an array of shape {self.shape} and {dtype} takes {self.nbytes} bytes from byte {offset} on, but the "
                f"file has {available}"
            )

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self._stored.itemsize

    def read_into(self, memory: memoryview, start: int = 0) -> None:
        """Fill some memory with the bytes from ``start`` on."""
        self.file.seek(self.offset + start)
        if self.file.readinto(memory) != len(memory):
            raise InvalidFormat("the file became shorter while it was read")

    def pieces(self) -> Iterator[np.ndarray[Any, Any]]:
        """The values in order, one-dimensional; each piece has to be used before the next one is asked for."""
        buffer = memoryview(bytearray(min(self.nbytes, PIECE)))
        for start in range(0, self.nbytes, PIECE):
            memory = buffer[: self.nbytes - start]
            self.read_into(memory, start)
            piece = np.frombuffer(memory, self._stored)
            yield (piece.astype("<u4") << 16).view("<f4") if self.is_bfloat16 else piece

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether the bytes in the file are those that a tensor of its values has in memory."""
        known = tensor.device.type == "cpu" and tensor.dtype is not torch.bfloat16
        return known and bool(self.nbytes) and not self.is_bfloat16 and numpy_dtype(tensor) == self.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array, start = np.empty(math.prod(self.shape), self.dtype), 0
        for piece in self.pieces():
            array[start : start + len(piece)] = piece
            start += len(piece)
        return np.asarray(array.reshape(self.shape), dtype)

    def __repr__(self) -> str:
        return f"<StoredArray shape={self.shape} dtype={self.dtype}>"


class StoredList:
    """Numbers in nested lists. The shape is that of the first rows; ``to_array`` sees whether all rows have it."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows
        sizes: list[int] = []
        first: Any = rows
        while isinstance(first, (list, tuple)):
            sizes.append(len(first))
            if len(sizes) > LARGEST_RANK:
                raise InvalidFormat(f"lists are nested more than {LARGEST_RANK} deep where an array should be")
            first = first[0] if first else None
        self.shape = tuple(sizes)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the rows can be those of an array of a shape: lists do not tell how long the rows are of no rows."""
        return self.shape == shape or (0 in self.shape and self.shape == shape[: len(self.shape)])

    def to_array(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """The numbers as an array of a shape that fits.

        Raises
        ------
        InvalidFormat
            If a row is longer or shorter than the first one, or holds something else than real numbers.
        """
        leaves: Any = self.rows
        for size in self.shape[1:]:
            if not all(isinstance(row, (list, tuple)) and len(row) == size for row in leaves):
                raise InvalidFormat(f"the rows of an array are not all of the length {size}")
            leaves = list(chain.from_iterable(leaves))
        kinds = set(map(type, leaves))
        foreign = [kind.__name__ for kind in kinds if not issubclass(kind, (int, float, np.number, np.bool_))]
        if foreign:
            raise InvalidFormat(f"an array should hold numbers, got {', '.join(sorted(foreign))}")
        array = np.asarray(leaves) if leaves else np.empty(0)
        fail_unless_numbers(array.dtype)
        return array.reshape(shape)


def fail_unless_numbers(dtype: np.dtype[Any]) -> None:
    """Raise InvalidFormat if values of a dtype are no real numbers."""
    if dtype.kind not in REAL:
        raise InvalidFormat(f"an array should hold real numbers, got the dtype {dtype}")


def as_stored(value: Any) -> np.ndarray[Any, Any] | StoredArray | StoredList:
    """A value of a dictionary, as something that has a shape.

    Raises
    ------
    InvalidFormat
        If it is no array, list, number or tensor.
    """
    if isinstance(value, StoredArray):
        return value
    if isinstance(value, (list, tuple)):
        return StoredList(value)
    if isinstance(value, torch.Tensor):
        value = as_array(value)
    if not isinstance(value, (np.ndarray, np.generic, int, float)):
        raise InvalidFormat(f"an array should be stored as one, or as a list or a number, got {quoted(value)}")
    array = np.asarray(value)
    fail_unless_numbers(array.dtype)
    return array


def numpy_dtype(tensor: torch.Tensor) -> np.dtype[Any]:
    """The dtype of numpy's that takes the values of a tensor; float32 for bfloat16.

    Raises
    ------
    TypeError
        If numpy has none.
    """
    dtype: np.dtype[Any] = as_array(tensor.new_empty(0, device="cpu")).dtype
    return dtype


def holds_numbers(tensor: torch.Tensor) -> bool:
    """Whether the values of a tensor are real numbers that numpy can hold."""
    try:
        return numpy_dtype(tensor).kind in REAL
    except TypeError:
        return False


def copy_into(target: torch.Tensor, source: np.ndarray[Any, Any] | StoredArray) -> None:
    """Write stored values into a tensor of the same shape, in the tensor's dtype and on its device."""
    dtype = numpy_dtype(target)
    if not target.is_contiguous():
        target.copy_(to_tensor(np.asarray(source), dtype))
        return
    flat, start = target.view(-1), 0
    if isinstance(source, StoredArray) and source.holds(target):
        memory: Any = flat.numpy()
        source.read_into(memoryview(memory).cast("B"))
        increment_version(target)  # as torch's own operations do, by which autograd knows
        return
    for piece in source.pieces() if isinstance(source, StoredArray) else [source.reshape(-1)]:
        flat[start : start + len(piece)].copy_(to_tensor(piece, dtype))
        start += len(piece)


def to_tensor(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> torch.Tensor:
    """An array as a tensor. Numpy converts it: torch does not know all of its dtypes and byte orders."""
    with np.errstate(all="ignore"):  # a number too large for the dtype becomes infinite, as in torch
        return torch.from_numpy(np.require(array.astype(dtype, copy=False), requirements=["C", "W"]))
