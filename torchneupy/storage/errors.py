"""What can be wrong with stored data, and how it is told."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torchneupy.exceptions import InvalidFormat, ParameterLoaderError

__all__ = ["FilePath", "InvalidFormat", "ParameterLoaderError", "need", "parsing", "quoted", "telling_file"]

FilePath = str | os.PathLike[str]


def quoted(value: Any, longest: int = 80) -> str:
    """A value from a file, for a message: a text is shortened, of anything else only the type is told.

    The representation of what a file holds can be endless: lists may hold themselves, or each other many times.
    """
    if not isinstance(value, str):
        return f"<{type(value).__name__}>"
    return repr(value if len(value) <= longest else value[:longest] + "...")


@contextmanager
def parsing(path: FilePath, kind: str) -> Iterator[None]:
    """Whatever a parser stumbles over becomes InvalidFormat, with the file's name. Errors of the disk stay such."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except InvalidFormat as error:
        raise InvalidFormat(f"{os.fspath(path)}: {error}") from error
    except Exception as error:  # a parser that meets nonsense may fail in any way
        reason = " ".join(str(error).split())[:200]
        raise InvalidFormat(
            f"{os.fspath(path)}: this is not a readable {kind} file: {type(error).__name__}: {reason}"
        ) from error


@contextmanager
def telling_file(path: FilePath) -> Iterator[None]:
    """Put a file's name before what does not fit."""
    try:
        yield
    except (InvalidFormat, ParameterLoaderError) as error:
        error.args = (f"{os.fspath(path)}: {error}",)
        raise


def need(module: str, purpose: str) -> Any:
    """Import a module of the extra ``storage``.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{purpose} needs {module}: pip install "torchneupy[storage]"') from error
