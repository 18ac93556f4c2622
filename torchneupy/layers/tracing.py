"""Whether a layer is run as usual, or by one of torch's tools that want something else of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.fx import Proxy

__all__ = ["as_one_node", "is_compiled", "is_open", "is_recorded", "is_symbolic", "is_transformed"]


def is_symbolic(value: Any) -> bool:
    """Whether a value only stands for one, so that nobody knows its sizes."""
    return isinstance(value, Proxy)


def is_compiled() -> bool:
    """Whether ``torch.compile`` reads the code, which knows what it will run on; programs for export do not."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def is_open(size: Any) -> bool:
    """Whether a compiler leaves a size open, so that what asks for its value is compiled anew for each answer."""
    if isinstance(size, torch.Tensor):
        return True  # as which torch.jit records sizes
    if type(size) is int and not torch.compiler.is_compiling():
        return False
    # Here and not above: it is slow to import, and there already where something is compiled.
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return not has_static_value(size)


def as_one_node(layer: nn.Module, *inputs: Any) -> Any:
    """A call of the layer as one node of the graph that is traced, in which it stays a module."""
    tracer: Any = inputs[0].tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), inputs, {})


def is_transformed() -> bool:
    """Whether ``torch.func`` transforms what is computed, or derivatives are taken forward; some kernels know neither.

    What a compiler makes of a layer has kernels of its own.
    """
    if torch.compiler.is_compiling():
        return False
    active: bool = torch._C._are_functorch_transforms_active()
    return active or forward_ad._current_level >= 0


def is_recorded() -> bool:
    """Whether ``torch.jit`` records what is computed.

    It records a second time, without gradients, to compare, so that nothing may depend on whether there are some; and
    it cannot store a function with a derivative of our own.
    """
    jit: Any = torch.jit
    return bool(jit.is_tracing())
