"""Shapes of networks as NeuPy shows them."""

from __future__ import annotations

from typing import Any

from torchneupy.core.shape import TensorShape

__all__ = ["describe_graph", "make_one_if_possible"]


def make_one_if_possible(values: list[Any]) -> Any:
    """The only element of a list of one, else the list."""
    return values[0] if len(values) == 1 else values


def describe_graph(inputs: list[TensorShape], n_layers: int, outputs: list[TensorShape]) -> str:
    """A network in one line, as NeuPy shows it."""
    if not n_layers:
        return "[empty graph]"

    def text(shapes: list[TensorShape]) -> str:
        return str(shapes[0]) if len(shapes) == 1 else f"[{', '.join(map(str, shapes))}]"

    return f"{text(inputs)} -> [... {n_layers} layers ...] -> {text(outputs)}"
