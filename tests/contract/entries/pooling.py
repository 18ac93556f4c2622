"""Layers that make one value of many neighbouring ones, or many of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.contract.entries.convolutions import at_least, margins
from tests.contract.entries.pieces import ANY_IMAGE, ANY_MATRIX, ANY_SEQUENCE, UNPICKLABLE, each_row
from tests.contract.entry import Array, Case, Reference, Refused, Shape, Variant
from torchneupy.exceptions import LayerConnectionError

ANY_VOLUME: tuple[Shape, ...] = (("depth", "height", "width", "channels"),)
NO_EMPTY_BATCH = {"small_batches": "torch knows no shape for an empty batch of its kernel"}
NOT_IMPORTED = {"repr_evaluates": "A function is shown by its name"}


def pooling(function: Callable[..., Array], size: Any, stride: Any = None, padding: str = "valid") -> Reference:
    """One place after the other; what is not in the image is not a number, and does not count."""
    stride = stride or size

    def apply(x: Array) -> Array:
        added = [margins(x.shape[1 + a], size[a], stride[a], 1, padding) for a in (0, 1)]
        x = np.pad(x, [(0, 0), *added, (0, 0)], constant_values=np.nan)
        places = [len(range(0, x.shape[1 + a] - size[a] + 1, stride[a])) for a in (0, 1)]
        output = np.zeros((len(x), *places, x.shape[3]))
        for row in range(places[0]):
            for column in range(places[1]):
                top, left = row * stride[0], column * stride[1]
                output[:, row, column] = function(x[:, top : top + size[0], left : left + size[1]], axis=(1, 2))
        return output

    return each_row(apply)


def repeated(rows: int, columns: int) -> Reference:
    return each_row(lambda x: x.repeat(rows, axis=1).repeat(columns, axis=2))


def over_all(function: Callable[..., Array]) -> Reference:
    """All axes but the first and the last."""
    return each_row(lambda x: function(x, axis=tuple(range(1, x.ndim - 1))))


def pools(name: str, function: Callable[..., Array]) -> Case:
    return Case(
        name,
        (
            Variant(f"{name}((2, 3))", ANY_IMAGE, pooling(function, (2, 3)), sizes=at_least(2, 3)),
            Variant(f"{name}((3, 2), stride=1)", ANY_IMAGE, pooling(function, (3, 2), (1, 1)), sizes=at_least(3, 2)),
            Variant(
                f"{name}([2, 2], stride=[3, 1])", ANY_IMAGE, pooling(function, (2, 2), (3, 1)), sizes=at_least(2, 2)
            ),
            Variant(f"{name}((2, 2), padding='same')", ANY_IMAGE, pooling(function, (2, 2), padding="same")),
            Variant(f"{name}((3, 4), stride=1, padding='SAME')", ANY_IMAGE, pooling(function, (3, 4), (1, 1), "same")),
            Variant(
                f"{name}((4, 3), stride=(1, 2), padding='same')",
                ANY_IMAGE,
                pooling(function, (4, 3), (1, 2), "same"),
            ),
            Variant(
                f"{name}((1, 5), stride=(2,), padding='same', name='pool-{{}}')",
                ANY_IMAGE,
                pooling(function, (1, 5), (2, 1), "same"),
            ),
        ),
        (
            Refused(f"{name}(2)", TypeError, ("size", "2")),
            Refused(f"{name}((2, 2, 2))", ValueError, ("size", "(2, 2, 2)")),
            Refused(f"{name}((0, 2))", ValueError, ("size", "(0, 2)")),
            Refused(f"{name}((2.0, 2.0))", TypeError, ("size", "(2.0, 2.0)")),
            Refused(f"{name}((2, 2), stride=0)", ValueError, ("stride", "0")),
            Refused(f"{name}((2, 2), stride=(0, 1))", ValueError, ("stride", "(0, 1)")),
            Refused(f"{name}((2, 2), stride=(1, 1, 1))", ValueError, ("stride", "(1, 1, 1)")),
            Refused(f"{name}((2, 2), stride='one')", TypeError, ("stride", "'one'")),
            Refused(f"{name}((2, 2), padding='half')", ValueError, ("padding", "half", "valid")),
            Refused(f"{name}((2, 2), padding=1)", ValueError, ("padding", "1", "valid")),
            Refused(f"{name}((2, 2), padding=None)", ValueError, ("padding", "None", "valid")),
            Refused(f"{name}((2, 2))", LayerConnectionError, ("4 dimensions", "got 2", "(?, 10)"), ((10,),)),
            Refused(f"{name}((2, 3))", LayerConnectionError, ("(?, 4, 2, 1)", "0 columns"), ((4, 2, 1),)),
            Refused(f"{name}((5, 1), 9)", LayerConnectionError, ("(?, 3, ?, 1)", "0 rows"), ((3, None, 1),)),
            Refused(
                f"{name}((2, 2))", LayerConnectionError, ("1 input", "got 2", "(?, 4, 4, 1)"), ((4, 4, 1), (4, 4, 1))
            ),
        ),
    )


CASES: tuple[Case, ...] = (
    pools("MaxPooling", np.nanmax),
    pools("AveragePooling", np.nanmean),
    Case(
        "Upscale",
        (
            Variant("Upscale(2)", ANY_IMAGE, repeated(2, 2), exempt=NO_EMPTY_BATCH),
            Variant("Upscale((1, 3))", ANY_IMAGE, repeated(1, 3), exempt=NO_EMPTY_BATCH),
            Variant("Upscale([5, 2])", ANY_IMAGE, repeated(5, 2), exempt=NO_EMPTY_BATCH),
        ),
        (
            Refused("Upscale()", TypeError, ("scale",)),
            Refused("Upscale(0)", ValueError, ("scale", "0")),
            Refused("Upscale((2, -1))", ValueError, ("scale", "(2, -1)")),
            Refused("Upscale((2, 2, 2))", ValueError, ("scale", "(2, 2, 2)")),
            Refused("Upscale(1.5)", TypeError, ("scale", "1.5")),
            Refused("Upscale((2, '2'))", TypeError, ("scale", "'2'")),
            Refused("Upscale(2)", LayerConnectionError, ("4 dimensions", "got 3", "(?, 4, 3)"), ((4, 3),)),
            Refused("Upscale(2)", LayerConnectionError, ("1 input", "got 2", "(?, 4, 4, 1)"), ((4, 4, 1), (4, 4, 1))),
        ),
    ),
    Case(
        "GlobalPooling",
        (
            Variant("GlobalPooling('avg')", ANY_IMAGE, over_all(np.mean)),
            Variant("GlobalPooling('max')", ANY_IMAGE, over_all(np.max)),
            Variant("GlobalPooling('sum')", ANY_SEQUENCE, over_all(np.sum)),
            Variant("GlobalPooling('max')", ANY_VOLUME, over_all(np.max), sizes={"depth": (1, 3)}),
            Variant("GlobalPooling('avg')", ANY_MATRIX, each_row(lambda x: x)),
            Variant("GlobalPooling(torch.amax)", ANY_IMAGE, over_all(np.max), exempt=NOT_IMPORTED),
            Variant("GlobalPooling(torch.min)", ANY_SEQUENCE, over_all(np.min), exempt=NOT_IMPORTED),
            Variant(
                "GlobalPooling(lambda x, axis: x.amax(axis) - x.mean(axis))",
                ANY_IMAGE,
                over_all(lambda x, axis: x.max(axis) - x.mean(axis)),
                exempt={**NOT_IMPORTED, **UNPICKLABLE},
            ),
        ),
        (
            Refused("GlobalPooling()", TypeError, ("function",)),
            Refused("GlobalPooling('mean')", ValueError, ("function", "mean", "avg, max, sum")),
            Refused("GlobalPooling(None)", ValueError, ("function", "None", "avg, max, sum")),
            Refused("GlobalPooling(nn.AvgPool2d)", ValueError, ("function", "AvgPool2d")),
            Refused("GlobalPooling('avg')", LayerConnectionError, ("2 dimensions", "got 1", "(?,)"), ((),)),
            Refused("GlobalPooling('avg')", LayerConnectionError, ("1 input", "got 2", "(?, 4)"), ((4,), (4,))),
        ),
    ),
)
