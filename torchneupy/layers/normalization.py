"""Layers that bring values to a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from torchneupy.core.properties import (
    IntProperty,
    NumberProperty,
    ParameterProperty,
    ProperFractionProperty,
    TypedListProperty,
)
from torchneupy.core.shape import ShapeLike, TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers.arrangement import Arrangement
from torchneupy.layers.base import Identity
from torchneupy.layers.images import ImageLayer, as_image_shape
from torchneupy.layers.tracing import as_one_node, is_recorded, is_symbolic, is_transformed

__all__ = ["BatchNorm", "GroupNorm", "LocalResponseNorm"]


#: Types in which the output may be computed as a scale and an offset without losing digits that matter.
PRECISE = (torch.float32, torch.float64)

#: Up to so many channels are too few for a fast loop over them, from so many values on.
FEW_CHANNELS, MANY_VALUES = 16, 2**16
#: Fewest and most values of a row of an image that make it worth repeating the channels for it.
ROW = (256, 2**13)


def goes_by_rows(channels: Any, images: Any) -> bool:
    """Whether it is faster to repeat what belongs to the channels for a whole row of the images.

    On the CPU, torch's inner loop runs over the last axes that nothing is broadcast along. Over 3 channels it is so
    short that the whole takes four times as long as over a row of the image.
    """
    if images.numel() < MANY_VALUES or images.ndim < 3:
        return False
    width, n_channels = images.shape[-2:]
    if n_channels > FEW_CHANNELS or not channels.numel() == channels.shape[-1] == n_channels:
        return False
    fewest, most = ROW
    size = width * n_channels
    return bool(fewest <= size <= most and 8 * size <= images.numel())


class BatchNorm(Identity):
    r"""Batch normalisation: mean 0 and variance 1 over the batch, then a scale and an offset that are learned.

    While training, with the mean :math:`\mu` and the biased variance :math:`\sigma^2` of the batch over the axes,

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    and each call moves the running statistics by the share ``alpha`` towards :math:`\mu` and :math:`1 / \sqrt{\sigma^2
    + \epsilon}`. In evaluation mode :math:`y = \gamma (x - running\_mean) \cdot running\_inv\_std + \beta`.

    ``update_bn`` of ``torch.optim.swa_utils`` looks for torch's own classes only. With averaged parameters, average the
    statistics too, by ``AveragedModel(network, use_buffers=True)``, or call the averaged network in training mode.

    Shapes: input and output have the same shape, of at least two dimensions; the variables have as many dimensions,
    with the size 1 at the axes.

    Parameters
    ----------
    axes : tuple or list of int, or None
        Over which axes mean and variance are taken, the batch, 0, among them; negative ones count from the last.
        ``None`` stands for all but the last. Defaults to ``None``.
    alpha : float
        Share of a new batch in the running statistics, from 0 to 1. Defaults to ``0.1``.
    beta : Initializer, number, array or tensor
        The offset. Defaults to ``0``.
    gamma : Initializer, number, array or tensor
        The scale. Defaults to ``1``.
    epsilon : float
        Added to the variance, at least 0. Defaults to ``1e-5``.
    running_mean : Initializer, number, array or tensor
        The mean to begin with. Defaults to ``0``.
    running_inv_std : Initializer, number, array or tensor
        One over the standard deviation to begin with. Defaults to ``1``.
    name : str or None
        As in :class:`BaseLayer`.

    Attributes
    ----------
    gamma, beta : nn.Parameter or None
        ``None`` until the sizes of the axes that are kept are known.
    running_mean, running_inv_std : Tensor or None
        Buffers.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of its range, or a batch to train with is empty.
    LayerConnectionError
        When connected to an input that has no such axes.
    WeightInitializationError
        When called before it has variables.

    References
    ----------
    Ioffe, Szegedy: Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift, 2015,
    https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> layer = BatchNorm(alpha=0.5)
    >>> network = Input(1) >> layer
    >>> network(torch.tensor([[1.0], [3.0]])).flatten().tolist() == [-1, 1]
    False
    >>> network(torch.tensor([[1.0], [3.0]])).flatten()
    tensor([-1.0000,  1.0000], grad_fn=<...>)
    >>> layer.running_mean
    tensor([[1.5000]])
    """

    axes = TypedListProperty(allow_none=True, unique=True, fixed=True)
    epsilon = NumberProperty(minval=0)
    alpha = ProperFractionProperty()
    beta = ParameterProperty()
    gamma = ParameterProperty()
    running_mean = ParameterProperty(trainable=False)
    running_inv_std = ParameterProperty(trainable=False)

    _arrangement: Arrangement

    def __init__(
        self,
        axes: Sequence[int] | None = None,
        alpha: float = 0.1,
        beta: Any = 0,
        gamma: Any = 1,
        epsilon: float = 1e-5,
        running_mean: Any = 0,
        running_inv_std: Any = 1,
        name: str | None = None,
    ) -> None:
        self.specify(
            axes=axes,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            epsilon=epsilon,
            running_mean=running_mean,
            running_inv_std=running_inv_std,
        )
        super().__init__(name=name)

    def positive_axes(self, ndims: int) -> list[int]:
        """The axes counted from the first, in order.

        Raises
        ------
        LayerConnectionError
            If a tensor of so many dimensions has no such axis, or one is given twice.
        """
        if self.axes is None:
            return list(range(ndims - 1))
        axes = [axis + ndims if axis < 0 else axis for axis in self.axes]
        if not all(0 <= axis < ndims for axis in axes) or len(set(axes)) < len(axes):
            raise LayerConnectionError(
                f"Batch normalization cannot be applied over the axes {tuple(self.axes)}, because they are not all "
                f"there, or one is given twice: input has {ndims} dimensions. Layer: {self}"
            )
        return sorted(axes)

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        shape = TensorShape(input_shape)
        if shape.ndims is not None:
            if shape.ndims < 2:
                raise LayerConnectionError(
                    f"Batch normalization expects an input with at least 2 dimensions, got {shape.ndims} with shape "
                    f"{shape}. Layer: {self}"
                )
            self.positive_axes(shape.ndims)
        return shape

    def create_variables(self, input_shape: Any) -> None:
        shape = TensorShape(input_shape)
        if shape.ndims is None:
            raise WeightInitializationError(
                f"Cannot create variables for the layer `{self.name}`, because its input shape is unknown. "
                f"Layer: {self}"
            )
        axes = self.positive_axes(shape.ndims)
        sizes = [1 if axis in axes else size for axis, size in enumerate(shape)]
        if None in sizes:
            raise WeightInitializationError(
                f"Cannot create variables for the layer `{self.name}`, because input has unknown dimension "
                f"#{sizes.index(None)} (0-based indices), which is not among the normalised axes {tuple(axes)}. "
                f"Input shape: {shape}. Layer: {self}"
            )
        self.variable(None, "running_mean", shape=sizes, trainable=False)
        self.variable(None, "running_inv_std", shape=sizes, trainable=False)
        self.variable(None, "gamma", shape=sizes)
        self.variable(None, "beta", shape=sizes)
        self.input_shape = TensorShape([None if axis in axes else size for axis, size in enumerate(shape)])
        vars(self)["_arrangement"] = Arrangement.along(axes, len(sizes))

    def output(self, input: Any, training: bool = False) -> Any:  # type: ignore[override]  # no other keywords
        gamma = self.gamma
        if gamma is None:
            self.fail_if_not_built()
        if is_symbolic(input):
            return as_one_node(self, input)  # or what is worked out of the variables alone would become a constant
        expected = self._input_shape
        fits = input.ndim == len(expected) and (
            is_recorded()
            or all(wanted is None or size == wanted for size, wanted in zip(input.shape, expected, strict=True))
        )
        if not fits:
            # The kernel would read beyond the end of the variables.
            raise ValueError(
                f"Layer `{self.name}` got an input of shape {tuple(input.shape)}, expected {self.input_shape}. "
                f"Layer: {self}"
            )
        return self._normalise_by_batch(input) if training else self._normalise_by_averages(input)

    def _normalise_by_batch(self, input: Any) -> Any:
        """The output in training mode; the running statistics change."""
        if input.numel() == 0:
            raise ValueError(
                f"Layer `{self.name}` cannot normalise an empty batch, of shape {tuple(input.shape)}. Layer: {self}"
            )
        arrangement = self._arrangement
        output, mean, inverse = torch.native_batch_norm(
            arrangement.apply(input), self.gamma.flatten(), self.beta.flatten(), None, None, True, 0.0, self.epsilon
        )
        self._follow(mean, inverse)
        return arrangement.undo(output, input)

    def _follow(self, mean: Any, inverse: Any) -> None:
        """Move the running statistics towards those of a batch."""
        for running, batch in ((self.running_mean, mean), (self.running_inv_std, inverse)):
            running.detach().lerp_(batch.view_as(running).type_as(running), self.alpha)

    def _normalise_by_averages(self, input: Any) -> Any:
        """The output in evaluation mode, which is ``input * scale + offset``."""
        mean, inverse = self.running_mean, self.running_inv_std
        keeps_them = torch.is_grad_enabled() or is_recorded()
        if keeps_them:
            # A call in training mode may change them before the gradient needs them.
            mean, inverse = mean.clone(), inverse.clone()
        scale = self.gamma * inverse
        # Half the kernel's time where the channels come last, but more for a gradient; and a small type loses digits.
        if not keeps_them and input.dtype == scale.dtype in PRECISE and input.is_contiguous():
            offset = self.beta - mean * scale
            if not torch.compiler.is_compiling() and input.is_cpu and goes_by_rows(scale, input):
                row = (*scale.shape[:-2], *input.shape[-2:])
                offset, scale = offset.expand(row).contiguous(), scale.expand(row).contiguous()
            return torch.addcmul(offset, input, scale)
        arrangement, variance = self._arrangement, torch.ones_like(mean)
        # FSDP2 in mixed precision gives parameters another type than buffers have; the kernel wants one.
        offset = self.beta.flatten().to(scale.dtype)
        statistics = (scale.flatten(), offset, mean.flatten(), variance.flatten())
        output, _, _ = torch.native_batch_norm(arrangement.apply(input), *statistics, False, 0.0, 0.0)
        return arrangement.undo(output, input)


class Together(torch.autograd.Function):
    """The same tensors, of which all get a gradient if one does.

    The gradient of torch's group normalisation on the CPU ends the process (torch 2.13) where the channels come last
    and the variables want gradients, but the input does not: because it is given, say, or the gradient is asked for a
    part of the network only.
    """

    @staticmethod
    def forward(ctx: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.ops.aten.alias(tensor) for tensor in tensors)  # a view would forget strides of an axis of 1

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return gradients


class GroupNorm(ImageLayer):
    r"""Group normalisation: mean 0 and variance 1 over each sample's groups of neighbouring channels.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    with the mean and the biased variance over height, width and the channels of a group, in both modes.

    Shapes: input and output ``(batch, height, width, channels)``.

    Parameters
    ----------
    n_groups : int
        Number of groups, which divides that of the channels.
    beta : Initializer, number, array or tensor
        The offset, ``(1, 1, 1, channels)``. Defaults to ``0``.
    gamma : Initializer, number, array or tensor
        The scale, ``(1, 1, 1, channels)``. Defaults to ``1``.
    epsilon : float
        Added to the variance, at least 0. Defaults to ``1e-5``.
    name : str or None
        As in :class:`BaseLayer`.

    Attributes
    ----------
    gamma, beta : nn.Parameter or None
        ``None`` until the number of channels is known.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of its range.
    LayerConnectionError
        When connected to an input that has not four dimensions, or whose channels cannot be divided so.
    WeightInitializationError
        When called before it has variables.

    References
    ----------
    Wu, He: Group Normalization, 2018, https://arxiv.org/abs/1803.08494

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input((8, 8, 6)) >> GroupNorm(3)
    (?, 8, 8, 6) -> [... 2 layers ...] -> (?, 8, 8, 6)
    """

    n_groups = IntProperty(minval=1, fixed=True)
    beta = ParameterProperty()
    gamma = ParameterProperty()
    epsilon = NumberProperty(minval=0)

    def __init__(
        self, n_groups: int, beta: Any = 0, gamma: Any = 1, epsilon: float = 1e-5, name: str | None = None
    ) -> None:
        self.specify(n_groups=n_groups, beta=beta, gamma=gamma, epsilon=epsilon)
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        shape = as_image_shape(self, input_shape)
        n_channels = shape[3]
        if n_channels is not None and n_channels % self.n_groups:
            raise LayerConnectionError(
                f"Cannot divide {n_channels} input channels into {self.n_groups} groups. Input shape: {shape}, "
                f"Layer: {self}"
            )
        return shape

    def create_variables(self, input_shape: Any) -> None:
        shape = as_image_shape(self, input_shape)
        n_channels = shape[3]
        if n_channels is None:
            raise WeightInitializationError(
                f"Cannot create variables for the layer `{self.name}`, because number of input channels is unknown. "
                f"Input shape: {shape}. Layer: {self}"
            )
        self.variable(None, "gamma", shape=(1, 1, 1, n_channels))
        self.variable(None, "beta", shape=(1, 1, 1, n_channels))
        self.input_shape = TensorShape((None, None, None, n_channels))

    def transform(self, image: Any) -> Any:
        gamma, beta = self.gamma, self.beta
        if gamma is None:
            self.fail_if_not_built()
        wants_gradients = torch.is_grad_enabled() and image.device.type == "cpu"
        compiles = torch.compiler.is_compiling()
        if is_transformed() or is_recorded() or (wants_gradients and compiles and not image.requires_grad):
            # By the kernel for channels that come first, as the other one cannot be transformed, nor can torch.jit and
            # compilers see to what is done below; compilers know for good who gets a gradient.
            normal = torch.group_norm(image.flatten(2), self.n_groups, gamma.flatten(), beta.flatten(), self.epsilon)
            return normal.view_as(image)
        if wants_gradients and not compiles:
            together: Any = Together.apply
            image, gamma, beta = together(image, gamma, beta)
        return torch.group_norm(image, self.n_groups, gamma.flatten(), beta.flatten(), self.epsilon)


class OddProperty(IntProperty):
    """An odd number."""

    def validate(self, value: Any) -> None:
        super().validate(value)
        if value % 2 == 0:
            raise ValueError(f"Only works with odd `{self.name}` values, got {value!r}")


class LocalResponseNorm(ImageLayer):
    r"""Divides each value by what it and its neighbours among the channels amount to.

    .. math:: y_c = \frac{x_c}{\left(k + \alpha \sum_{i = c - r}^{c + r} x_i^2\right)^\beta}

    with :math:`r` the ``depth_radius``, at each place of the image; beyond the first and the last channel there is
    nothing.

    Shapes: input and output ``(batch, height, width, channels)``.

    Parameters
    ----------
    alpha : float
        Factor of the sum. Defaults to ``1e-4``.
    beta : float
        Exponent. Defaults to ``0.75``.
    k : float
        Offset. Defaults to ``2``.
    depth_radius : int
        How many channels on either side count; odd. Defaults to ``5``.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number, or ``depth_radius`` is even or less than 1.
    LayerConnectionError
        When connected to an input that has not four dimensions.

    References
    ----------
    Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, 2012,
    https://papers.nips.cc/paper/4824

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> LocalResponseNorm(alpha=1, beta=1, k=0, depth_radius=1).output(torch.ones(1, 1, 1, 4)).flatten()
    tensor([0.5000, 0.3333, 0.3333, 0.5000])
    """

    alpha = NumberProperty()
    beta = NumberProperty()
    k = NumberProperty()
    depth_radius = OddProperty(minval=1)

    def __init__(
        self, alpha: float = 1e-4, beta: float = 0.75, k: float = 2, depth_radius: int = 5, name: str | None = None
    ) -> None:
        self.specify(alpha=alpha, beta=beta, k=k, depth_radius=depth_radius)
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        return as_image_shape(self, input_shape)

    def output(self, input: Any, **kwargs: Any) -> Any:
        if not is_symbolic(input) and input.ndim != 4:
            self.get_output_shape(tuple(input.shape))  # raises
        radius, n_channels = self.depth_radius, input.shape[-1]
        # Shifted copies are added, in less than half the time of a pool; differences of cumulated sums would lose
        # digits.
        padded = functional.pad(input.square(), (radius, radius))
        total = padded.narrow(-1, 0, n_channels)
        for shift in range(1, 2 * radius + 1):
            total = total + padded.narrow(-1, shift, n_channels)
        return input / (self.k + self.alpha * total) ** self.beta
