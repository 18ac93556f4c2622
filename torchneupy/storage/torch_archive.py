"""The zip archives of ``torch.save``, whose entries lie in the file as they are."""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedIOBase
from typing import Literal, NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from torchneupy.storage.errors import InvalidFormat, quoted

__all__ = ["Archive", "Entry", "read_archive"]

#: How files begin that torch wrote before its version 1.6: with the pickle of a number.
OLD_FILE = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
LOCAL_HEADER, LOCAL_SIGNATURE = 30, b"PK\3\4"
ENCRYPTED = 1
PICKLE = "data.pkl"
BYTE_ORDERS: Mapping[bytes, Literal["<", ">"]] = {b"little": "<", b"big": ">"}


class Entry(NamedTuple):
    """Where an entry's bytes are in the file."""

    start: int
    size: int

    def read(self, file: BufferedIOBase) -> bytes:
        file.seek(self.start)
        return file.read(self.size)


class Archive(NamedTuple):
    """What a file of ``torch.save`` consists of.

    Attributes
    ----------
    pickle : bytes
    storages : dict
        The entries that the pickle refers to, by their keys.
    byte_order : str
        Of all numbers in them, as numpy has it.
    """

    pickle: bytes
    storages: dict[str, Entry]
    byte_order: Literal["<", ">"]


def read_archive(file: BufferedIOBase) -> Archive:
    """The parts of a file of ``torch.save``.

    Checksums are not compared: torch can be told to write none.

    Raises
    ------
    InvalidFormat
        If something is missing, or is not as torch writes it.
    Exception
        If the file is no archive, or damaged.
    """
    if file.read(len(OLD_FILE)) == OLD_FILE:
        raise InvalidFormat(
            "the file has the format that torch had before its version 1.6; torch.save(torch.load(path), path) "
            "writes it anew"
        )
    entries = find_entries(file)
    folders = [name.removesuffix(PICKLE) for name in entries if name.endswith(f"/{PICKLE}") and name.count("/") == 1]
    if len(folders) != 1:
        raise InvalidFormat(f"the archive has {len(folders)} entries {PICKLE}, where torch.save writes one")
    (folder,) = folders
    order = entries.get(f"{folder}byteorder")  # older versions of torch write none
    name = b"little" if order is None else order.read(file)
    if name not in BYTE_ORDERS:
        raise InvalidFormat("the archive's byte order is neither little nor big")
    data = f"{folder}data/"
    return Archive(
        pickle=entries[folder + PICKLE].read(file),
        storages={key.removeprefix(data): entry for key, entry in entries.items() if key.startswith(data)},
        byte_order=BYTE_ORDERS[name],
    )


def find_entries(file: BufferedIOBase) -> dict[str, Entry]:
    """Where the entries of a zip archive are, by their names.

    Raises
    ------
    InvalidFormat
        If one of them is compressed or encrypted, has the name of another, or lies where something else does.
    BadZipFile
        If the file is no archive.
    """
    with ZipFile(file) as archive:
        infos, limit = archive.infolist(), archive.start_dir
    entries: dict[str, Entry] = {}
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = info.filename
        if info.compress_type != ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & ENCRYPTED:
            raise InvalidFormat(f"entry {quoted(name)} is compressed or encrypted, as those of torch.save never are")
        if name in entries:
            raise InvalidFormat(f"the archive has two entries {quoted(name)}")
        if info.header_offset < end:
            raise InvalidFormat(f"entry {quoted(name)} lies where another one does")
        entry = Entry(find_data(file, info), info.file_size)
        end = entry.start + entry.size
        entries[name] = entry
    if end > limit:
        raise InvalidFormat(f"the entries take {end} bytes, where {limit} are left for them")
    return entries


def find_data(file: BufferedIOBase, info: ZipInfo) -> int:
    """Where the bytes of an entry begin: behind a header that may be longer than the directory tells."""
    file.seek(info.header_offset)
    header = file.read(LOCAL_HEADER)
    if len(header) != LOCAL_HEADER or not header.startswith(LOCAL_SIGNATURE):
        raise InvalidFormat(f"entry {quoted(info.filename)} has no header")
    name, extra = (int.from_bytes(header[place : place + 2], "little") for place in (26, 28))
    return info.header_offset + LOCAL_HEADER + name + extra
