"""Training and evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["in_mode"]


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """A module in training or evaluation mode; afterwards each part of it is in its own again."""
    if all(part.training == training for part in module.modules()):
        yield
        return
    modes = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
