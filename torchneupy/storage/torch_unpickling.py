"""The pickles of ``torch.save``, read without torch: what becomes of them are the places of tensors in the file."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase, BytesIO
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from torchneupy.storage.arrays import LARGEST_RANK, StoredArray
from torchneupy.storage.errors import InvalidFormat, quoted
from torchneupy.storage.torch_archive import Archive
from torchneupy.storage.unpickling import CODES, Builder, Clamped, Unpickler, unpickle

__all__ = ["load_tensors"]

#: Numbers that sizes, steps and places are below.
LARGEST = 1 << 48
#: How many times the file's size all tensors may take: layers may share one, but no small file is a large network.
LARGEST_SHARE = 16
#: Dictionaries of optimizers have small numbers as keys. Others could be chosen so that their hashes are the same.
LARGEST_KEY = 1 << 20


class Kind(NamedTuple):
    """A dtype of torch's."""

    dtype: np.dtype[Any]
    is_bfloat16: bool = False


class Storage(NamedTuple):
    """Some bytes of the file; what they mean may be told later."""

    kind: Kind | None
    start: int
    size: int


class StridedArray(StoredArray):
    """A tensor whose values do not lie in the order of its rows. They are read all at once.

    Parameters
    ----------
    memory : StoredArray
        All values from the first one to the last.
    shape : tuple of int
    strides : tuple of int
        How many values are from one to the next along each axis.
    """

    def __init__(self, memory: StoredArray, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        # Not that of the parent: what lies there is not an array of this shape.
        self.file, self.offset, self.is_bfloat16 = memory.file, memory.offset, memory.is_bfloat16
        self.dtype, self._stored = memory.dtype, memory._stored
        self.memory, self.shape, self.strides = memory, shape, strides

    def pieces(self) -> Iterator[np.ndarray[Any, Any]]:
        flat = np.asarray(self.memory)
        yield as_strided(flat, self.shape, [flat.itemsize * stride for stride in self.strides]).reshape(-1)

    def holds(self, tensor: Any) -> bool:
        return False


def make_dictionary(unpickler: TensorUnpickler) -> dict[str, Any]:
    return {}


def make_tensor(unpickler: TensorUnpickler, *args: Any) -> StoredArray:
    storage, *place, _, _ = args[:6]
    fail_if_flagged(args[6:])
    return unpickler.find_tensor(storage, getattr(storage, "kind", None), *place)


def make_tensor_of_dtype(unpickler: TensorUnpickler, *args: Any) -> StoredArray:
    storage, *place, _, _, kind = args[:7]
    fail_if_flagged(args[7:])
    return unpickler.find_tensor(storage, kind, *place)


def make_parameter(unpickler: TensorUnpickler, *args: Any) -> Any:
    tensor, _, _ = args
    return tensor


def fail_if_flagged(flags: tuple[Any, ...]) -> None:
    """Raise InvalidFormat if a tensor's values are to be negated or conjugated."""
    if any(flags):
        raise InvalidFormat("a tensor has flags, which are not known")


KINDS = {
    **{f"float{size * 8}": Kind(np.dtype(f"f{size}")) for size in (2, 4, 8)},
    **{f"int{size * 8}": Kind(np.dtype(f"i{size}")) for size in (1, 2, 4, 8)},
    **{f"uint{size * 8}": Kind(np.dtype(f"u{size}")) for size in (1, 2, 4, 8)},
    "bool": Kind(np.dtype("?")),
    "bfloat16": Kind(np.dtype("u2"), is_bfloat16=True),  # the upper halves of float32 numbers
}
STORAGES = {
    "HalfStorage": "float16", "FloatStorage": "float32", "DoubleStorage": "float64", "BFloat16Storage": "bfloat16",
    "CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32", "LongStorage": "int64",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


class TensorUnpickler(Unpickler):
    """Reads containers, numbers, texts, and tensors as their places in the file."""

    owner = "state dicts of real numbers"
    found: ClassVar[Mapping[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): Builder(make_dictionary),
        ("torch._utils", "_rebuild_tensor_v2"): Builder(make_tensor),
        ("torch._utils", "_rebuild_tensor_v3"): Builder(make_tensor_of_dtype),
        ("torch._utils", "_rebuild_parameter"): Builder(make_parameter),
        ("torch.storage", "UntypedStorage"): None,
        **{("torch", name): kind for name, kind in KINDS.items()},
        **{("torch", name): KINDS[kind] for name, kind in STORAGES.items()},
    }
    named = frozenset()
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **Unpickler.dispatch,
        CODES["BINPERSID"]: pickle._Unpickler.dispatch[CODES["BINPERSID"]],
    }

    def __init__(self, file: BufferedIOBase, archive: Archive) -> None:
        super().__init__(Clamped(BytesIO(archive.pickle)))
        self.file, self.archive = file, archive

    @staticmethod
    def is_key(value: Any) -> bool:
        return type(value) is str or is_size(value, LARGEST_KEY)

    def persistent_load(self, pid: Any) -> Storage:
        if type(pid) is not tuple or len(pid) != 5 or pid[0] != "storage":
            raise InvalidFormat("a storage should have a dtype, a key, a device and a size")
        _, kind, key, _, size = pid
        entry = self.archive.storages.get(key) if type(key) is str else None
        if entry is None:
            raise InvalidFormat(f"the archive has no storage {quoted(key)}")
        if not isinstance(kind, (Kind, type(None))):
            raise InvalidFormat(f"a storage should have a dtype, got {quoted(kind)}")
        if not is_size(size) or size * (kind.dtype.itemsize if kind else 1) != entry.size:
            raise InvalidFormat(f"storage {quoted(key)} has {entry.size} bytes, which is not what the pickle says")
        return Storage(kind, *entry)

    def find_tensor(self, storage: Any, kind: Any, offset: Any, shape: Any, strides: Any) -> StoredArray:
        """A part of a storage as a tensor.

        Raises
        ------
        InvalidFormat
            If the arguments are no such part.
        """
        if not isinstance(storage, Storage) or not isinstance(kind, Kind):
            raise InvalidFormat(f"a tensor should have a storage and a dtype: {quoted(storage)} and {quoted(kind)}")
        if not is_size(offset) or not is_sizes(shape) or not is_sizes(strides) or len(shape) != len(strides):
            raise InvalidFormat("a tensor should have a place, a shape, and a step for each axis")
        size, itemsize = math.prod(shape), kind.dtype.itemsize
        span = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1 if size else 0
        if size and (offset + span) * itemsize > storage.size:
            raise InvalidFormat(f"a tensor of shape {shape} and steps {strides} reaches beyond its storage")
        dtype = kind.dtype.newbyteorder(self.archive.byte_order)
        start = storage.start + offset * itemsize
        if is_contiguous(shape, strides):
            return StoredArray(self.file, start, shape, dtype, kind.is_bfloat16)
        if size > span:
            raise InvalidFormat(f"a tensor of shape {shape} and steps {strides} repeats values: contiguous() ends it")
        return StridedArray(StoredArray(self.file, start, (span,), dtype, kind.is_bfloat16), shape, strides)

    def load_build(self) -> None:
        # The versions of layers hang on a state dict as an attribute. Only load_state_dict of torch's own layers looks
        # at them.
        target, state = self.stack[-2:]
        if type(target) is dict and type(state) is dict and state.keys() == {"_metadata"}:
            self.stack.pop()
        else:
            super().load_build()


TensorUnpickler.dispatch[CODES["BUILD"]] = TensorUnpickler.load_build


def is_size(value: Any, largest: int = LARGEST) -> bool:
    return type(value) is int and 0 <= value < largest


def is_sizes(values: Any) -> bool:
    return type(values) is tuple and len(values) <= LARGEST_RANK and all(map(is_size, values))


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether values lie one after the other, row after row. The steps of axes with one place do not matter."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return 0 in shape
        expected *= size
    return True


def load_tensors(file: BufferedIOBase, archive: Archive) -> dict[str, StoredArray]:
    """The tensors of a state dict by their keys.

    Raises
    ------
    InvalidFormat
        If the pickle holds or asks for anything else.
    Exception
        If it is damaged.
    """
    data = unpickle(TensorUnpickler(file, archive))
    if type(data) is not dict:
        raise InvalidFormat(f"the file should hold a dictionary of tensors, got {quoted(data)}")
    others = [key for key, value in data.items() if not (isinstance(value, StoredArray) and type(key) is str)]
    if others:
        raise InvalidFormat(
            f"the file should hold tensors under their keys, as torch.save(network.state_dict(), path) writes it, but "
            f"has {list_keys(others, data)}{advice(data)}"
        )
    if sum(value.nbytes for value in data.values()) > LARGEST_SHARE * file.seek(0, 2):
        raise InvalidFormat("the tensors share their values more often than can be")
    return data


def list_keys(keys: list[Any], data: Mapping[Any, Any], most: int = 8) -> str:
    """Some keys, with the types of their values."""
    told = [f"{key if type(key) is int else quoted(key)}: {quoted(data[key])}" for key in keys[:most]]
    return ", ".join(told + ["..."] * (len(keys) > most))


def advice(data: Mapping[Any, Any]) -> str:
    """Where the state dict is in a checkpoint."""
    for key, value in data.items():
        if type(value) is dict and value and all(isinstance(item, StoredArray) for item in value.values()):
            return f"; torch.save(torch.load(path)[{quoted(key)}], path) takes out the tensors that it has there"
    return ""
