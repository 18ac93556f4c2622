"""Layers with an activation function, alone or after a linear transformation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tests.contract.entries.pieces import ANY_IMAGE, ANY_MATRIX, ANY_SEQUENCE, SHAPES_OF_ARRAYS
from tests.contract.entry import Array, Case, Reference, Refused, Shape, Variant
from torchneupy.exceptions import LayerConnectionError


def dense(function: Callable[[Array], Array]) -> Reference:
    def apply(values: Mapping[str, Array], x: Array) -> Array:
        return function(x @ values["weight"] + values.get("bias", 0) if "weight" in values else x)

    return apply


def rectify(slope: float) -> Callable[[Array], Array]:
    return lambda x: np.where(x > 0, x, slope * x)


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    output: Array = powers / powers.sum(axis=-1, keepdims=True)
    return output


def with_slopes(*axes: int) -> Reference:
    """PRelu; the axes of its slopes counted from the first, in the order in which the slopes have them."""

    def apply(values: Mapping[str, Array], x: Array) -> Array:
        x = dense(lambda product: product)(values, x)
        slopes: Array = np.einsum(values["alpha"], [*axes], sorted(axes))
        slopes = slopes.reshape([size if axis in axes else 1 for axis, size in enumerate(x.shape)])
        return np.where(x > 0, x, slopes * x)

    return apply


def weights(n_units: int, n_features: int | str = "features") -> dict[str, Shape]:
    return {"weight": (n_features, n_units), "bias": (n_units,)}


def activation(name: str, function: Callable[[Array], Array]) -> Case:
    """A layer that has no options but those of Linear."""
    return Case(
        name,
        (
            Variant(f"{name}(5)", ANY_MATRIX, dense(function), weights(5)),
            Variant(f"{name}()", ANY_SEQUENCE, dense(function)),
            Variant(
                f"{name}(2, weight=XavierUniform(), bias=None)",
                ANY_MATRIX,
                dense(function),
                {"weight": ("features", 2)},
            ),
        ),
        refused_by_dense(name),
    )


def refused_by_dense(name: str) -> tuple[Refused, ...]:
    return (
        Refused(f"{name}(0)", ValueError, ("n_units", "got 0")),
        Refused(f"{name}(2.5)", TypeError, ("n_units", "2.5")),
        Refused(f"{name}('5')", TypeError, ("n_units", "'5'")),
        Refused(f"{name}(5, weight='ones')", TypeError, ("weight", "'ones'")),
        Refused(f"{name}(5, weight=None)", TypeError, ("weight", "None")),
        Refused(f"{name}(5, bias=[0, 0])", TypeError, ("bias", "[0, 0]")),
        Refused(f"{name}(5, name=3)", TypeError, ("name", "3")),
        Refused(f"{name}(5, name='a{{}}b{{}}')", ValueError, ("a{}b{}",)),
        Refused(f"{name}(5)", LayerConnectionError, ("2 dimensions", "got 4", "(?, 8, 9, 3)"), ((8, 9, 3),)),
        Refused(f"{name}(5)", LayerConnectionError, ("got 1", "(?,)"), ((),)),
        Refused(f"{name}(5)", LayerConnectionError, ("1 input", "got 2", "(?, 4)", "(?, 3)"), ((4,), (3,))),
        Refused(f"{name}(5, weight=np.ones((3, 4)))", LayerConnectionError, ("weight", "(3, 4)", "(3, 5)"), ((3,),)),
        Refused(f"{name}(5, bias=np.ones((5, 1)))", LayerConnectionError, ("bias", "(5, 1)", "(5,)"), ((3,),)),
    )


CASES: tuple[Case, ...] = (
    Case(
        "Linear",
        (
            *activation("Linear", lambda x: x).variants,
            Variant(
                "Linear(1, weight=Normal(std=0.5), bias=Uniform(-1, 1), name='out-{:03d}')",
                ANY_MATRIX,
                dense(lambda x: x),
                weights(1),
            ),
            Variant(
                "Linear(2, weight=np.arange(6.0).reshape(3, 2), bias=0.5)",
                ((3,),),
                dense(lambda x: x),
                weights(2, 3),
                exempt=SHAPES_OF_ARRAYS,
            ),
        ),
        refused_by_dense("Linear"),
    ),
    activation("Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    activation("HardSigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    activation("Tanh", lambda x: 1 - 2 / (np.exp(2 * x) + 1)),
    activation("Softmax", softmax),
    activation("Softplus", lambda x: np.logaddexp(0, x)),
    activation("Elu", lambda x: np.where(x > 0, x, np.expm1(x))),
    activation("LeakyRelu", rectify(0.01)),
    Case(
        "Relu",
        (
            *activation("Relu", rectify(0)).variants,
            Variant("Relu(5, alpha=0.25)", ANY_MATRIX, dense(rectify(0.25)), weights(5)),
            Variant("Relu(3, alpha=0.01)", ANY_MATRIX, dense(rectify(0.01)), weights(3)),
            Variant("Relu(alpha=2)", ANY_SEQUENCE, dense(rectify(2))),
        ),
        (
            *refused_by_dense("Relu"),
            Refused("Relu(5, alpha=-0.1)", ValueError, ("alpha", "-0.1")),
            Refused("Relu(5, alpha='0.1')", TypeError, ("alpha", "'0.1'")),
        ),
    ),
    Case(
        "PRelu",
        (
            Variant("PRelu(5)", ANY_MATRIX, with_slopes(1), {**weights(5), "alpha": (5,)}),
            Variant("PRelu()", ANY_SEQUENCE, with_slopes(2), {"alpha": ("features",)}),
            Variant("PRelu(alpha_axes=1)", ANY_SEQUENCE, with_slopes(1), {"alpha": ("steps",)}),
            Variant("PRelu(alpha_axes=(1, 3))", ANY_IMAGE, with_slopes(1, 3), {"alpha": ("height", "channels")}),
            Variant("PRelu(alpha_axes=[-1, 1])", ANY_IMAGE, with_slopes(3, 1), {"alpha": ("channels", "height")}),
            Variant(
                "PRelu(3, alpha=Uniform(0, 1), weight=0.5, bias=None)",
                ANY_MATRIX,
                with_slopes(1),
                {"weight": ("features", 3), "alpha": (3,)},
            ),
            Variant(
                "PRelu(3, alpha=torch.tensor([0.1, 0.2, 0.3]))",
                ANY_MATRIX,
                with_slopes(1),
                {**weights(3), "alpha": (3,)},
                exempt=SHAPES_OF_ARRAYS,
            ),
        ),
        (
            *refused_by_dense("PRelu"),
            Refused("PRelu(alpha_axes=0)", ValueError, ("alpha_axes", "0")),
            Refused("PRelu(alpha_axes=(0, 1))", ValueError, ("alpha_axes", "(0, 1)")),
            Refused("PRelu(alpha_axes='last')", TypeError, ("alpha_axes", "'last'")),
            Refused("PRelu(alpha='quarter')", TypeError, ("alpha", "'quarter'")),
            Refused("PRelu(alpha_axes=2)", LayerConnectionError, ("#2", "available axis is 1"), ((10,),)),
            Refused("PRelu(alpha_axes=-2)", LayerConnectionError, ("#-2", "batch"), ((10,),)),
            Refused("PRelu(alpha_axes=(1, -1))", LayerConnectionError, ("#1", "twice"), ((10,),)),
            Refused("PRelu(alpha=np.ones(3))", LayerConnectionError, ("alpha", "(3,)", "(10,)"), ((10,),)),
        ),
    ),
)
