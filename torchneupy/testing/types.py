"""What hypothesis's ``from_type`` draws for classes of torchneupy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from torchneupy.core.shape import TensorShape
from torchneupy.layers import BaseLayer, LayerGraph
from torchneupy.testing.catalogue import CATALOGUE
from torchneupy.testing.layers import layers
from torchneupy.testing.networks import networks
from torchneupy.testing.shapes import shapes

__all__ = ["STRATEGIES", "register_types", "strategy_of"]

#: Class to a function that gives the strategy, which is made when it is first asked for.
STRATEGIES: dict[type, Callable[[], st.SearchStrategy[Any]]] = {
    BaseLayer: layers,
    LayerGraph: lambda: networks(inputs=(1, 2), outputs=(1, 2)),
    TensorShape: shapes,
}


def is_known(thing: Any) -> bool:
    """Whether it is one of these classes, or a registered one of layers with one input."""
    return thing in STRATEGIES or (thing in CATALOGUE and CATALOGUE[thing].n_inputs[0] == 1)


def known(thing: Any) -> st.SearchStrategy[Any]:
    return STRATEGIES[thing]() if thing in STRATEGIES else layers(allow=[thing])


def strategy_of(thing: Any) -> st.SearchStrategy[Any] | None:
    """The strategy for a class: one of these, or a registered one of layers with one input; None for anything else."""
    return known(thing) if is_known(thing) else None


def register_types() -> None:
    """Let hypothesis know the classes; for those who do not import this package, hypothesis_plugin.py does it."""
    for cls in (*STRATEGIES, *CATALOGUE):
        if is_known(cls):
            st.register_type_strategy(cls, known)
