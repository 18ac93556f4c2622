"""What ``torch.fx`` sees of a layer whose arithmetic it cannot look into."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.fx import Proxy

__all__ = ["as_one_node", "is_symbolic"]


def is_symbolic(value: Any) -> bool:
    """Whether a value only stands for one, so that nobody knows its sizes."""
    return isinstance(value, Proxy)


def as_one_node(layer: nn.Module, *inputs: Any) -> Any:
    """A call of the layer as one node of the graph that is traced, in which it stays a module."""
    tracer: Any = inputs[0].tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), inputs, {})
