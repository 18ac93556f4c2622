"""What a file holds, told without its values."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torchneupy.storage.arrays import StoredArray, StoredList, as_stored
from torchneupy.storage.errors import FilePath, telling_file
from torchneupy.storage.formats import find_format
from torchneupy.storage.keys import keys_to_layers

__all__ = ["FileDescription", "LayerDescription", "ParameterDescription", "inspect"]


@dataclass(frozen=True)
class ParameterDescription:
    """An array of a file.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype, nbytes : str and int, or None
        Not known of lists of numbers.
    trainable : bool or None
        Not known of files that have only keys.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str | None
    nbytes: int | None
    trainable: bool | None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class LayerDescription:
    """A layer of a file.

    Attributes
    ----------
    name : str
    class_name : str or None
        Not known of files that have only keys.
    parameters : tuple of ParameterDescription
    """

    name: str
    class_name: str | None
    parameters: tuple[ParameterDescription, ...]


@dataclass(frozen=True)
class FileDescription:
    """A file of a network.

    Attributes
    ----------
    path, format : str
    file_size : int
        Bytes of the file.
    library, version, created : str or None
        Who wrote it, and when, as far as the file tells.
    layers : tuple of LayerDescription
    """

    path: str
    format: str
    file_size: int
    library: str | None
    version: str | None
    created: str | None
    layers: tuple[LayerDescription, ...]

    @property
    def n_parameters(self) -> int:
        """Number of values in all arrays."""
        return sum(parameter.size for layer in self.layers for parameter in layer.parameters)

    @property
    def nbytes(self) -> int | None:
        """Bytes of all arrays; None if those of one are not known."""
        sizes = [parameter.nbytes for layer in self.layers for parameter in layer.parameters]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain containers, for JSON."""
        return {**asdict(self), "n_parameters": self.n_parameters, "nbytes": self.nbytes}

    def __str__(self) -> str:
        return make_table(self)


def inspect(filepath: FilePath) -> FileDescription:
    """Tell what a file holds.

    The values of HDF5, safetensors and state dicts are not read, however large they are. The ending of the name tells
    the format, as in :func:`convert`.

    Parameters
    ----------
    filepath : str or path

    Returns
    -------
    FileDescription

    Raises
    ------
    InvalidFormat
        If the file cannot be read; the message begins with its name.
    ValueError
        If the ending is not known.
    OSError
        If the file cannot be opened.
    ImportError
        If the extra ``storage`` is not installed, which HDF5 needs.

    Examples
    --------
    >>> from torchneupy import storage
    >>> found = storage.inspect("tests/golden/files/dense.hdf5")
    >>> found.library, found.version, found.n_parameters
    ('neupy', '0.8.2', 43)
    >>> found.layers[1].parameters[1]
    ParameterDescription(name='weight', shape=(4, 5), dtype='float32', nbytes=80, trainable=True)
    """
    given = find_format(filepath)
    with given.read(filepath) as data, telling_file(filepath):
        has_layers = "layers" in data
        metadata = data.get("metadata")
        facts = metadata if isinstance(metadata, Mapping) else {}
        return FileDescription(
            path=os.fspath(filepath),
            format=given.name,
            file_size=os.path.getsize(filepath),
            library=as_text(facts.get("library")),
            version=as_text(facts.get("version")),
            created=as_text(facts.get("created")),
            layers=tuple(
                describe_layer(layer, has_layers)
                for layer in (data["layers"] if has_layers else keys_to_layers(data["tensors"]))
            ),
        )


def describe_layer(layer: Mapping[str, Any], is_told: bool) -> LayerDescription:
    """A layer; what its class is, and what is trained, may not be told in the file."""
    parameters = [
        describe_parameter(name, parameter["value"], bool(parameter.get("trainable", True)) if is_told else None)
        for name, parameter in layer["parameters"].items()
    ]
    return LayerDescription(layer["name"], as_text(layer.get("class_name")) or None, tuple(parameters))


def describe_parameter(name: str, value: Any, trainable: bool | None) -> ParameterDescription:
    stored = as_stored(value)
    if isinstance(stored, StoredList):
        return ParameterDescription(name, stored.to_array(stored.shape).shape, None, None, trainable)
    is_bfloat16 = isinstance(stored, StoredArray) and stored.is_bfloat16
    dtype = "bfloat16" if is_bfloat16 else stored.dtype.name
    return ParameterDescription(name, stored.shape, dtype, stored.nbytes, trainable)


def as_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# As a table


TITLES = ("Layer", "Class", "Parameter", "Shape", "Dtype", "Trained", "Bytes")


def make_table(found: FileDescription) -> str:
    """A line for each parameter, and for each layer without one; what is not known is left blank."""
    lines = [line for layer in found.layers for line in lines_of(layer)]
    widths = [max(map(len, column)) for column in zip(TITLES, *lines, strict=True)]

    def join(cells: tuple[str, ...]) -> str:
        left = [cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=False)]
        return "  ".join([*left, cells[-1].rjust(widths[-1])]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    facts = [f"{found.path}: {found.format}", f"{found.file_size:,} bytes"]
    if found.library:
        facts.append(f"written by {found.library} {found.version or ''}".rstrip())
    text = [
        ", ".join(map(printable, [*facts, found.created] if found.created else facts)),
        "",
        join(TITLES),
        rule,
        *map(join, lines),
        rule,
        f"Total: {found.n_parameters:,} parameters" + ("" if found.nbytes is None else f", {found.nbytes:,} bytes"),
    ]
    return "\n".join(text)


def lines_of(layer: LayerDescription) -> Iterator[tuple[str, ...]]:
    """The lines of a layer, which is named in the first one."""
    first = (printable(layer.name), printable(layer.class_name or ""))
    if not layer.parameters:
        yield (*first, "", "", "", "", "")
    for parameter in layer.parameters:
        yield (
            *first,
            printable(parameter.name),
            str(parameter.shape),
            parameter.dtype or "",
            {True: "yes", False: "no", None: ""}[parameter.trainable],
            "" if parameter.nbytes is None else f"{parameter.nbytes:,}",
        )
        first = ("", "")


def printable(text: str) -> str:
    """A text from a file in one line, without what would move a terminal's cursor."""
    return text if text.isprintable() else repr(text)[1:-1]
