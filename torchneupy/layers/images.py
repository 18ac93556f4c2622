"""What layers for images share: ``(batch, height, width, channels)`` outside, torch's order of the axes inside."""

from __future__ import annotations

from functools import partial
from typing import Any

from torchneupy.core.shape import ShapeLike, TensorShape, apply_to_dimensions
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers.axes import channels_first, channels_last
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.tracing import as_one_node, is_symbolic

__all__ = ["ImageLayer", "as_image_shape", "same_margins"]


def same_margins(size: Any, window: int, stride: int) -> tuple[Any, Any]:
    """How much TensorFlow's ``SAME`` padding puts before and after an axis: the odd element comes after.

    Nothing here asks how large the axis is, so ``size`` may be a number that ``torch.export`` leaves open; and with a
    stride of 1 the margins do not depend on it.

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


class ImageLayer(BaseLayer):
    """Base class of the layers that make an image of an image.

    A subclass says in ``transform`` what becomes of an image whose axes are in torch's order, and in ``new_size`` what
    becomes of its height and width.

    Shapes: input ``(batch, height, width, channels)``, output ``(batch, new height, new width, new channels)``.
    """

    def new_size(self, axis: int, size: int) -> int:
        """The size of the output along an axis, 0 for the rows and 1 for the columns, for that of the input."""
        raise NotImplementedError

    def new_channels(self, n_channels: int | None) -> int | None:
        """The number of channels of the output for that of the input, which may be unknown; the same by default."""
        return n_channels

    def transform(self, image: Any) -> Any:
        """The layer's arithmetic, from ``(batch, channels, height, width)`` to the same order of axes."""
        raise NotImplementedError

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        batch, height, width, n_channels = shape = as_image_shape(self, input_shape)
        rows, columns = (apply_to_dimensions(partial(self.new_size, axis), s) for axis, s in enumerate((height, width)))
        if any(size is not None and size < 1 for size in (rows, columns)):
            raise LayerConnectionError(
                f"{type(self).__name__} layer `{self.name}` leaves nothing of an image of the shape {shape}: its "
                f"output would have {rows} rows and {columns} columns. Layer: {self}"
            )
        return TensorShape((batch, rows, columns, self.new_channels(n_channels)))

    def output(self, input: Any, **kwargs: Any) -> Any:
        if is_symbolic(input):
            return as_one_node(self, input)  # sizes are asked for, and a view of a weight would become a constant
        try:
            return channels_last(self.transform(channels_first(input)))
        except RuntimeError:
            self.infer_output_shape(TensorShape(input.shape))  # a better error, if it is because of the shape
            raise
