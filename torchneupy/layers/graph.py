"""NeuPy's module of graphs: networks, what makes them, and the operators."""

from __future__ import annotations

from torchneupy.layers.composition import join, merge, parallel, repeat
from torchneupy.layers.network import LayerGraph
from torchneupy.layers.operators import BaseGraph

__all__ = ["BaseGraph", "LayerGraph", "join", "merge", "parallel", "repeat"]
