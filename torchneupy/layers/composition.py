"""Functions that make networks of layers and networks."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from torch import nn

from torchneupy.core.warn import warn_user
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers.adapters import as_layer
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.draft import Draft
from torchneupy.layers.network import LayerGraph
from torchneupy.layers.operators import COMPOSERS

__all__ = ["join", "merge", "parallel", "repeat"]


def as_operand(value: Any) -> BaseLayer | LayerGraph:
    """What can be part of a network: a layer or a network; any other ``nn.Module`` becomes a layer.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if isinstance(value, LayerGraph):
        lost = value._lost_when_flattened()
        if lost:
            warn_user(
                f"The network {value} takes part in a larger one by its layers alone, so its own {', '.join(lost)} "
                f"will not run there. Use as_layer(network) to keep it as it is."
            )
        return value
    if isinstance(value, BaseLayer) and "_built_for" not in vars(value):
        raise TypeError(f"{type(value).__name__}.__init__ does not call super().__init__(), so the layer is not ready")
    if isinstance(value, nn.Module):
        return as_layer(value)
    hint = f"; did you mean {value.__name__}(...)?" if isinstance(value, type) else ""
    raise TypeError(
        f"Expected a layer, a network or a torch.nn.Module, got {value!r} of the type {type(value).__name__}{hint}"
    )


def draft_of(operands: Sequence[Any], connect: bool) -> Draft:
    """Layers and networks put together, and checked; nothing has changed yet."""
    draft = Draft()
    for operand in operands:
        draft = draft.add(operand if isinstance(operand, Draft) else Draft.of(operand), connect)
    return draft


def join(*networks: Any) -> LayerGraph:
    """Connect layers and networks in a row: the outputs of each feed the inputs of the next.

    Every connection is checked before anything changes; then the layers get the variables whose shapes are known.
    One output may feed many inputs and many outputs one input, but not many many.

    Parameters
    ----------
    *networks : layer, network or nn.Module
        An empty network is skipped.

    Returns
    -------
    LayerGraph

    Raises
    ------
    LayerConnectionError
        If two of them do not fit together, or there would be a cycle.
    TypeError
        If one of them is something else.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> join(Input(10), Relu(5) >> Dropout(0.5), Sigmoid(1))
    (?, 10) -> [... 4 layers ...] -> (?, 1)
    """
    operands = [as_operand(network) for network in networks]
    return LayerGraph._from_draft(draft_of(operands, connect=True))


def parallel(*networks: Any) -> LayerGraph:
    """Put layers and networks side by side.

    Parameters
    ----------
    *networks : layer, network, nn.Module, or list or tuple of them
        What stands in a list is joined first. A layer that is given twice is there once.

    Returns
    -------
    LayerGraph

    Raises
    ------
    LayerConnectionError
        If what stands in a list does not fit together.
    TypeError
        If one of them is something else.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> parallel([Input(10), Relu(5)], Input(9) >> Tanh(4))
    [(?, 10), (?, 9)] -> [... 4 layers ...] -> [(?, 5), (?, 4)]
    >>> Input(10) >> parallel(Relu(5), Tanh(4)) >> Concatenate()
    (?, 10) -> [... 4 layers ...] -> (?, 9)
    """
    branches = [
        draft_of([as_operand(network) for network in branch], connect=True)
        for branch in (n if isinstance(n, (list, tuple)) else (n,) for n in networks)
    ]
    return LayerGraph._from_draft(draft_of(branches, connect=False))


def merge(left_graph: Any, right_graph: Any, combine: bool = False) -> LayerGraph:
    """Unite two networks; layers that are in both are there once.

    Parameters
    ----------
    left_graph, right_graph : layer, network or nn.Module
    combine : bool
        Whether the outputs of the left one feed the inputs of the right one, as in ``join``. Defaults to ``False``.

    Returns
    -------
    LayerGraph

    Raises
    ------
    LayerConnectionError
        If they do not fit together, or there would be a cycle.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> x, a, b, both = Input(3), Relu(3), Tanh(3), Concatenate()
    >>> merge(x >> a >> both, x >> b >> both)
    (?, 3) -> [... 4 layers ...] -> (?, 6)
    """
    return join(left_graph, right_graph) if combine else parallel(left_graph, right_graph)


def repeat(network_or_layer: Any, n: int) -> Any:
    """A layer or network and copies of it, connected in a row.

    The copies have their own variables, with the values of those that exist already, and new names where the names
    were automatic or patterns.

    Parameters
    ----------
    network_or_layer : layer, network or nn.Module
        With one input and one output, of compatible shapes.
    n : int
        How many there are, at least 1. With 1 the very object that was given comes back.

    Returns
    -------
    LayerGraph, or what was given

    Raises
    ------
    ValueError
        If ``n`` is no positive whole number.
    LayerConnectionError
        If the output does not fit its own input.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> repeat(Relu(10) >> Dropout(0.5), 3)
    <unknown> -> [... 6 layers ...] -> (?, 10)
    """
    if not isinstance(n, numbers.Number):
        raise TypeError(f"The `n` parameter should be a positive integer, got {n!r} of the type {type(n).__name__}")
    if not isinstance(n, numbers.Integral) or n <= 0:
        raise ValueError(f"The `n` parameter should be a positive integer, got {n!r} instead")
    operand = as_operand(network_or_layer)
    if n == 1:
        return network_or_layer
    input_shape, output_shape = operand.input_shape, operand.output_shape
    if isinstance(input_shape, list) or isinstance(output_shape, list):
        raise LayerConnectionError(
            f"Cannot connect network to its copy, because it has several inputs or outputs, or none. Network: {operand}"
        )
    if not input_shape.is_compatible_with(output_shape):
        raise LayerConnectionError(
            f"Cannot connect network/layer to its copy, because input shape is incompatible with the output shape. "
            f"Input shape: {input_shape}, Output shape: {output_shape}. Repeated: {operand}"
        )
    copies = [operand._copy_under_new_names() for _ in range(n - 1)]
    return join(network_or_layer, *copies)


COMPOSERS.update(join=join, merge=merge, parallel=parallel)
