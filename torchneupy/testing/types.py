"""What hypothesis's ``from_type`` draws for classes of torchneupy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from torchneupy.core.shape import TensorShape
from torchneupy.layers import BaseLayer, LayerGraph
from torchneupy.testing.layers import layers
from torchneupy.testing.networks import networks
from torchneupy.testing.shapes import shapes

__all__ = ["STRATEGIES", "register_types"]

#: Class to a function that gives the strategy, which is made when it is first asked for.
STRATEGIES: dict[type, Callable[[], st.SearchStrategy[Any]]] = {
    BaseLayer: layers,
    LayerGraph: lambda: networks(inputs=(1, 2), outputs=(1, 2)),
    TensorShape: shapes,
}


def strategy_of(thing: type) -> st.SearchStrategy[Any]:
    return STRATEGIES[thing]()


def register_types() -> None:
    """Let hypothesis know the classes; for those who do not import this package, hypothesis_plugin.py does it."""
    for cls in STRATEGIES:
        st.register_type_strategy(cls, strategy_of)
