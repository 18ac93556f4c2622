"""What layers for images share: ``(batch, height, width, channels)`` outside, torch's order of the axes inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torchneupy.core.shape import ShapeLike, TensorShape, apply_to_dimensions
from torchneupy.exceptions import LayerConnectionError

__all__ = ["as_image_shape", "channels_first", "channels_last", "same_margins", "shape_after"]


def channels_first(image: Any) -> Any:
    """An image as torch's kernels want it: a view, in the layout ``channels_last``, which they keep."""
    return image.permute(0, 3, 1, 2)


def channels_last(image: Any) -> Any:
    """The way back from :func:`channels_first`, which is a view too."""
    return image.permute(0, 2, 3, 1)


def same_margins(size: Any, window: int, stride: int) -> tuple[Any, Any]:
    """How much TensorFlow's ``SAME`` padding puts before and after an axis: the odd element comes after.

    Nothing here asks how large the axis is, so ``size`` may also be a number that is only known to ``torch.fx`` or
    ``torch.export`` by name; and with a stride of 1 the margins do not depend on it.

    Parameters
    ----------
    size : int
        Of the axis.
    window : int
        Of the kernel, with the gaps that a dilation makes.
    stride : int

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2

    Examples
    --------
    >>> same_margins(7, window=3, stride=2), same_margins(8, window=3, stride=2), same_margins(8, window=4, stride=1)
    ((1, 1), (0, 1), (1, 2))
    """
    total: Any = window - 1
    if stride > 1:
        total = total - (size - 1) % stride
    if stride > window:
        total = total * ((stride + total) // stride)  # no less than 0, for sizes that cannot be compared as well
    before = total // 2
    return before, total - before


def as_image_shape(layer: Any, shape: ShapeLike) -> TensorShape:
    """The shape of a layer's input, of four dimensions if nothing is known of it.

    Raises
    ------
    LayerConnectionError
        If it has another number of dimensions.
    """
    shape = TensorShape(shape)
    if shape.ndims is None:
        return TensorShape([None] * 4)
    if shape.ndims != 4:
        raise LayerConnectionError(
            f"{type(layer).__name__} layer `{layer.name}` expects an input with 4 dimensions "
            f"(batch, height, width, channels), got {shape.ndims} with shape {shape}. Layer: {layer}"
        )
    return shape


def shape_after(
    layer: Any, input_shape: ShapeLike, count: Callable[[int, int], int], n_channels: int | None = None
) -> TensorShape:
    """The shape of a layer's output.

    Parameters
    ----------
    layer : BaseLayer
    input_shape : TensorShape
    count : callable
        Takes an axis, 0 for the rows and 1 for the columns, and its size in the input; gives that in the output.
    n_channels : int or None
        Of the output. Defaults to ``None``: as many as the input has.

    Raises
    ------
    LayerConnectionError
        If the input has not four dimensions, or nothing is left of the image.
    """
    shape = as_image_shape(layer, input_shape)
    rows, columns = (apply_to_dimensions(partial(count, axis), shape[1 + axis]) for axis in (0, 1))
    if any(size is not None and size < 1 for size in (rows, columns)):
        raise LayerConnectionError(
            f"{type(layer).__name__} layer `{layer.name}` leaves nothing of an image of the shape {shape}: its output "
            f"would have {rows} rows and {columns} columns. Layer: {layer}"
        )
    return TensorShape((shape[0], rows, columns, shape[3] if n_channels is None else n_channels))
