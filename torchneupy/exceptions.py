"""NeuPy's exception classes, each also the built-in class that a PyTorch user would catch."""

from __future__ import annotations

__all__ = [
    "InvalidConnection",
    "InvalidFormat",
    "LayerConnectionError",
    "NotTrained",
    "ParameterLoaderError",
    "PropagationError",
    "StopTraining",
    "WeightInitializationError",
]


class LayerConnectionError(ValueError):
    """Layers or networks cannot be connected: their shapes, inputs or order do not fit together."""


class WeightInitializationError(RuntimeError):
    """A layer's variables cannot be made yet, or are used before they were made."""


class PropagationError(RuntimeError):
    """An input cannot be propagated through a layer."""


class InvalidConnection(ValueError):
    """A connection of layers does not suit an algorithm."""


class NotTrained(RuntimeError):
    """An algorithm is used before it was trained."""


class StopTraining(Exception):
    """Raised from a callback to end a training early; it is a signal, not a failure."""


class InvalidFormat(ValueError):
    """Stored data, or a file, is not built as NeuPy's formats are."""


class ParameterLoaderError(ValueError):
    """Stored parameters do not fit the network."""
