"""HDF5 without libhdf5: pyfive, which is written in Python, held back where a file asks for too much.

Only what describes the arrays is read by pyfive. The arrays themselves lie in the file in one piece each, as NeuPy
writes them, and are read from there (:class:`torchneupy.storage.arrays.StoredArray`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any

import numpy as np
import pyfive
from pyfive.dataobjects import DataObjects
from pyfive.p5t import P5EnumType, P5FloatType, P5IntegerType, P5StringType

from torchneupy.storage.arrays import StoredArray
from torchneupy.storage.errors import InvalidFormat, quoted

__all__ = ["read_network"]

CONTIGUOUS = 1
#: HDF5 has no truth values; this is how h5py tells that a byte is one.
BOOLEAN = {"enum": {"FALSE": 0, "TRUE": 1}}
#: What the header of one object may take: pyfive adds its blocks one to the other, copying all of it each time.
HEADER = 1 << 17


class BoundedFile:
    """A file of which only so much may be read, so that what goes in circles comes to an end.

    NeuPy's files need about a quarter of what is allowed: each layer takes some 3 KB, and 60 short reads.
    """

    closed = False
    #: What a read costs at least, and what may be read, beside 16 times the file's size, and at most.
    READ, START, MOST = 64, 1 << 18, 1 << 28

    def __init__(self, file: BufferedIOBase) -> None:
        self.file, self.position, self.size = file, 0, file.seek(0, 2)
        self.left = min(self.START + 16 * self.size, self.MOST)
        self.full_name = "file"  # pyfive wants a name

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.size)[whence]
        if not 0 <= self.position <= self.size:
            raise InvalidFormat(f"the file refers to byte {self.position}, but has {self.size}")
        return self.position

    def tell(self) -> int:
        return self.position

    @contextmanager
    def at_most(self, amount: int) -> Iterator[None]:
        """Let no more than this be read within the block."""
        kept = max(self.left - amount, 0)
        self.left -= kept
        yield
        self.left += kept

    def read(self, size: int = -1) -> bytes:
        size = min(size if size >= 0 else self.size, self.size - self.position)
        self.left -= size + self.READ
        if self.left < 0:
            raise InvalidFormat("the same parts of the file are read again and again")
        self.file.seek(self.position)
        data = self.file.read(size)
        self.position += len(data)
        return data


class Utf8(bytes):
    """Bytes that are decoded as UTF-8, whatever encoding is asked for; so are their parts."""

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return Utf8(part) if isinstance(part, bytes) else part

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode("utf-8", errors)


class BoundedObjects(DataObjects):  # type: ignore[misc]  # pyfive has no type hints
    """An object of the file, whose attributes are single texts or numbers."""

    def _attr_value(self, ptype: Any, buf: bytes, count: int, offset: int) -> Any:
        # NeuPy writes no other; and an array of texts of declared length could be of any size.
        if count != 1 or not isinstance(ptype, (P5StringType, P5IntegerType, P5FloatType, P5EnumType)):
            raise InvalidFormat("an attribute is no single text or number")
        return super()._attr_value(ptype, buf, count, offset)

    @staticmethod
    def _decode_link_msg(data: bytes, offset: int) -> Any:
        # libhdf5 declares names ASCII that are not: those of groups that it makes on the way to a layer's group.
        return DataObjects._decode_link_msg(Utf8(data[offset:]), 0)


class BoundedHdf5(pyfive.File):  # type: ignore[misc]  # pyfive has no type hints
    """A file whose objects are bounded."""

    def __init__(self, file: BoundedFile) -> None:
        self._bounds = file
        super().__init__(file)

    def _get_dataobjects(self, obj_addr: Any) -> Any:
        found = self._dataobjects_cache.get(obj_addr)
        if found is None:
            with self._bounds.at_most(HEADER):
                found = BoundedObjects(self._fh, obj_addr, decode_strings=True, global_heaps=self._global_heaps)
            self._dataobjects_cache[obj_addr] = found
        return found


def read_network(file: BufferedIOBase) -> dict[str, Any]:
    """What a file of NeuPy's holds, in the form of a dictionary; the values are :class:`StoredArray`.

    Raises
    ------
    InvalidFormat
        If something is missing, or is not as NeuPy writes it.
    Exception
        If the file is damaged.
    """
    root = BoundedHdf5(BoundedFile(file))
    names = read_attribute(root, "layer_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidFormat(f"the attribute `layer_names` should be a list of names, got {quoted(names)}")
    return {
        "metadata": read_attribute(root, "metadata"),
        "graph": read_attribute(root, "graph"),
        "layers": [read_layer(file, root, name) for name in names],
    }


def read_attribute(owner: Any, name: str) -> Any:
    """An attribute that holds JSON.

    Raises
    ------
    InvalidFormat
        If it is missing, or holds something else.
    """
    text = owner.attrs.get(name)
    if not isinstance(text, (str, bytes)):
        raise InvalidFormat(f"{quoted(owner.name)} has no attribute `{name}` with a text; it is no file of NeuPy's")
    return json.loads(text)


def read_layer(file: BufferedIOBase, root: Any, name: str) -> dict[str, Any]:
    """What is stored of a layer."""
    group = find_group(root, name)
    layer: dict[str, Any] = {"class_name": "", "configs": {}}
    for attribute, text in group.attrs.items():
        try:
            layer[attribute] = json.loads(text)
        except (TypeError, ValueError):
            layer[attribute] = text
    # The group's place, and not what it says, is its name: the attribute of a group that was copied is that of another.
    return {**layer, "name": name, "parameters": dict(read_parameters(file, group))}


def find_group(root: Any, name: str) -> Any:
    """The group of a layer: slashes in its name lead to groups in groups, those at the ends and double ones nowhere."""
    group = root
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part not in group:
            raise InvalidFormat(f"layer {quoted(name)} is listed, but not stored")
        group = group.get_lazy_view(part)
        if not isinstance(group, pyfive.Group):
            raise InvalidFormat(f"layer {quoted(name)} is no group")
    return group


def read_parameters(file: BufferedIOBase, group: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The datasets of a group. Groups in it belong to layers whose names begin with this one's."""
    for name in group:
        item = group.get_lazy_view(name)
        if isinstance(item, pyfive.Group):
            continue
        if not isinstance(item, pyfive.Dataset):
            raise InvalidFormat(f"{quoted(group.name)} holds {quoted(name)}, which is no array")
        if "trainable" not in item.attrs:
            raise InvalidFormat(f"{quoted(item.name)} has no attribute `trainable`")
        try:
            value = stored_array(file, item)
        except InvalidFormat as error:
            raise InvalidFormat(f"{quoted(item.name)}: {error}") from error
        yield name, {"value": value, "trainable": bool(item.attrs["trainable"])}


def stored_array(file: BufferedIOBase, dataset: Any) -> StoredArray:
    """Where the values of a dataset are."""
    if dataset.id.layout_class != CONTIGUOUS or dataset.id.filter_pipeline is not None:
        raise InvalidFormat(
            "the array is stored in chunks or compressed, as NeuPy never does; `h5repack -l CONTI -f NONE` undoes it"
        )
    dtype = dataset.dtype
    if dtype.itemsize == 1 and dtype.metadata == BOOLEAN:
        dtype = np.dtype("?")
    return StoredArray(file, dataset.file.userblock_size + dataset.id.data_offset, dataset.shape, dtype)
