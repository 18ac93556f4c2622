"""Layers that move kernels over an image."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from torchneupy import init
from torchneupy.core.properties import ParameterProperty, TypedListProperty, WithdrawProperty
from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import WeightInitializationError
from torchneupy.layers.axes import channels_first, channels_last, kept_alone
from torchneupy.layers.images import ImageLayer, as_image_shape, same_margins
from torchneupy.layers.tracing import is_open, is_recorded

__all__ = ["Convolution", "Deconvolution", "PaddingProperty", "Spatial2DProperty"]

#: Number of elements from which on a weight costs less to transpose as a matrix; measured on CPUs.
LARGE = 2**16


class Spatial2DProperty(TypedListProperty):
    """Two whole numbers, for the rows and for the columns, at least 1.

    A number alone stands for both, a list or tuple of one number for the rows: the columns get 1 then.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(2, int, *args, minval=1, single=True, **kwargs)

    def normalise(self, value: Any) -> Any:
        value = super().normalise(value)
        return (value[0], 1) if isinstance(value, (list, tuple)) and len(value) == 1 else value


class PaddingProperty(TypedListProperty):
    """``"VALID"``, ``"SAME"``, or two whole numbers, for rows and columns, at least 0; a number stands for both."""

    expected_type: Any = (str, int, list, tuple)
    choices = ("VALID", "SAME")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(2, int, *args, minval=0, single=True, **kwargs)

    def normalise(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.upper() if value.upper() in self.choices else value
        value = super().normalise(value)
        return tuple(value) if isinstance(value, list) else value

    def validate(self, value: Any) -> None:
        if not isinstance(value, str):
            super().validate(value)
        elif value not in self.choices:
            raise ValueError(
                f"Wrong value `{value}` for property `{self.name}`. Available values: valid, same, a number or two"
            )


class Convolution(ImageLayer):
    r"""Convolution of an image, or with kernels of one column of a sequence.

    The output at row :math:`i`, column :math:`j` and channel :math:`c` is

    .. math:: y_{ijc} = b_c + \sum_{k, l, m} x_{i s_1 + k d_1 - p_1,\, j s_2 + l d_2 - p_2,\, m} W_{klmc}

    for the stride :math:`s`, the dilation :math:`d` and the padding :math:`p`; outside of the image :math:`x` is 0.

    Shapes: input ``(batch, height, width, channels)``, output ``(batch, new height, new width, filters)``. Each new
    size is the largest number of places for the kernel; with ``"same"`` it is ``ceil(size / stride)``. The image is not
    copied on the way in or out; ``"same"`` copies it where it pads one side more than the other, as for a stride of 2
    with an even size.

    Parameters
    ----------
    size : tuple of int
        ``(kernel rows, kernel columns, filters)``.
    padding : {"valid", "same"}, int or tuple of int
        - ``"valid"`` adds nothing to the image.
        - ``"same"`` adds as much as an output of the size ``ceil(size / stride)`` needs, by TensorFlow's rule: where
          that is odd, the bottom and the right get one more.
        - ``(rows, columns)`` are added on both sides; a number stands for both.

        Defaults to ``"valid"``.
    stride : int or tuple of int
        ``(rows, columns)`` from one place of the kernel to the next; a number stands for both, while ``(2,)`` is
        ``(2, 1)``. Defaults to ``1``.
    dilation : int or tuple of int
        ``(rows, columns)`` from one element of the kernel to the next, given as ``stride``. Defaults to ``1``.
    weight : Initializer, number, array or tensor
        ``(kernel rows, kernel columns, channels, filters)``. An ``nn.Parameter`` is shared, everything else is copied.
        Defaults to ``HeNormal(gain=2)``.
    bias : Initializer, number, array, tensor or None
        ``(filters,)``. ``None`` leaves it out. Defaults to ``0``.
    name : str or None
        As in :class:`BaseLayer`.

    Attributes
    ----------
    weight, bias : nn.Parameter or None
        ``None`` until the layer is connected to an input of known channels.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of its range.
    LayerConnectionError
        When connected to an input that has not four dimensions, or to an image smaller than the kernel.
    WeightInitializationError
        When called before it has variables.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> join(Input((28, 28, 3)), Convolution((3, 3, 16), padding="same", stride=2), Relu())
    (?, 28, 28, 3) -> [... 3 layers ...] -> (?, 14, 14, 16)
    >>> Convolution((3, 3, 16))
    Convolution((3, 3, 16), padding='VALID', stride=(1, 1), dilation=(1, 1), weight=HeNormal(gain=2), bias=Constant(0),
    name='convolution-2')
    """

    size = TypedListProperty(n_elements=3, minval=1, fixed=True)
    weight = ParameterProperty()
    bias = ParameterProperty(allow_none=True)
    padding = PaddingProperty(fixed=True)
    stride = Spatial2DProperty(fixed=True)
    dilation = Spatial2DProperty(fixed=True)

    def __init__(
        self,
        size: tuple[int, int, int],
        padding: Any = "valid",
        stride: int | tuple[int, ...] = 1,
        dilation: int | tuple[int, ...] = 1,
        weight: Any = init.HeNormal(gain=2),
        bias: Any = 0,
        name: str | None = None,
    ) -> None:
        self.specify(size=size, padding=padding, stride=stride, dilation=dilation, weight=weight, bias=bias)
        super().__init__(name=name)

    def new_size(self, axis: int, size: int) -> int:
        stride, padding = self.stride[axis], self.padding
        if padding == "SAME":
            return int(-(-size // stride))
        added = 0 if padding == "VALID" else 2 * padding[axis]
        return int((size + added - self._window(axis)) // stride + 1)

    def new_channels(self, n_channels: int | None) -> int | None:
        n_filters: int = self.size[2]
        return n_filters

    def _window(self, axis: int) -> int:
        """How far the kernel reaches, with its gaps."""
        window: int = (self.size[axis] - 1) * self.dilation[axis] + 1
        return window

    def create_variables(self, input_shape: Any) -> None:
        shape = as_image_shape(self, input_shape)
        n_channels = shape[3]
        if n_channels is None:
            raise WeightInitializationError(
                f"Cannot create variables for the layer `{self.name}`, because number of input channels is unknown. "
                f"Input shape: {shape}. Layer: {self}"
            )
        self.variable(None, "weight", shape=self.weight_shape(n_channels))
        if self._option("bias") is not None:
            self.variable(None, "bias", shape=(self.size[2],))
        self.input_shape = TensorShape((None, None, None, n_channels))

    def weight_shape(self, n_channels: int) -> tuple[int, ...]:
        """The shape of ``weight`` for a number of input channels."""
        rows, columns, n_filters = self.size
        return rows, columns, n_channels, n_filters

    def transform(self, image: Any) -> Any:
        weight = self.weight
        if weight is None:
            self.fail_if_not_built()
        if self._is_product(image, weight):
            places = self._places(channels_last(image))
            return channels_first(functional.linear(places, weight.flatten(0, 2).t(), self.bias))
        return self.convolve(kept_alone(image), self._as_kernel(weight))

    def _is_product(self, image: Any, weight: Any) -> bool:
        """Whether to multiply what the kernel sees at each place by the weight as a matrix.

        Torch's kernels for CPUs bring the weight into another order, which takes longer than the rest where it is large
        and there are few places. GPUs may compute convolutions with less precision than products, and then faster:
        that is for the user to say. Exporters write for others, who know convolutions, too.
        """
        if not image.is_cpu or torch.compiler.is_exporting() or is_recorded():
            return False
        if self.size[:2] == (1, 1) and self.padding in ("VALID", "SAME", (0, 0)):
            return True  # the image as it is
        if weight.numel() < LARGE:
            return False
        batch, _, *sizes = image.shape
        if any(map(is_open, (batch, *sizes))):
            return False
        n_places = batch * self.new_size(0, sizes[0]) * self.new_size(1, sizes[1])
        return bool(2 * n_places <= self.size[2])

    def _places(self, image: Any) -> Any:
        """What the kernel sees at each place: image and result with the channels last."""
        if self.padding != "VALID":
            margins = [side for axis in (1, 0) for side in self._margins(axis, image.shape[1 + axis])]
            image = functional.pad(image, (0, 0, *margins))
        if self.size[:2] == (1, 1):
            rows, columns = self.stride
            # With gaps, torch multiplies row by row where the weight has no gradient, in up to twice the time.
            return image[:, ::rows, ::columns].contiguous()
        for axis in (0, 1):
            image = image.unfold(1 + axis, self._window(axis), self.stride[axis])[..., :: self.dilation[axis]]
        return image.permute(0, 1, 2, 4, 5, 3).flatten(3)

    def _margins(self, axis: int, size: Any) -> tuple[Any, Any]:
        """How much padding puts before and after an axis of a size."""
        if self.padding == "SAME":
            return same_margins(size, self._window(axis), self.stride[axis])
        return (0, 0) if self.padding == "VALID" else (self.padding[axis],) * 2

    def _as_kernel(self, weight: Any) -> Any:
        """The weight in torch's order of the axes."""
        rows, columns, _, n_last = weight.shape
        if not is_recorded() and n_last > 1 and weight.numel() < LARGE:
            return weight.permute(3, 2, 0, 1)
        # Torch's kernels want the weight in `channels_last`, too, and make it so where it is not. For large ones that
        # is worth doing here: as a matrix it is transposed several times faster. And where the last axis has one
        # element, for which this copies nothing, they take the view above for `channels_last`, although its strides
        # are others, and some fail to take the gradient.
        return weight.reshape(-1, n_last).t().contiguous().view(n_last, rows, columns, -1).permute(0, 3, 1, 2)

    def convolve(self, image: Any, weight: Any) -> Any:
        """The convolution in torch's order of the axes: image ``(batch, channels, ...)``, weight ``(filters, ...)``."""
        image, padding = self._pad(image)
        return functional.conv2d(image, weight, self.bias, self.stride, padding, self.dilation)

    def _pad(self, image: Any) -> tuple[Any, Any]:
        """The image and what the kernel has to add on both sides, which costs nothing: all where that will do."""
        (top, bottom), (left, right) = (self._margins(axis, image.shape[2 + axis]) for axis in (0, 1))
        if not is_open(top) and not is_open(left) and top == bottom and left == right:
            return image, (top, left)
        return functional.pad(image, (left, right, top, bottom)), 0

    def __repr__(self) -> str:
        names = [name for name in self.options if name != "size"]
        return self._repr_arguments(self.size, **{name: self._option(name) for name in names})


class Deconvolution(Convolution):
    r"""Transposed convolution: what a convolution would gather from a place, this spreads over it.

    Each value of the input adds the kernel, times that value, to the output, where the kernels are ``stride`` apart; it
    is the derivative of a convolution by its input.

    Shapes: input ``(batch, height, width, channels)``, output ``(batch, new height, new width, filters)``. With
    ``size`` of the image, ``kernel`` and ``stride`` of one axis, the new size is

    - with ``"valid"``: ``size * stride + max(kernel - stride, 0)``
    - with ``"same"``: ``size * stride``
    - with a number: ``size * stride + kernel - 1 - 2 * number``, which for 0 is not that of ``"valid"``

    What no kernel reaches is 0, plus the bias.

    Parameters
    ----------
    size : tuple of int
        ``(kernel rows, kernel columns, filters)``.
    padding : {"valid", "same"}, int or tuple of int
        Says, as above, how large the output is: ``"same"`` takes as much from the top and left as from the bottom and
        right, which lose one more where that is odd; numbers take ``(rows, columns)`` from both sides. Defaults to
        ``"valid"``.
    stride : int or tuple of int
        As in :class:`Convolution`, but of the output. Defaults to ``1``.
    weight : Initializer, number, array or tensor
        ``(kernel rows, kernel columns, filters, channels)``. Defaults to ``HeNormal(gain=2)``.
    bias, name
        As in :class:`Convolution`.

    Raises
    ------
    TypeError, ValueError, LayerConnectionError, WeightInitializationError
        As in :class:`Convolution`; also where padding leaves nothing of the output.

    References
    ----------
    Zeiler, Krishnan, Taylor, Fergus: Deconvolutional Networks, 2010, https://doi.org/10.1109/CVPR.2010.5539957

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> join(Input((28, 28, 3)), Convolution((3, 3, 16)), Deconvolution((3, 3, 1)))
    (?, 28, 28, 3) -> [... 3 layers ...] -> (?, 28, 28, 1)
    >>> Input((7, 7, 16)) >> Deconvolution((3, 3, 8), padding="same", stride=2)
    (?, 7, 7, 16) -> [... 2 layers ...] -> (?, 14, 14, 8)
    """

    dilation = WithdrawProperty()

    def __init__(
        self,
        size: tuple[int, int, int],
        padding: Any = "valid",
        stride: int | tuple[int, ...] = 1,
        weight: Any = init.HeNormal(gain=2),
        bias: Any = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(size=size, padding=padding, stride=stride, weight=weight, bias=bias, name=name)

    def new_size(self, axis: int, size: int) -> int:
        kernel, stride, padding = self.size[axis], self.stride[axis], self.padding
        if padding == "SAME":
            return int(size * stride)
        added = max(kernel - stride, 0) if padding == "VALID" else kernel - 1 - 2 * padding[axis]
        return int(size * stride + added)

    def weight_shape(self, n_channels: int) -> tuple[int, ...]:
        rows, columns, n_filters = self.size
        return rows, columns, n_filters, n_channels

    def _is_product(self, image: Any, weight: Any) -> bool:
        return False

    def convolve(self, image: Any, weight: Any) -> Any:
        (top, below, bottom), (left, beside, right) = self._crop(0), self._crop(1)
        output = functional.conv_transpose2d(image, weight, self.bias, self.stride, (top, left), (below, beside))
        return output[:, :, : -bottom or None, : -right or None] if bottom or right else output

    def _crop(self, axis: int) -> tuple[int, int, int]:
        """How much the kernel takes from both ends of an axis, then adds to the end, and what is left to be cut off.

        Only where "same" takes one more from the end than from the beginning the kernel cannot do all.
        """
        excess, padding = self.size[axis] - self.stride[axis], self.padding
        if padding == "SAME":
            return max(excess, 0) // 2, max(-excess, 0), max(excess, 0) % 2
        if padding == "VALID":
            return 0, max(-excess, 0), 0
        return padding[axis], self.stride[axis] - 1, 0
