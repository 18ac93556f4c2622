"""Layers that put the same values into another shape."""

from __future__ import annotations

import numpy as np

from tests.contract.entries.pieces import ANY_IMAGE, ANY_MATRIX, ANY_SEQUENCE, each_row
from tests.contract.entry import Array, Case, Reference, Refused, Variant
from torchneupy.exceptions import LayerConnectionError


def as_shape(*sizes: int) -> Reference:
    def apply(values: object, x: Array) -> Array:
        left = int(np.prod(x.shape[1:])) // abs(int(np.prod(sizes)))
        return x.reshape(len(x), *(left if size == -1 else size for size in sizes))

    return apply


CASES: tuple[Case, ...] = (
    Case(
        "Reshape",
        (
            Variant("Reshape()", ANY_IMAGE, as_shape(-1)),
            Variant("Reshape(-1)", ((),), as_shape(-1)),
            Variant("Reshape((2, -1, 2))", (("steps", 4),), as_shape(2, -1, 2)),
            Variant("Reshape([3, 4])", ((2, 6),), as_shape(3, 4)),
            Variant("Reshape((-1, 1))", ANY_MATRIX, as_shape(-1, 1)),
            Variant("Reshape(())", ((1, 1),), as_shape()),
        ),
        (
            Refused("Reshape('flat')", TypeError, ("shape", "('flat',)")),
            Refused("Reshape((2, 1.5))", TypeError, ("shape", "(2, 1.5)")),
            Refused("Reshape((-1, -1))", ValueError, ("shape", "(-1, -1)")),
            Refused("Reshape((3, -2))", ValueError, ("shape", "(3, -2)")),
            Refused("Reshape((3, 0))", ValueError, ("shape", "(3, 0)")),
            Refused("Reshape((3, -1))", LayerConnectionError, ("(3, -1)", "(?, 5, 4)"), ((5, 4),)),
            Refused("Reshape((3, 7))", LayerConnectionError, ("(3, 7)", "(?, 5, 4)"), ((5, 4),)),
            Refused("Reshape()", LayerConnectionError, ("1 input", "got 2", "(?, 4)", "(?, 3)"), ((4,), (3,))),
        ),
    ),
    Case(
        "Transpose",
        (
            Variant("Transpose((0, 2, 1))", ANY_SEQUENCE, each_row(lambda x: x.transpose(0, 2, 1))),
            Variant("Transpose([0, -1, 1, 2])", ANY_IMAGE, each_row(lambda x: x.transpose(0, 3, 1, 2))),
            Variant("Transpose((0, 1))", ANY_MATRIX, each_row(lambda x: x)),
        ),
        (
            Refused("Transpose()", TypeError, ("perm",)),
            Refused("Transpose(1)", TypeError, ("perm", "1")),
            Refused("Transpose((0, 1.5))", TypeError, ("perm", "(0, 1.5)")),
            Refused("Transpose((0, 3, 1))", LayerConnectionError, ("(0, 3, 1)", "(?, 7, 11)"), ((7, 11),)),
            Refused("Transpose((0, 1, 1))", ValueError, ("perm", "(0, 1, 1)", "unique")),
            Refused("Transpose((0, 2))", LayerConnectionError, ("(0, 2)", "(?, 7, 11)"), ((7, 11),)),
            Refused("Transpose((0, 1, -2))", LayerConnectionError, ("(0, 1, -2)", "(?, 7, 11)"), ((7, 11),)),
        ),
    ),
)
