"""Layers that bring values to a common scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.contract.entries.pieces import ANY_IMAGE, ANY_MATRIX, ANY_SEQUENCE, SHAPES_OF_ARRAYS
from tests.contract.entry import Array, Case, Reference, Refused, Shape, Variant
from torchneupy.exceptions import LayerConnectionError


def affine(values: Mapping[str, Array], x: Array) -> Array:
    """Batch normalisation in evaluation mode."""
    output: Array = values["gamma"] * (x - values["running_mean"]) * values["running_inv_std"] + values["beta"]
    return output


def statistics(x: Array, axes: tuple[int, ...] | None, epsilon: float) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1)) if axes is None else axes
    return x.mean(axes, keepdims=True), 1 / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def over_batch(axes: tuple[int, ...] | None = None, epsilon: float = 1e-5) -> Reference:
    def apply(values: Mapping[str, Array], x: Array) -> Array:
        mean, inverse = statistics(x, axes, epsilon)
        output: Array = values["gamma"] * (x - mean) * inverse + values["beta"]
        return output

    return apply


def moved(axes: tuple[int, ...] | None = None, epsilon: float = 1e-5, alpha: float = 0.1) -> Any:
    def apply(values: Mapping[str, Array], x: Array) -> dict[str, Array]:
        mean, inverse = statistics(x, axes, epsilon)
        return {
            "running_mean": (1 - alpha) * values["running_mean"] + alpha * mean,
            "running_inv_std": (1 - alpha) * values["running_inv_std"] + alpha * inverse,
        }

    return apply


def batch_norm(*sizes: int | str) -> dict[str, Any]:
    """Names and shapes of the variables, which are those of one sample with a 1 in front."""
    names = ("running_mean", "running_inv_std", "gamma", "beta")
    return {"variables": dict.fromkeys(names, (1, *sizes)), "buffers": names[:2]}


def over_groups(n_groups: int, epsilon: float = 1e-5) -> Reference:
    def apply(values: Mapping[str, Array], x: Array) -> Array:
        groups = x.reshape(*x.shape[:3], n_groups, -1)
        axes = (1, 2, 4)
        deviation = np.sqrt(groups.var(axes, keepdims=True) + epsilon)
        normal = (groups - groups.mean(axes, keepdims=True)) / deviation
        output: Array = values["gamma"] * normal.reshape(x.shape) + values["beta"]
        return output

    return apply


def group_norm(n_channels: int | str) -> dict[str, Shape]:
    return {"gamma": (1, 1, 1, n_channels), "beta": (1, 1, 1, n_channels)}


def over_neighbours(alpha: float, beta: float, k: float, radius: int) -> Reference:
    def apply(values: Mapping[str, Array], x: Array) -> Array:
        sums = np.zeros_like(x)
        for channel in range(x.shape[3]):
            sums[..., channel] = (x[..., max(channel - radius, 0) : channel + radius + 1] ** 2).sum(-1)
        output: Array = x / (k + alpha * sums) ** beta
        return output

    return apply


CASES: tuple[Case, ...] = (
    Case(
        "BatchNorm",
        (
            Variant(
                "BatchNorm()",
                ANY_IMAGE,
                affine,
                **batch_norm(1, 1, "channels"),
                in_training=over_batch(),
                after_training=moved(),
                least_batch=1,
            ),
            Variant(
                "BatchNorm(alpha=0.7, epsilon=0.1)",
                ANY_MATRIX,
                affine,
                **batch_norm("features"),
                in_training=over_batch(epsilon=0.1),
                after_training=moved(epsilon=0.1, alpha=0.7),
                least_batch=1,
            ),
            Variant(
                "BatchNorm(gamma=Uniform(), beta=2, running_mean=-1, running_inv_std=0.5)",
                ANY_SEQUENCE,
                affine,
                **batch_norm(1, "features"),
                in_training=over_batch(),
                after_training=moved(),
                least_batch=1,
            ),
            Variant(
                "BatchNorm(axes=(0,), epsilon=0.1)",
                ANY_SEQUENCE,
                affine,
                **batch_norm("steps", "features"),
                in_training=over_batch((0,), 0.1),
                after_training=moved((0,), 0.1),
                least_batch=1,
            ),
            Variant(
                "BatchNorm(axes=[0, -2], epsilon=0.1)",
                ANY_IMAGE,
                affine,
                **batch_norm("height", 1, "channels"),
                in_training=over_batch((0, 2), 0.1),
                after_training=moved((0, 2), 0.1),
                least_batch=1,
            ),
            Variant(
                "BatchNorm(axes=(-1, 0, 1), epsilon=0.1)",
                ANY_SEQUENCE,
                affine,
                **batch_norm(1, 1),
                in_training=over_batch((0, 1, 2), 0.1),
                after_training=moved((0, 1, 2), 0.1),
                least_batch=1,
            ),
            Variant(
                "BatchNorm(running_mean=np.array([[1.0, 2.0]]), gamma=torch.tensor([[3.0, 4.0]]), alpha=0)",
                ((2,),),
                affine,
                **batch_norm(2),
                in_training=over_batch(),
                after_training=moved(alpha=0),
                least_batch=1,
                exempt=SHAPES_OF_ARRAYS,
            ),
        ),
        (
            Refused("BatchNorm(axes=0)", TypeError, ("axes", "0")),
            Refused("BatchNorm(axes=(0, 1, 1))", ValueError, ("axes", "(0, 1, 1)", "unique")),
            Refused("BatchNorm(axes=(0, 1.5))", TypeError, ("axes", "(0, 1.5)")),
            Refused("BatchNorm(alpha=2)", ValueError, ("alpha", "2")),
            Refused("BatchNorm(epsilon=-1e-5)", ValueError, ("epsilon", "-1e-05")),
            Refused("BatchNorm(gamma='one')", TypeError, ("gamma", "'one'")),
            Refused("BatchNorm(running_mean=None)", TypeError, ("running_mean", "None")),
            Refused("BatchNorm(axes=(0, 3))", LayerConnectionError, ("(0, 3)", "2 dimensions"), ((10,),)),
            Refused("BatchNorm(axes=(0, -3))", LayerConnectionError, ("(0, -3)", "2 dimensions"), ((10,),)),
            Refused("BatchNorm(axes=(0, 1, -1))", LayerConnectionError, ("(0, 1, -1)", "twice"), ((10,),)),
            Refused("BatchNorm()", LayerConnectionError, ("got 1", "(?,)"), ((),)),
            Refused("BatchNorm(gamma=np.ones(3))", LayerConnectionError, ("gamma", "(3,)", "(1, 3)"), ((3,),)),
            Refused("BatchNorm()", LayerConnectionError, ("1 input", "got 2", "(?, 4)", "(?, 3)"), ((4,), (3,))),
        ),
    ),
    Case(
        "GroupNorm",
        (
            Variant("GroupNorm(1)", ANY_IMAGE, over_groups(1), group_norm("channels")),
            Variant(
                "GroupNorm(2, gamma=Uniform(), beta=0.5)",
                (("height", "width", 6),),
                over_groups(2),
                group_norm(6),
            ),
            Variant(
                "GroupNorm(n_groups=3, epsilon=0.1)",
                (("height", "width", 3),),
                over_groups(3, 0.1),
                group_norm(3),
            ),
        ),
        (
            Refused("GroupNorm()", TypeError, ("n_groups",)),
            Refused("GroupNorm(0)", ValueError, ("n_groups", "0")),
            Refused("GroupNorm(1.5)", TypeError, ("n_groups", "1.5")),
            Refused("GroupNorm(2, epsilon=-1)", ValueError, ("epsilon", "-1")),
            Refused("GroupNorm(2, beta='zero')", TypeError, ("beta", "'zero'")),
            Refused("GroupNorm(2)", LayerConnectionError, ("4 dimensions", "got 2", "(?, 8)"), ((8,),)),
            Refused("GroupNorm(4)", LayerConnectionError, ("6 input channels", "4 groups"), ((4, 4, 6),)),
            Refused(
                "GroupNorm(2, gamma=np.ones(4))",
                LayerConnectionError,
                ("gamma", "(4,)", "(1, 1, 1, 4)"),
                ((3, 3, 4),),
            ),
        ),
    ),
    Case(
        "LocalResponseNorm",
        (
            Variant("LocalResponseNorm()", ANY_IMAGE, over_neighbours(1e-4, 0.75, 2, 5)),
            Variant(
                "LocalResponseNorm(alpha=0.3, beta=0.6, k=1, depth_radius=1)",
                ANY_IMAGE,
                over_neighbours(0.3, 0.6, 1, 1),
            ),
            Variant("LocalResponseNorm(alpha=1, depth_radius=3)", ANY_IMAGE, over_neighbours(1, 0.75, 2, 3)),
        ),
        (
            Refused("LocalResponseNorm(depth_radius=4)", ValueError, ("depth_radius", "4", "odd")),
            Refused("LocalResponseNorm(depth_radius=-1)", ValueError, ("depth_radius", "-1")),
            Refused("LocalResponseNorm(depth_radius=1.5)", TypeError, ("depth_radius", "1.5")),
            Refused("LocalResponseNorm(alpha='small')", TypeError, ("alpha", "'small'")),
            Refused("LocalResponseNorm()", LayerConnectionError, ("4 dimensions", "got 2", "(?, 10)"), ((10,),)),
        ),
    ),
)
