"""Layers that make one output of several inputs."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import nn

from torchneupy.core.properties import FunctionWithOptionsProperty, IntProperty
from torchneupy.core.shape import ShapeLike, TensorShape, add_dimensions, merge_dimensions
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.modes import in_mode

__all__ = ["Concatenate", "Elementwise"]


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
            return reduce(function, inputs)
        with in_mode(function, training):
            return reduce(function, inputs)

    def forward(self, *inputs: Any) -> Any:
        # A function that is a module has its own mode.
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
        return torch.cat(inputs, dim=self.axis)
