"""Several networks for one task, and a layer that says how much each of them counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from torchneupy.core.shape import TensorShape
from torchneupy.layers import BaseGraph, BaseLayer, GatedAverage, Input, LayerGraph, Softmax, join, parallel

__all__ = ["mixture_of_experts"]


def fail_if_unfit(network: Any, index: int) -> None:
    """Raise TypeError or ValueError if a network cannot be an expert."""
    if not isinstance(network, BaseGraph):
        raise TypeError(
            f"Invalid input, a mixture of experts expects networks or layers in the list of networks, got "
            f"`{type(network).__name__}` instance at #{index} (0-based indices)"
        )
    network = join(network) if isinstance(network, BaseLayer) else network
    for kind, ends in (("input", network.input_layers), ("output", network.output_layers)):
        if len(ends) > 1:
            raise ValueError(
                f"Each network of a mixture of experts has to have a single {kind} layer. Network #{index} (0-based "
                f"indices) has more than one {kind} layer. Layers: {ends}"
            )
    shape = TensorShape(network.input_shape)
    if shape.ndims != 2:
        raise ValueError(
            f"Each network of a mixture of experts has to process 2-dimensional inputs (batch, features). Network "
            f"#{index} (0-based indices) processes inputs of shape {shape}. Network: {network}"
        )


def merged(what: str, shapes: Sequence[TensorShape]) -> TensorShape:
    """All that is known of shapes that have to be the same."""
    try:
        return reduce(TensorShape.merge_with, shapes)
    except ValueError as error:
        listed = ", ".join(map(str, shapes))
        raise ValueError(f"Networks have incompatible {what} shapes. Shapes: {listed}") from error


def mixture_of_experts(networks: Sequence[Any], gating_layer: BaseLayer | None = None) -> LayerGraph:
    """Add up the outputs of networks, multiplied by what another layer makes of the same input.

    Parameters
    ----------
    networks : list or tuple of networks
        All take ``(batch, features)``, and give outputs of one shape.
    gating_layer : BaseLayer or None
        Takes ``(batch, features)`` and gives ``(batch, number of networks)``. ``None`` makes a Softmax layer. Defaults
        to ``None``.

    Returns
    -------
    LayerGraph
        Its layers' order is that of NeuPy: the gating layer, then the networks.

    Raises
    ------
    TypeError
        If something in the list is no network.
    ValueError
        If the networks are no list, differ in their shapes, take or give several tensors, or images; if the number of
        features is not known; or if the gating layer is no layer.
    LayerConnectionError
        If the gating layer gives another number of values.

    References
    ----------
    Jacobs, Jordan, Nowlan, Hinton: Adaptive Mixtures of Local Experts, 1991, https://doi.org/10.1162/neco.1991.3.1.79

    Examples
    --------
    >>> from torchneupy import architectures
    >>> from torchneupy.layers import *
    >>> architectures.mixture_of_experts([
    ...     join(Input(10), Relu(5)),
    ...     join(Input(10), Relu(33), Relu(5)),
    ...     join(Input(10), Relu(12), Relu(25), Relu(5)),
    ... ])
    (?, 10) -> [... 12 layers ...] -> (?, 5)
    """
    if not isinstance(networks, (list, tuple)) or not networks:
        raise ValueError(f"Networks should be specified as a list of at least one, got {networks!r}")
    for index, network in enumerate(networks):
        fail_if_unfit(network, index)
    n_features = merged("input", [network.input_shape for network in networks])[1]
    merged("output", [network.output_shape for network in networks])
    if n_features is None:
        raise ValueError("Cannot create mixture of experts, because number of input features is unknown")
    if gating_layer is None:
        gating_layer = Softmax(len(networks))
    if not isinstance(gating_layer, BaseLayer):
        raise ValueError(
            f"Invalid type for gating layer: expected a layer, got {gating_layer!r} of the type "
            f"{type(gating_layer).__name__}"
        )
    return join(Input(n_features), parallel(gating_layer, *networks), GatedAverage())
