"""Layers that put the same values into another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torchneupy.core.declarations import as_tuple
from torchneupy.core.properties import TypedListProperty
from torchneupy.core.shape import ShapeLike, TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers.base import BaseLayer

__all__ = ["Reshape", "Transpose"]


class FeatureShapeProperty(TypedListProperty):
    """Sizes of one sample, of which one may be -1: what is left of the values."""

    def validate(self, value: Any) -> None:
        super().validate(value)
        if list(value).count(-1) > 1:
            raise ValueError(f"Only single -1 value can be specified, got {value!r} for `{self.name}`")


class Reshape(BaseLayer):
    """Gives each sample another shape, with the values in the same order.

    Shapes: input ``(batch, ...)``, output ``(batch, *shape)``.

    Parameters
    ----------
    shape : int, tuple or list of int
        Sizes of one sample. One of them may be ``-1``, which stands for what is left. Defaults to ``-1``: all values in
        a row.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError, ValueError
        If a size is no whole number, 0, less than -1, or several are -1.
    LayerConnectionError
        When connected to an input whose samples have not as many values as the shape.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input((8, 8, 3)) >> Reshape()
    (?, 8, 8, 3) -> [... 2 layers ...] -> (?, 192)
    >>> Input((5, 4)) >> Reshape((2, -1))
    (?, 5, 4) -> [... 2 layers ...] -> (?, 2, 10)
    """

    shape = FeatureShapeProperty(minval=-1, excluded=(0,))

    def __init__(self, shape: int | Sequence[int] = -1, name: str | None = None) -> None:
        self.specify(shape=as_tuple(shape))
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        shape = TensorShape(input_shape)
        n_values, n_fixed = shape[1:].num_elements(), math.prod(size for size in self.shape if size != -1)
        if n_values is not None and (n_values % n_fixed if -1 in self.shape else n_values != n_fixed):
            raise LayerConnectionError(
                f"Input shape and specified shape are incompatible. Shape: {self.shape}, Input shape: {shape}, "
                f"Layer: {self}"
            )
        left = None if n_values is None else n_values // n_fixed
        return TensorShape((shape[0], *(left if size == -1 else size for size in self.shape)))

    def output(self, input: Any, **kwargs: Any) -> Any:
        if -1 not in self.shape:
            return input.reshape(input.shape[0], *self.shape)
        # In two steps, so that -1 never has to be worked out of the size of an empty batch.
        flat = input.unsqueeze(1).flatten(1)
        return flat if self.shape == (-1,) else flat.unflatten(1, self.shape)

    def __repr__(self) -> str:
        return self._repr_arguments(self.shape, name=self.name)


class Transpose(BaseLayer):
    """Puts the axes into another order; nothing is copied.

    Shapes: axis ``i`` of the output is axis ``perm[i]`` of the input.

    Parameters
    ----------
    perm : tuple or list of int
        All axes, the batch being 0; negative ones count from the last.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError, ValueError
        If ``perm`` is no tuple or list of whole numbers, or has one of them twice.
    LayerConnectionError
        When connected to an input whose axes are others.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input((7, 11)) >> Transpose((0, 2, 1))
    (?, 7, 11) -> [... 2 layers ...] -> (?, 11, 7)
    """

    perm = TypedListProperty(unique=True)

    def __init__(self, perm: Sequence[int], name: str | None = None) -> None:
        self.specify(perm=perm)
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        shape, n_axes = TensorShape(input_shape), len(self.perm)
        axes = [axis + n_axes if axis < 0 else axis for axis in self.perm]
        if shape.ndims not in (None, n_axes) or sorted(axes) != list(range(n_axes)):
            raise LayerConnectionError(
                f"Cannot apply transpose operation to the input: each of its axes has to be there once. Permutation: "
                f"{self.perm}, Input shape: {shape}. Layer: {self}"
            )
        return TensorShape([shape[axis] for axis in axes])

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input.permute(tuple(self.perm))

    def __repr__(self) -> str:
        return self._repr_arguments(self.perm, name=self.name)
