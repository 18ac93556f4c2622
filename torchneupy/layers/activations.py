"""Layers with an activation function, alone or after a linear transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from torchneupy import init
from torchneupy.core.declarations import as_tuple
from torchneupy.core.properties import IntProperty, NumberProperty, ParameterProperty, TypedListProperty
from torchneupy.core.shape import ShapeLike, TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers.axes import by_value
from torchneupy.layers.base import BaseLayer

__all__ = [
    "Elu",
    "HardSigmoid",
    "LeakyRelu",
    "Linear",
    "PRelu",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]


def with_variant_in_place(variant: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """Give an activation function a variant that may overwrite its argument.

    A layer uses it on what it has just computed itself. It goes with the function: a subclass or an object that has
    another ``activation_function`` has not this variant.
    """

    def decorate(function: Any) -> Any:
        function.in_place = variant
        return function

    return decorate


def value_by_value(function: Any) -> Any:
    """Say of an activation function that it treats each value alone, wherever it is."""
    function.is_value_by_value = True
    return function


class Linear(BaseLayer):
    r"""Linear transformation, :math:`x W + b`; without ``n_units`` the input as it is.

    The other activation layers derive from this one and replace ``activation_function``.

    Shapes: input ``(batch, features)``, output ``(batch, n_units)``. Without ``n_units`` any shape, which stays.

    Parameters
    ----------
    n_units : int or None
        Number of outputs. ``None`` leaves out the transformation: the layer has no variables and applies its
        activation function only. Defaults to ``None``.
    weight : Initializer, number, array or tensor
        ``(features, n_units)``. An ``nn.Parameter`` is shared, everything else is copied. Defaults to ``HeNormal()``.
    bias : Initializer, number, array, tensor or None
        ``(n_units,)``. ``None`` leaves it out. Defaults to ``0``.
    name : str or None
        As in :class:`BaseLayer`.

    Attributes
    ----------
    weight, bias : nn.Parameter or None
        ``None`` until the layer is connected to an input of known width.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of its range.
    LayerConnectionError
        When connected to an input that has not two dimensions.
    WeightInitializationError
        When called before it has variables.

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> layer = Linear(5)
    >>> layer
    Linear(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='linear-1')
    >>> network = Input(10) >> layer
    >>> network, layer.weight.shape
    ((?, 10) -> [... 2 layers ...] -> (?, 5), torch.Size([10, 5]))
    """

    n_units = IntProperty(minval=1, allow_none=True, fixed=True)
    weight = ParameterProperty()
    bias = ParameterProperty(allow_none=True)

    def __init__(
        self, n_units: int | None = None, weight: Any = init.HeNormal(), bias: Any = 0, name: str | None = None
    ) -> None:
        self.specify(n_units=n_units, weight=weight, bias=bias)
        super().__init__(name=name)

    @property
    def _makes_variables(self) -> bool:
        return self.n_units is not None

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        shape = TensorShape(input_shape)
        if self.n_units is None:
            return shape
        if shape and shape.ndims != 2:
            raise LayerConnectionError(
                f"Input shape expected to have 2 dimensions (batch, features), got {shape.ndims} instead. "
                f"Shape: {shape}. Layer: {self}"
            )
        return TensorShape((shape[0], self.n_units))

    def create_variables(self, input_shape: Any) -> None:
        if self.n_units is None:
            return
        input_shape = TensorShape(input_shape)
        n_features = input_shape[1]
        if n_features is None:
            raise WeightInitializationError(
                f"Cannot create variables for the layer `{self.name}`, because number of input features is unknown. "
                f"Input shape: {input_shape}. Layer: {self}"
            )
        self.variable(None, "weight", shape=(n_features, self.n_units))
        if self._option("bias") is not None:
            self.variable(None, "bias", shape=(self.n_units,))
        self.input_shape = TensorShape((None, n_features))

    def output(self, input: Any, **kwargs: Any) -> Any:
        weight = self.weight
        if weight is None:
            if self.n_units is not None:
                self.fail_if_not_built()
            activation = self.activation_function
            if getattr(activation, "is_value_by_value", False):
                return by_value(activation, input)
            return activation(input)
        bias = self.bias
        product = torch.mm(input, weight) if bias is None else torch.addmm(bias, input, weight)
        activation = self.activation_function
        in_place = getattr(activation, "in_place", None)
        return activation(product) if in_place is None else in_place(self, product)

    def activation_function(self, input: Any) -> Any:
        """The activation, for any tensor; a subclass puts its own here."""
        return input

    def __repr__(self) -> str:
        if self.n_units is None:
            return self._repr_arguments(name=self.name)
        names = [name for name in self.options if name != "n_units"]
        return self._repr_arguments(self.n_units, **{name: self._option(name) for name in names})


class Sigmoid(Linear):
    r"""Logistic function, :math:`1 / (1 + e^{-x})`, after a linear transformation if ``n_units`` is given.

    Shapes, parameters and errors as in :class:`Linear`.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input(10) >> Sigmoid(1)
    (?, 10) -> [... 2 layers ...] -> (?, 1)
    """

    @value_by_value
    @with_variant_in_place(lambda layer, product: product.sigmoid_())
    def activation_function(self, input: Any) -> Any:
        return torch.sigmoid(input)


class HardSigmoid(Linear):
    r"""Piecewise linear approximation of the logistic function, :math:`\min(1, \max(0, 0.2 x + 0.5))`.

    Shapes, parameters and errors as in :class:`Linear`.

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> HardSigmoid().output(torch.tensor([-3.0, 0.0, 1.0]))
    tensor([0.0000, 0.5000, 0.7000])
    """

    @value_by_value
    def activation_function(self, input: Any) -> Any:
        return torch.clamp(0.2 * input + 0.5, 0, 1)


class Tanh(Linear):
    r"""Hyperbolic tangent, after a linear transformation if ``n_units`` is given.

    Shapes, parameters and errors as in :class:`Linear`.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input(10) >> Tanh(5)
    (?, 10) -> [... 2 layers ...] -> (?, 5)
    """

    @value_by_value
    @with_variant_in_place(lambda layer, product: product.tanh_())
    def activation_function(self, input: Any) -> Any:
        return torch.tanh(input)


class Softmax(Linear):
    r"""Softmax over the last axis, after a linear transformation if ``n_units`` is given.

    Shapes, parameters and errors as in :class:`Linear`.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input(10) >> Relu(20) >> Softmax(3)
    (?, 10) -> [... 3 layers ...] -> (?, 3)
    """

    def activation_function(self, input: Any) -> Any:
        return torch.softmax(input, dim=-1)


class Relu(Linear):
    r"""Rectifier: :math:`x` above zero and :math:`\alpha x` below.

    After a linear transformation if ``n_units`` is given. Shapes and errors as in :class:`Linear`.

    Parameters
    ----------
    n_units : int or None
        As in :class:`Linear`.
    alpha : float
        Slope for negative values, at least ``0``. Defaults to ``0``.
    weight : Initializer, number, array or tensor
        As in :class:`Linear`, but for the default, ``HeNormal(gain=2)``.
    bias, name
        As in :class:`Linear`.

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> Relu(5)
    Relu(5, alpha=0, weight=HeNormal(gain=2), bias=Constant(0), name='relu-1')
    >>> Relu(alpha=0.1).output(torch.tensor([-1.0, 2.0]))
    tensor([-0.1000,  2.0000])
    """

    alpha = NumberProperty(minval=0)

    def __init__(
        self,
        n_units: int | None = None,
        alpha: float = 0,
        weight: Any = init.HeNormal(gain=2),
        bias: Any = 0,
        name: str | None = None,
    ) -> None:
        self.specify(alpha=alpha)
        super().__init__(n_units=n_units, weight=weight, bias=bias, name=name)

    def _overwrite(self, product: Any) -> Any:
        """Apply ``activation_function`` in place."""
        return product.relu_() if self.alpha == 0 else functional.leaky_relu_(product, self.alpha)

    @value_by_value
    @with_variant_in_place(_overwrite)
    def activation_function(self, input: Any) -> Any:
        return torch.relu(input) if self.alpha == 0 else functional.leaky_relu(input, self.alpha)

    def __repr__(self) -> str:
        if self.n_units is None:
            return self._repr_arguments(alpha=self.alpha, name=self.name)
        return super().__repr__()


class LeakyRelu(Linear):
    r"""Rectifier with the slope 0.01 for negative values, after a linear transformation if ``n_units`` is given.

    ``Relu(alpha=0.01)`` is the same function; its weights are drawn with twice the variance.

    Shapes, parameters and errors as in :class:`Linear`.

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> LeakyRelu().output(torch.tensor([-1.0, 2.0]))
    tensor([-0.0100,  2.0000])
    """

    @value_by_value
    @with_variant_in_place(lambda layer, product: functional.leaky_relu_(product, 0.01))
    def activation_function(self, input: Any) -> Any:
        return functional.leaky_relu(input, 0.01)


class Softplus(Linear):
    r"""Smooth rectifier, :math:`\log(1 + e^x)`, after a linear transformation if ``n_units`` is given.

    Shapes, parameters and errors as in :class:`Linear`.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input(10) >> Softplus(4)
    (?, 10) -> [... 2 layers ...] -> (?, 4)
    """

    @value_by_value
    def activation_function(self, input: Any) -> Any:
        return functional.softplus(input)


class Elu(Linear):
    r"""Exponential linear unit, :math:`x` above zero and :math:`e^x - 1` below.

    After a linear transformation if ``n_units`` is given. Shapes, parameters and errors as in :class:`Linear`.

    References
    ----------
    Clevert, Unterthiner, Hochreiter: Fast and Accurate Deep Network Learning by Exponential Linear Units, 2015,
    https://arxiv.org/abs/1511.07289

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input(10) >> Elu(5) >> Elu(1)
    (?, 10) -> [... 3 layers ...] -> (?, 1)
    """

    @value_by_value
    @with_variant_in_place(lambda layer, product: functional.elu_(product))
    def activation_function(self, input: Any) -> Any:
        return functional.elu(input)


class PRelu(Linear):
    r"""Rectifier that learns its slope: :math:`x` above zero and :math:`\alpha x` below.

    After a linear transformation if ``n_units`` is given. Shapes as in :class:`Linear`.

    Parameters
    ----------
    n_units : int or None
        As in :class:`Linear`.
    alpha_axes : int or tuple of int
        Axes of the output that have a slope for each of their positions; the others share. Negative axes count from
        the last; the batch, axis 0, cannot be among them. Defaults to ``-1``.
    alpha : Initializer, number, array or tensor
        The slopes; one size for each axis of ``alpha_axes``, in that order. Defaults to ``0.25``.
    weight : Initializer, number, array or tensor
        As in :class:`Linear`, but for the default, ``HeNormal(gain=2)``.
    bias, name
        As in :class:`Linear`.

    Attributes
    ----------
    alpha : nn.Parameter or None
        ``None`` until the sizes of the axes are known.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of its range.
    LayerConnectionError
        When connected to an input that has no such axes, or where one of them is the batch.

    References
    ----------
    He, Zhang, Ren, Sun: Delving Deep into Rectifiers, 2015, https://arxiv.org/abs/1502.01852

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> layer = PRelu(alpha_axes=(1, 3))
    >>> network = Input((8, 6, 3)) >> layer
    >>> layer.alpha.shape
    torch.Size([8, 3])
    """

    alpha_axes = TypedListProperty(excluded=(0,), single=True, fixed=True)  # axis 0 is the batch
    alpha = ParameterProperty()

    def __init__(
        self,
        n_units: int | None = None,
        alpha_axes: Any = -1,
        alpha: Any = 0.25,
        weight: Any = init.HeNormal(gain=2),
        bias: Any = 0,
        name: str | None = None,
    ) -> None:
        self.specify(alpha_axes=as_tuple(alpha_axes), alpha=alpha)
        super().__init__(n_units=n_units, weight=weight, bias=bias, name=name)

    @property
    def _makes_variables(self) -> bool:
        return True

    def positive_axes(self, ndims: int) -> list[int]:
        """``alpha_axes`` counted from the first axis.

        Raises
        ------
        LayerConnectionError
            If a tensor of so many dimensions has no such axis, or one is the batch or occurs twice.
        """
        axes = [axis + ndims if axis < 0 else axis for axis in self.alpha_axes]
        for given, axis in zip(self.alpha_axes, axes, strict=True):
            if not 0 < axis < ndims or axes.count(axis) > 1:
                problem = "the batch" if axis == 0 else "given twice" if 0 < axis < ndims else "not there"
                raise LayerConnectionError(
                    f"Cannot specify alpha for the axis #{given}, which is {problem}. Maximum available axis is "
                    f"{ndims - 1} (0-based indices). Layer: {self}"
                )
        return axes

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        output_shape = TensorShape(super().get_output_shape(input_shape))
        if output_shape.ndims is not None:
            self.positive_axes(output_shape.ndims)
        return output_shape

    def create_variables(self, input_shape: Any) -> None:
        output_shape = TensorShape(self.get_output_shape(input_shape))
        if output_shape.ndims is None:
            raise WeightInitializationError(
                f"Cannot create variables for the layer `{self.name}`, because its input shape is unknown. "
                f"Layer: {self}"
            )
        super().create_variables(input_shape)
        sizes = [output_shape[axis] for axis in self.positive_axes(output_shape.ndims)]
        self.variable(None, "alpha", shape=sizes)

    def activation_function(self, input: Any) -> Any:
        alpha = self.alpha
        if alpha is None:
            self.fail_if_not_built()
        # Axes are moved to where the slopes can be applied, and back; that copies nothing.
        axes = self.alpha_axes
        if len(axes) == 1:
            return functional.prelu(input.movedim(axes[0], 1), alpha).movedim(1, axes[0])
        last = tuple(range(-len(axes), 0))
        moved = input.movedim(axes, last)
        return (torch.relu(moved) + alpha.to(input.dtype) * torch.clamp(moved, max=0)).movedim(last, axes)

    def __repr__(self) -> str:
        if self.n_units is None:
            return self._repr_arguments(alpha_axes=self.alpha_axes, alpha=self._option("alpha"), name=self.name)
        return super().__repr__()
