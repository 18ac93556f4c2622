"""What hypothesis runs when it is imported, so that its ``from_type`` knows layers, networks and shapes.

Nothing is imported here: where torchneupy is installed, that would burden every program that uses hypothesis.

>>> from hypothesis import find, strategies as st
>>> from torchneupy.core.shape import TensorShape
>>> register()
>>> find(st.from_type(TensorShape), lambda shape: shape.ndims == 2)
TensorShape([1, 1])
"""

from __future__ import annotations

import warnings
from typing import Any

from hypothesis.strategies import SearchStrategy
from hypothesis.strategies._internal import types

__all__ = ["register", "strategy_for"]


def strategy_for(thing: Any) -> SearchStrategy[Any] | None:
    """The strategy for a class of torchneupy; None for anything else."""
    if not str(getattr(thing, "__module__", "")).startswith("torchneupy."):
        return None
    from torchneupy.testing.types import strategy_of

    return strategy_of(thing)


def register() -> None:
    """Let hypothesis ask ``strategy_for`` where torchneupy is imported."""
    # Hypothesis's own way to know numpy's and pandas's types. What it offers for others, register_type_strategy, takes
    # the class itself, for which torch would have to be imported.
    lookup: dict[str, Any] | None = getattr(types, "_global_extra_lookup", None)
    if lookup is None:
        warnings.warn("This hypothesis has no place for torchneupy's types: import torchneupy.testing", stacklevel=2)
    else:
        lookup["torchneupy"] = strategy_for
