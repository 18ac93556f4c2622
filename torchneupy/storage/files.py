"""How files are written and read, whatever is in them."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

from torchneupy.exceptions import InvalidFormat, ParameterLoaderError

__all__ = ["FilePath", "about", "mapped", "missing_extra", "plain", "reading", "replacing"]

FilePath: TypeAlias = "str | os.PathLike[str]"


@contextlib.contextmanager
def replacing(filepath: FilePath) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of another one once all of it is on the disk.

    It is written beside the other; whatever happens on the way, the file of that name is the old one or the new one,
    and whole.
    """
    target = Path(os.path.realpath(filepath))  # a link goes on pointing to the file
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(name, target.stat().st_mode & 0o777)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Have the new name on the disk too, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def reading(filepath: FilePath, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file's content is read into InvalidFormat, which names the file.

    What goes wrong with the file itself, that it is not there, say, stays what it is.
    """
    try:
        yield
    except InvalidFormat as error:
        error.args = (f"{os.fspath(filepath)!r} is no {kind} file of weights: {error}",)
        raise
    except OSError:
        raise
    except Exception as error:  # a damaged file may lead to any, MemoryError too
        raise InvalidFormat(
            f"{os.fspath(filepath)!r} is no {kind} file of weights: {type(error).__name__}: {error}"
        ) from error


@contextlib.contextmanager
def about(filepath: FilePath) -> Iterator[None]:
    """Put the file's name into errors about its content."""
    try:
        yield
    except (InvalidFormat, ParameterLoaderError) as error:
        if repr(os.fspath(filepath)) not in str(error):
            error.args = (f"Cannot load {os.fspath(filepath)!r}: {error}",)
        raise


def missing_extra(what: str, package: str) -> ImportError:
    """The error that says what to install."""
    return ImportError(f'{what} needs {package}: pip install "torchneupy[storage]"')


def plain(value: Any) -> Any:
    """An option as text, unless every format has a form for it."""
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


@contextlib.contextmanager
def mapped(filepath: FilePath) -> Iterator[Any]:
    """A file's content, mapped into memory, as a file to read.

    Raises
    ------
    OSError
        If the file cannot be opened.
    InvalidFormat
        If there is nothing in it.
    """
    with open(filepath, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise InvalidFormat(f"{os.fspath(filepath)!r} is empty")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield content
        finally:
            with contextlib.suppress(BufferError):  # arrays that show a part of it keep it
                content.close()
