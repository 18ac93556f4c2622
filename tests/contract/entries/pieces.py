"""What many entries share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.contract.entry import Array, Reference, Shape

ANY_MATRIX: tuple[Shape, ...] = (("features",),)
ANY_SEQUENCE: tuple[Shape, ...] = (("steps", "features"),)
ANY_IMAGE: tuple[Shape, ...] = (("height", "width", "channels"),)

UNPICKLABLE = dict.fromkeys(("pickle", "pickle_keeps_options"), "Python cannot pickle a lambda")
SHAPES_OF_ARRAYS = {"repr_evaluates": "An array is shown by its shape"}


def same(values: Mapping[str, Array], x: Array) -> Array:
    return x


def each_row(function: Callable[..., Array]) -> Reference:
    """For a function of the inputs alone."""
    return lambda values, *inputs: function(*inputs)
