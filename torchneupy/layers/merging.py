"""Layers that make one output of several inputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import nn

from torchneupy.core.properties import FunctionWithOptionsProperty, IntProperty
from torchneupy.core.shape import ShapeLike, TensorShape, add_dimensions, merge_dimensions
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers.axes import AXES_FIRST, by_value, channels_first, channels_last, goes_channels_first
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.modes import in_mode
from torchneupy.layers.tracing import is_recorded, is_symbolic

__all__ = ["Concatenate", "Elementwise", "GatedAverage"]


class Elementwise(BaseLayer):
    """Combines its inputs value by value, from the first to the last.

    Shapes: all inputs have one shape, which is the output's too.

    Parameters
    ----------
    merge_function : {"add", "multiply"} or callable
        A function, or an ``nn.Module``, of two tensors of equal shapes that gives a tensor of that shape. Defaults to
        ``"add"``.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    ValueError
        If ``merge_function`` is neither callable nor the name of a choice.
    LayerConnectionError
        When connected to a single input, or to inputs whose shapes differ.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> (Input(10) | Input(10)) >> Elementwise("add")
    [(?, 10), (?, 10)] -> [... 3 layers ...] -> (?, 10)
    >>> (Input(10) | Input(9)) >> Elementwise()
    Traceback (most recent call last):
    ...
    torchneupy.exceptions.LayerConnectionError: Input shapes to the `elementwise-2` layer have incompatible shapes. ...
    """

    merge_function = FunctionWithOptionsProperty(choices={"add": torch.add, "multiply": torch.mul})

    def __init__(self, merge_function: Any = "add", name: str | None = None) -> None:
        self.specify(merge_function=merge_function)
        super().__init__(name=name)

    @property
    def output_shape(self) -> TensorShape:
        # Alone the layer has no inputs to tell; and torch.jit reads all properties, and takes no error for an answer.
        return TensorShape(None)

    def get_output_shape(self, *input_shapes: Any) -> ShapeLike:
        shapes = [TensorShape(shape) for shape in input_shapes]
        if len(shapes) < 2:
            raise LayerConnectionError(
                f"Layer `{self.name}` expected multiple inputs. Input shapes: {', '.join(map(str, shapes))}. "
                f"Layer: {self}"
            )
        try:
            return reduce(TensorShape.merge_with, shapes)
        except ValueError as error:
            raise LayerConnectionError(
                f"Input shapes to the `{self.name}` layer have incompatible shapes. "
                f"Input shapes: {', '.join(map(str, shapes))}, Layer: {self}"
            ) from error

    def output(self, *inputs: Any, training: bool = False, **kwargs: Any) -> Any:
        function = self.merge_function
        if not isinstance(function, nn.Module):
            return self.forward(*inputs)
        with in_mode(function, training):
            return self._merge(*inputs)

    def forward(self, *inputs: Any) -> Any:
        # A function that is a module has its own mode.
        function = self.merge_function
        if function is torch.add or function is torch.mul:
            return by_value(self._merge, *inputs)
        return self._merge(*inputs)

    def _merge(self, *inputs: Any) -> Any:
        return reduce(self.merge_function, inputs)

    def __repr__(self) -> str:
        return self._repr_arguments(self._format_value(self._option("merge_function")), name=self.name)


class Concatenate(BaseLayer):
    """Puts its inputs one after the other along an axis.

    Shapes: the inputs have the same sizes but for that axis, along which the output has their sum.

    Parameters
    ----------
    axis : int
        Counted from the batch, which is 0; negative from the last. Defaults to ``-1``.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError
        If ``axis`` is no whole number.
    LayerConnectionError
        When connected to inputs that have no such axis, or differ in another.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> (Input(10) | Input(20)) >> Concatenate()
    [(?, 10), (?, 20)] -> [... 3 layers ...] -> (?, 30)
    """

    axis = IntProperty()

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        self.specify(axis=axis)
        super().__init__(name=name)

    def get_output_shape(self, *input_shapes: Any) -> ShapeLike:
        shapes = [TensorShape(shape) for shape in input_shapes]
        known = [shape for shape in shapes if shape.ndims is not None]
        listed = ", ".join(map(str, shapes))
        for shape in known:
            if shape.ndims != known[0].ndims:
                raise LayerConnectionError(
                    f"Cannot concatenate layers, because inputs have different number of dimensions. "
                    f"Shapes: {listed}. Layer: {self}"
                )
            if not -len(shape) <= self.axis < len(shape):
                raise LayerConnectionError(
                    f"Cannot concatenate layers over the axis {self.axis}, because inputs have {len(shape)} "
                    f"dimensions. Shapes: {listed}. Layer: {self}"
                )
        if not shapes or len(known) < len(shapes):
            return TensorShape(None)
        axis = self.axis % len(shapes[0])
        sizes = shapes[0].as_list()
        for shape in shapes[1:]:
            for index, size in enumerate(shape):
                try:
                    sizes[index] = (add_dimensions if index == axis else merge_dimensions)(sizes[index], size)
                except ValueError as error:
                    raise LayerConnectionError(
                        f"Cannot concatenate layers, because some of them don't match over dimension #{index} "
                        f"(0-based indices). Shapes: {listed}. Layer: {self}"
                    ) from error
        return TensorShape(sizes)

    def output(self, *inputs: Any, **kwargs: Any) -> Any:
        axis = self.axis
        if goes_channels_first(*inputs):
            return channels_last(torch.cat([channels_first(image) for image in inputs], AXES_FIRST[axis]))
        return torch.cat(inputs, axis)


class GatedAverage(BaseLayer):
    """Adds its inputs up, each sample of each multiplied by a number that one more input, the gate, has for it.

    The gate's numbers are used as they are; it is a Softmax layer that makes their sum one.

    Shapes: the gate is ``(batch, number of other inputs)``; the others have one shape, which is the output's too. The
    gate's first number belongs to the first of the others.

    Parameters
    ----------
    gate_index : int
        Place of the gate among the inputs; negative ones count from the last. Defaults to ``0``.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError
        If ``gate_index`` is no whole number.
    LayerConnectionError
        When connected to inputs among which there is no such gate, or whose shapes differ; when called, if only then it
        shows that the gate has not as many numbers as there are inputs.

    References
    ----------
    Jacobs, Jordan, Nowlan, Hinton: Adaptive Mixtures of Local Experts, 1991, https://doi.org/10.1162/neco.1991.3.1.79

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> gate = Input(10) >> Softmax(2)
    >>> (gate | Input(20) >> Relu(5) | Input(30) >> Relu(5)) >> GatedAverage()
    [(?, 10), (?, 20), (?, 30)] -> [... 7 layers ...] -> (?, 5)
    """

    gate_index = IntProperty()

    def __init__(self, gate_index: int = 0, name: str | None = None) -> None:
        self.specify(gate_index=gate_index)
        super().__init__(name=name)

    @property
    def output_shape(self) -> TensorShape:
        return TensorShape(None)  # as for Elementwise

    def _apart(self, inputs: Sequence[Any]) -> tuple[Any, list[Any]]:
        """The gate, or its shape, and the others."""
        if not -len(inputs) <= self.gate_index < len(inputs):
            raise LayerConnectionError(
                f"Invalid index for gating layer. Number of input layers: {len(inputs)}. Gating layer index: "
                f"{self.gate_index}. Layer: {self}"
            )
        others = list(inputs)
        return others.pop(self.gate_index), others

    def get_output_shape(self, *input_shapes: Any) -> ShapeLike:
        shapes = [TensorShape(shape) for shape in input_shapes]
        if [shape.ndims for shape in shapes] == [None]:
            return shapes[0]  # what comes in may not be connected yet
        gate, others = self._apart(shapes)
        if gate.ndims not in (None, 2):
            raise LayerConnectionError(
                f"Output from the gating network should be 2-dimensional. Output shape from gating layer: {gate}. "
                f"Layer: {self}"
            )
        if not others or gate[1] not in (None, len(others)):
            raise LayerConnectionError(
                f"Gating layer can work only for combining {gate[1] or 'one or more'} networks, got {len(others)} "
                f"networks instead. Layer: {self}"
            )
        try:
            shape = reduce(TensorShape.merge_with, others)
            batch = merge_dimensions(shape[0], gate[0])
        except ValueError as error:
            raise LayerConnectionError(
                f"Inputs that have to be merged are expected to have the same shapes. Shapes: "
                f"{', '.join(map(str, others))}, gate: {gate}. Layer: {self}"
            ) from error
        return TensorShape(None) if shape.ndims is None else TensorShape((batch, *shape[1:]))

    @staticmethod
    def _fit(gate: Any, others: Sequence[Any]) -> bool:
        """Whether the gate has a number for each of the others, and these have one shape."""
        first = others[0].shape
        return gate.shape == (first[0], len(others)) and all(other.shape == first for other in others)

    def output(self, *inputs: Any, **kwargs: Any) -> Any:
        gate, others = self._apart(inputs)
        if not others or not (is_symbolic(gate) or is_recorded() or self._fit(gate, others)):
            self.get_output_shape(*(tuple(x.shape) for x in inputs))  # raises
        # The batch goes to the end, where a number for each sample fits, and back; that copies nothing.
        total = others[0].movedim(0, -1) * gate[:, 0]
        for index, other in enumerate(others[1:], start=1):
            total = torch.addcmul(total, other.movedim(0, -1), gate[:, index])
        return total.movedim(-1, 0)
