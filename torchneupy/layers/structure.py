"""Which layers a network has, who feeds whom, and how they are found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.export import Dim

from torchneupy.core.shape import TensorShape
from torchneupy.layers.adapters import as_layer
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.description import make_one_if_possible
from torchneupy.layers.topology import Step
from torchneupy.layers.variable_holder import VariableHolder

__all__ = ["Structure", "unbuilt_layers"]


def unbuilt_layers(module: nn.Module) -> list[VariableHolder]:
    """The layers anywhere in a module that have no variables yet, though they want some."""
    return [part for part in module.modules() if isinstance(part, VariableHolder) and part._is_waiting]


class Structure(nn.Module):
    """A module whose children are layers, under keys, and what is known of their connections.

    Everything is kept by key, and a layer is read from the children each time: one that was replaced from outside, by
    a wrapper for checkpointing or LoRA, is the one that counts. A child that is no part of the structure is no layer.
    """

    _forward: dict[str, tuple[str, ...]]
    _sources: dict[str, tuple[str, ...]]
    _shapes: dict[str, TensorShape]
    _inputs: tuple[str, ...]
    _outputs: tuple[str, ...]
    _numbers: dict[str, int]
    _in_order: bool
    _n_edges: int
    _chain: tuple[str, ...]
    _plan: list[Step]
    _expected: list[tuple[int | None, tuple[int | None, ...]]]

    @property
    def layers(self) -> list[Any]:
        return [self._modules[key] for key in self._sources]

    @property
    def input_layers(self) -> list[Any]:
        return [self._modules[key] for key in self._inputs]

    @property
    def output_layers(self) -> list[Any]:
        return [self._modules[key] for key in self._outputs]

    @property
    def forward_graph(self) -> dict[Any, list[Any]]:
        """For each layer the layers that it feeds, in the order in which they entered the network."""
        modules = self._modules
        return {modules[key]: [modules[target] for target in targets] for key, targets in self._forward.items()}

    @property
    def backward_graph(self) -> dict[Any, list[Any]]:
        """For each layer the layers that feed it, in the order of its inputs."""
        modules = self._modules
        return {modules[key]: [modules[source] for source in self._sources[key]] for key in self._forward}

    @property
    def is_built(self) -> bool:
        """Whether all layers have their variables."""
        return not unbuilt_layers(self)

    def is_sequential(self) -> bool:
        """Whether the layers stand in one row."""
        return bool(self._chain) or not self._forward

    def layer_names_only(self) -> list[tuple[str, list[str]]]:
        """Names of the layers and of those that each one feeds, in the order in which they entered the network."""
        return [(self._name(key), [self._name(t) for t in targets]) for key, targets in self._forward.items()]

    def layer(self, layer_name: str) -> Any:
        """The layer of a name.

        Raises
        ------
        ValueError
            If the name is no text.
        NameError
            If there is no such layer, or more than one.
        """
        return self._modules[self._key(layer_name)]

    def _as_layers(self) -> dict[str, BaseLayer]:
        modules: dict[str, Any] = self._modules
        if all([isinstance(modules[key], BaseLayer) for key in self._sources]):  # noqa: C419  # faster as a list
            return {key: modules[key] for key in self._sources}
        return {key: as_layer(modules[key]) for key in self._sources}

    def _name(self, key: str) -> str:
        child = self._modules[key]
        return child.name if isinstance(child, BaseLayer) else key

    def _key(self, reference: Any) -> str:
        """The key of a layer that is given by its name."""
        if not isinstance(reference, str):
            raise ValueError(f"Layer name expected to be a string, got value {reference!r}")
        found = [key for key in self._forward if self._name(key) == reference]
        if not found:
            names = ", ".join(repr(self._name(key)) for key in self._forward)
            other = f"; it is the state_dict key of {self._name(reference)!r}" if reference in self._forward else ""
            raise NameError(f"Cannot find layer with name {reference!r}{other}. Names: {names}. Network: {self}")
        if len(found) > 1:
            raise NameError(
                f"Ambiguous layer name `{reference}`. Network has {len(found)} layers with the same name. "
                f"Layers: {[self._modules[key] for key in found]}"
            )
        return found[0]

    def _keys(self, references: Sequence[Any]) -> list[str]:
        """The keys of layers that are given themselves or by their names."""
        if not references:
            raise ValueError(f"Expected at least one layer or name of a layer, got none. Network: {self}")
        key_of = {self._modules[key]: key for key in self._sources}
        keys = []
        for reference in references:
            if isinstance(reference, str):
                keys.append(self._key(reference))
            elif isinstance(reference, nn.Module) and reference in key_of:
                keys.append(key_of[reference])
            else:
                name = getattr(reference, "name", reference)
                raise ValueError(f"Layer `{name}` is not used in the graph. Graph: {self}, Layer: {reference!r}")
        return keys

    def __contains__(self, entity: Any) -> bool:
        return any(child is entity for child in self)

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[Any]:
        return (self._modules[key] for key in self._sources)

    @property
    def input_shapes(self) -> list[TensorShape]:
        # A layer that was replaced by a foreign module has no shapes to tell.
        return [getattr(layer, "input_shape", TensorShape(None)) for layer in self.input_layers]

    @property
    def input_shape(self) -> Any:
        return make_one_if_possible(self.input_shapes)

    def dynamic_shapes(self) -> tuple[tuple[dict[int, Any], ...]]:
        """What a program made of the network is to leave open: the batch, and each size that its inputs do not have.

        This is what ``torch.export.export`` and ``torch.onnx.export`` take as ``dynamic_shapes``, for example inputs
        that are a batch of two or more. A size that torch cannot leave open becomes the example's: the number of steps
        of LSTM and GRU.

        Returns
        -------
        tuple
            ``forward`` has one argument, which is the tuple of inputs: of one dictionary for each, from an axis to
            ``Dim("batch")`` or ``Dim.AUTO``.

        Examples
        --------
        >>> import torch
        >>> from torchneupy.layers import *
        >>> network = Input((None, None, 3)) >> Convolution((3, 3, 8)) >> GlobalPooling("avg")
        >>> images = torch.ones(2, 16, 16, 3)
        >>> program = torch.export.export(network, (images,), dynamic_shapes=network.dynamic_shapes())
        >>> program.module()(torch.ones(5, 20, 30, 3)).shape
        torch.Size([5, 8])
        """
        batch = Dim("batch")
        return (
            tuple(
                {0: batch, **{axis: Dim.AUTO for axis, size in enumerate(sizes, start=1) if size is None}}
                for _, sizes in self._expected
            ),
        )

    @property
    def output_shape(self) -> Any:
        return make_one_if_possible([self._shapes[key] for key in self._outputs])

    @property
    def output_shapes_per_layer(self) -> dict[Any, TensorShape]:
        return {self._modules[key]: self._shapes[key] for key in self._sources}

    def _fail_if_empty(self) -> None:
        if not self._outputs:
            raise ValueError("The network has no layers, so it cannot be run")

    def _fail_unless_one_each(self, n_inputs: int) -> None:
        if n_inputs != len(self._inputs):
            names = ", ".join(self._name(key) for key in self._inputs)
            raise ValueError(
                f"Connection has {len(self._inputs)} input layer(s), but {n_inputs} inputs was provided. "
                f"Input layers: {names or 'none'}"
            )
