"""Files that are there in full or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from torchneupy.storage.errors import FilePath

__all__ = ["replacing"]


def open_new(path: str) -> BinaryIO:
    """A new file for reading and writing, with buffered writes: unbuffered ones may write a part and say so."""
    return open(path, "x+b")


def open_beside(path: FilePath, temporary: str) -> BinaryIO:
    """A new file of another name than the one that is asked for, which errors tell."""
    try:
        return open_new(temporary)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def replacing(path: FilePath) -> Iterator[BinaryIO]:
    """A file beside ``path``, which takes its place when the block ends, and vanishes when the block fails.

    Whenever the process dies or the disk is full, ``path`` is the whole old file or the whole new one. A process that
    is killed may leave a file named ``.torchneupy-*.tmp`` behind.

    Raises
    ------
    ValueError
        If ``path`` is something else than a regular file.
    OSError
        If the disk is full, a folder is missing, and so on.
    """
    target = os.path.realpath(path)  # a link stays, and leads to the new file
    mode = None
    with suppress(FileNotFoundError):
        mode = os.stat(target).st_mode
    if mode is not None and not stat.S_ISREG(mode):
        raise ValueError(f"{os.fspath(path)!r} is there already and is not a regular file")
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "There is no such folder to write into", os.fspath(path))
    temporary = os.path.join(folder, f".torchneupy-{secrets.token_hex(8)}.tmp")
    try:
        with open_beside(path, temporary) as file:
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Let the new name survive a power failure, where the file system has a way to say so."""
    with suppress(OSError):
        descriptor = os.open(Path(folder), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
