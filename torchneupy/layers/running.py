"""How a network takes values through its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from torchneupy.layers.axes import given, kept
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.structure import Structure
from torchneupy.layers.tracing import is_compiled

__all__ = ["has_its_own_call", "is_traced", "nobody_watches_calls", "run_chain", "walk"]

MODULE_CALL = nn.Module.__call__


def walk(network: Structure, values: dict[str, Any], step: Callable[..., Any]) -> list[Any]:
    """Take values, of the input layers first, through all layers; a value is dropped after its last use.

    Parameters
    ----------
    network : Structure
    values : dict
        Input layer's key to its value.
    step : callable
        Takes a key and the values that go into the layer, and gives the one that comes out: data or a shape.

    Returns
    -------
    list
        The values of the output layers.
    """
    key, found = "", list(values.values())
    compiled = is_compiled()
    if compiled:
        values = {key: kept(value) for key, value in values.items()}
    try:
        for key in network._chain:
            found = [step(key, *found)]
        for key, sources, unused in network._plan:
            found = [values[source] for source in sources]
            if compiled:
                # By map, as a comprehension would be compiled anew for each key where a graph has to be broken.
                found = list(map(given, found))
            value = step(key, *found)
            values[key] = kept(value) if compiled else value
            for source in unused:
                del values[source]
    except Exception as error:
        explain(network, error, key, found)
        raise
    if network._chain:
        return found
    outputs = [values[key] for key in network._outputs]
    return list(map(given, outputs)) if compiled else outputs


def explain(network: Structure, error: Exception, key: str, inputs: Sequence[Any]) -> None:
    """Say in a note at which layer an error was raised, and for which inputs."""
    described = [
        f"{tuple(value.shape)} {value.dtype} on {value.device}" if isinstance(value, torch.Tensor) else str(value)
        for value in inputs
    ]
    child: Any = network._modules[key]
    try:
        text = repr(child)
    except Exception:  # noqa: BLE001  # what a layer cannot say of itself must not hide the error
        text = type(child).__name__
    hint = "" if getattr(child, "is_built", True) else " The layer has no variables yet."
    error.add_note(f"Raised at the layer `{network._name(key)}` for {', '.join(described)}.{hint} Layer: {text}")


def is_traced() -> bool:
    """Whether the network is being compiled, exported or traced, so that sizes may be no plain numbers."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def nobody_watches_calls() -> bool:
    """Whether calls of modules are what torch makes them: not patched, nor seen by hooks for all modules."""
    return nn.Module.__call__ is MODULE_CALL and not torch_module._has_any_global_hook()


def has_its_own_call(module: Any) -> bool:
    """Whether calling a module is more than its ``forward``: it has hooks or a compiled call, or is a foreign module.

    For all others the way through ``nn.Module.__call__`` would do nothing but take a fifth of a small layer's time.
    """
    values = module.__dict__
    return bool(
        not isinstance(module, BaseLayer)
        or type(module).__call__ is not MODULE_CALL
        or values["_forward_hooks"]
        or values["_forward_pre_hooks"]
        or values["_backward_hooks"]
        or values["_backward_pre_hooks"]
        or values.get("_compiled_call_impl") is not None
    )


def run_chain(network: Structure, value: Any, watched: bool) -> Any:
    """Take one value through layers that stand in a row, each in its own mode.

    Parameters
    ----------
    network : Structure
    value : tensor
    watched : bool
        Whether every call has to go through ``nn.Module.__call__``.
    """
    modules: dict[str, Any] = network._modules
    key = ""
    try:
        for key in network._chain:
            layer = modules[key]
            if watched or has_its_own_call(layer):
                value = layer(value)
            elif type(layer).forward is not BaseLayer.forward or "forward" in layer.__dict__:
                value = layer.forward(value)
            elif layer._takes_training:
                value = layer.output(value, training=layer.training)
            else:
                value = layer.output(value)
    except Exception as error:
        explain(network, error, key, (value,))
        raise
    return value
