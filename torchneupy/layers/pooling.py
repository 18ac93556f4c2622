"""Layers that make one value of many neighbouring ones, or many of one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from torchneupy.core.properties import ChoiceProperty, FunctionWithOptionsProperty, TypedListProperty
from torchneupy.core.shape import ShapeLike, TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers.axes import channels_first, channels_last
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.convolutions import Spatial2DProperty
from torchneupy.layers.images import ImageLayer, same_margins
from torchneupy.layers.modes import in_mode
from torchneupy.layers.tracing import as_one_node, is_open, is_symbolic

__all__ = ["AveragePooling", "BasePooling", "GlobalPooling", "MaxPooling", "Upscale"]


class BasePooling(ImageLayer):
    """Base class of the layers that move a window over an image and make one value of what it shows.

    Shapes: input ``(batch, height, width, channels)``, output ``(batch, new height, new width, channels)``. Each new
    size is the largest number of places for the window; with ``"same"`` it is ``ceil(size / stride)``.

    Parameters
    ----------
    size : tuple of int
        ``(rows, columns)`` of the window.
    stride : int, tuple of int or None
        ``(rows, columns)`` from one place of the window to the next; a number stands for both, while ``(2,)`` is ``(2,
        1)``. ``None`` is ``size``: windows touch and do not overlap. Defaults to ``None``.
    padding : {"valid", "same"}
        ``"valid"`` keeps the window within the image. ``"same"`` lets it reach beyond by TensorFlow's rule: as much at
        the top and left as at the bottom and right, which get one more where that is odd. What is not in the image
        does not count. Defaults to ``"valid"``.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of its range.
    LayerConnectionError
        When connected to an input that has not four dimensions, or to an image smaller than the window.
    """

    size = TypedListProperty(n_elements=2, minval=1)
    stride = Spatial2DProperty(allow_none=True)
    padding = ChoiceProperty(choices=("SAME", "VALID", "same", "valid"))

    def __init__(
        self,
        size: tuple[int, int],
        stride: int | tuple[int, ...] | None = None,
        padding: str = "valid",
        name: str | None = None,
    ) -> None:
        self.specify(size=size, stride=stride, padding=padding)
        super().__init__(name=name)

    def new_size(self, axis: int, size: int) -> int:
        stride: int = (self.stride or self.size)[axis]
        return -(-size // stride) if self._is_same else (size - self.size[axis]) // stride + 1

    @property
    def _is_same(self) -> bool:
        return self.padding in ("same", "SAME")

    def pool(self, image: Any, stride: Any, padding: Any, ceil_mode: bool) -> Any:
        """Pooling by a kernel of torch's, in torch's order of the axes."""
        raise NotImplementedError

    def transform(self, image: Any) -> Any:
        stride = self.stride or self.size
        return self._pool_same(image, stride) if self._is_same else self.pool(image, stride, (0, 0), False)

    def pool_open(self, image: Any, stride: Any, margins: Any) -> Any:
        """Pooling of an image with margins ``(left, right, top, bottom)``, which do not count.

        The image is copied; in return, nothing depends on how large the margins are.
        """
        raise NotImplementedError

    def _pool_same(self, image: Any, stride: Any) -> Any:
        """Pooling with a padding that may have one more at the end of an axis, while the kernel's has not.

        Where the stride is more than 1, ``ceil_mode`` lets the last window reach further. Where it is 1, the kernel
        pads for the end, and the first window is one too many.
        """
        rows, columns = (same_margins(image.shape[2 + axis], self.size[axis], stride[axis]) for axis in (0, 1))
        if is_open(rows[0]) or is_open(columns[0]):
            return self.pool_open(image, stride, (*columns, *rows))
        padding, surplus = [], []
        for (before, after), step in zip((rows, columns), stride, strict=True):
            padding.append(after if step == 1 else before)
            surplus.append(after - before if step == 1 else 0)
        pooled = self.pool(image, stride, padding, True)
        return pooled[:, :, surplus[0] :, surplus[1] :] if any(surplus) else pooled

    def __repr__(self) -> str:
        return self._repr_arguments(self.size, **{n: self._option(n) for n in ("stride", "padding", "name")})


class MaxPooling(BasePooling):
    """The largest value of each window.

    Shapes, parameters and errors as in :class:`BasePooling`, in short: windows of ``size``, ``stride`` (default: the
    size) apart, within the image (``padding="valid"``, the default) or reaching beyond it (``"same"``).

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input((10, 10, 3)) >> MaxPooling((2, 2))
    (?, 10, 10, 3) -> [... 2 layers ...] -> (?, 5, 5, 3)
    >>> Input((10, 10, 3)) >> MaxPooling((3, 3), stride=2, padding="same")
    (?, 10, 10, 3) -> [... 2 layers ...] -> (?, 5, 5, 3)
    """

    def pool(self, image: Any, stride: Any, padding: Any, ceil_mode: bool) -> Any:
        return torch.max_pool2d(image, self.size, stride, padding, 1, ceil_mode)

    def pool_open(self, image: Any, stride: Any, margins: Any) -> Any:
        least = -torch.inf if image.is_floating_point() else torch.iinfo(image.dtype).min
        return self.pool(functional.pad(image, margins, value=least), stride, 0, False)


class AveragePooling(BasePooling):
    """The mean of each window; at the edge, of what it shows of the image.

    Shapes, parameters and errors as in :class:`MaxPooling`.

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> Input((10, 10, 3)) >> AveragePooling((2, 2))
    (?, 10, 10, 3) -> [... 2 layers ...] -> (?, 5, 5, 3)
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
    >>> AveragePooling((1, 3), stride=1, padding="same").output(x).flatten()
    tensor([1.5000, 2.0000, 3.0000, 3.5000])
    """

    def pool(self, image: Any, stride: Any, padding: Any, ceil_mode: bool) -> Any:
        return functional.avg_pool2d(image, self.size, stride, padding, ceil_mode, count_include_pad=False)

    def pool_open(self, image: Any, stride: Any, margins: Any) -> Any:
        share = torch.ones_like(image[:1, :1])  # how much of a window shows the image
        pooled, share = (self.pool(functional.pad(one, margins), stride, 0, False) for one in (image, share))
        return pooled / share


class Upscale(ImageLayer):
    """Repeats each row and each column of an image.

    Shapes: input ``(batch, height, width, channels)``, output ``(batch, height * rows, width * columns, channels)``.

    Parameters
    ----------
    scale : int or tuple of int
        ``(rows, columns)``: how often each is there; a number stands for both.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError, ValueError
        If ``scale`` is of a wrong type or less than 1.
    LayerConnectionError
        When connected to an input that has not four dimensions.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input((10, 10, 3)) >> Upscale((2, 1))
    (?, 10, 10, 3) -> [... 2 layers ...] -> (?, 20, 10, 3)
    """

    scale = TypedListProperty(n_elements=2, minval=1, single=True)

    def __init__(self, scale: int | tuple[int, int], name: str | None = None) -> None:
        self.specify(scale=scale)
        super().__init__(name=name)

    def new_size(self, axis: int, size: int) -> int:
        scale: int = self.scale[axis]
        return size * scale

    def transform(self, image: Any) -> Any:
        if not image.is_floating_point():  # the kernel knows few other types
            rows, columns = self.scale
            return channels_first(channels_last(image).repeat_interleave(rows, 1).repeat_interleave(columns, 2))
        size = self.new_size(0, image.shape[2]), self.new_size(1, image.shape[3])
        # Looks at the middle of each new value, so that no rounding can lead into a neighbour.
        return functional.interpolate(image, size, mode="nearest-exact")

    def __repr__(self) -> str:
        return self._repr_arguments(self.scale, name=self.name)


def average(input: Any, axis: list[int]) -> Any:
    """The mean over all axes but the first and the last."""
    return input.mean(axis)


def largest(input: Any, axis: list[int]) -> Any:
    """The largest value over all axes but the first and the last.

    ``amax`` would share the gradient out among equal values, for which it takes several times as long.
    """
    if not input.is_floating_point():
        return input.amax(axis)  # the kernel knows no other types, and there is no gradient to share out
    image = input if len(axis) == 2 else input.flatten(1, -2).unsqueeze(2)  # of one column: `channels_last` as well
    return functional.adaptive_max_pool2d(channels_first(image), 1).flatten(1)


def total(input: Any, axis: list[int]) -> Any:
    """The sum over all axes but the first and the last."""
    return input.sum(axis)


class GlobalPooling(BaseLayer):
    """One value of each channel of an image, or of each feature of a sequence.

    Shapes: input ``(batch, ..., channels)``, output ``(batch, channels)``. An input of two dimensions stays as it is.

    Parameters
    ----------
    function : {"avg", "max", "sum"} or callable
        A function, or an ``nn.Module``, is called as ``function(x, axis=[1, 2])``, with all axes but the first and the
        last. One of torch's own, such as ``torch.amax`` or ``torch.median``, gets them as one axis; of several results
        the first counts. Of equal values that are the largest, ``"max"`` takes one, and ``torch.amax`` all, for the
        gradient.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    ValueError
        If ``function`` is neither callable nor the name of a choice.
    LayerConnectionError
        When connected to an input of less than two dimensions.

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> Input((4, 4, 16)) >> GlobalPooling("avg")
    (?, 4, 4, 16) -> [... 2 layers ...] -> (?, 16)
    >>> Input((None, 16)) >> GlobalPooling(torch.logsumexp)
    (?, ?, 16) -> [... 2 layers ...] -> (?, 16)
    """

    function = FunctionWithOptionsProperty(choices={"avg": average, "max": largest, "sum": total})

    def __init__(self, function: str | Callable[..., Any], name: str | None = None) -> None:
        self.specify(function=function)
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        shape = TensorShape(input_shape)
        if shape.ndims is None:
            return TensorShape((None, None))
        if shape.ndims < 2:
            raise LayerConnectionError(
                f"GlobalPooling layer `{self.name}` expects an input with 2 dimensions or more (batch, ..., channels), "
                f"got {shape.ndims} with shape {shape}. Layer: {self}"
            )
        return TensorShape((shape[0], shape[-1]))

    def output(self, input: Any, training: bool = False, **kwargs: Any) -> Any:
        function = self.function
        if not isinstance(function, nn.Module):
            return self._reduce(input, function)
        with in_mode(function, training):
            return self._reduce(input, function)

    def forward(self, *inputs: Any) -> Any:
        return self._reduce(inputs[0], self.function)  # a function that is a module has its own mode

    def _reduce(self, input: Any, function: Any) -> Any:
        if is_symbolic(input):
            return as_one_node(self, input)  # how many axes there are decides what is to be done
        n_axes = input.dim()
        if n_axes < 2:
            self.get_output_shape(input.shape)  # raises
        if n_axes < 3:
            return input
        if not is_of_torch(function):
            return function(input, axis=list(range(1, n_axes - 1)))
        result = function(input.flatten(1, -2), dim=1)
        return result[0] if isinstance(result, tuple) else result

    def __repr__(self) -> str:
        return self._repr_arguments(self._format_value(self._option("function")), name=self.name)


def is_of_torch(function: Any) -> bool:
    """Whether a function is one of torch's own, which mostly take one axis only, and call it ``dim``."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, nn.Module):
        return False
    module = getattr(function, "__module__", None) or ""
    return isinstance(function, (BuiltinFunctionType, MethodDescriptorType)) or module.partition(".")[0] == "torch"
