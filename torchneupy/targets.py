"""Networks that the command line is told of: an architecture by its name, or a variable of a Python file."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from torchneupy import architectures
from torchneupy.layers import BaseLayer, LayerGraph, join

__all__ = ["ARCHITECTURES", "TargetError", "find_network"]

#: The architectures that need no arguments.
ARCHITECTURES = ("resnet50", "squeezenet", "vgg16", "vgg19")


class TargetError(ValueError):
    """What was named is no network."""


def find_network(target: str) -> LayerGraph:
    """The network of a name.

    Parameters
    ----------
    target : str
        A name in ``ARCHITECTURES``, which is built without memory for its variables (on torch's ``meta`` device); or
        ``FILE.py:NAME``, for which the file is run: a network, a layer, or a function without arguments that gives one.

    Raises
    ------
    TargetError
        If there is no such file or variable, the file fails, or the variable is no network.
    """
    if target in ARCHITECTURES:
        with torch.device("meta"):
            made: LayerGraph = getattr(architectures, target)()
        return made
    file, colon, name = target.rpartition(":")
    if not colon or not name.isidentifier():
        raise TargetError(
            f"expected one of {', '.join(ARCHITECTURES)}, or FILE.py:NAME of a network in a Python file, got {target!r}"
        )
    if not Path(file).is_file():
        raise TargetError(f"there is no file {file!r}")
    try:
        with importing_from(Path(file).resolve().parent):
            value: Any = runpy.run_path(file, run_name=Path(file).stem).get(name)
            is_function = callable(value) and not isinstance(value, (LayerGraph, BaseLayer))
            value = value() if is_function else value
    except (Exception, SystemExit) as error:  # a file may fail in any way
        raise TargetError(f"{file} fails: {type(error).__name__}: {error}") from error
    if value is None:
        raise TargetError(f"{file} has no variable {name!r}")
    if not isinstance(value, (LayerGraph, BaseLayer)):
        raise TargetError(f"{name} of {file} is no network but {value!r} of the type {type(value).__name__}")
    return join(value) if isinstance(value, BaseLayer) else value


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Let a file import those beside it, as it can where Python itself is started with it."""
    before = sys.path.copy()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before
