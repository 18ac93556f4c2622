"""Strategies for shapes of which some sizes may be unknown."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from torchneupy.core.shape import Dimension, ShapeLike, TensorShape

__all__ = ["known_sizes", "partly_unknown", "shapes"]


def partly_unknown(sizes: Iterable[Dimension]) -> st.SearchStrategy[tuple[Dimension, ...]]:
    """Sizes of which any may be hidden; none is in the smallest example."""
    return st.tuples(*(st.sampled_from([size, None]) for size in sizes))


def shapes(
    min_dims: int = 0, max_dims: int = 4, min_side: int = 1, max_side: int = 6, unknown: bool = True
) -> st.SearchStrategy[TensorShape]:
    """Shapes, the batch among their sizes.

    Parameters
    ----------
    min_dims, max_dims : int
        The least and the largest number of dimensions. Default to ``0`` and ``4``.
    min_side, max_side : int
        The least and the largest size. Default to ``1`` and ``6``.
    unknown : bool
        Whether sizes, and even the number of dimensions, may be unknown. Defaults to ``True``.

    Returns
    -------
    strategy of TensorShape
        The smallest is ``TensorShape([])``, or has ``min_dims`` sizes of ``min_side``.

    Raises
    ------
    hypothesis.errors.InvalidArgument
        If a bound is not whole or negative, or a least value is more than the largest.

    Examples
    --------
    >>> from hypothesis import given
    >>> from torchneupy.layers import Identity
    >>> @given(shapes(min_dims=1))
    ... def test_identity_keeps_shapes(shape):
    ...     assert Identity().get_output_shape(shape) == shape
    >>> test_identity_keeps_shapes()
    """
    sizes = numpy_strategies.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)
    sizes.validate()  # at once, not when something is drawn
    if not unknown:
        return sizes.map(TensorShape)
    known_rank = st.sampled_from([True, True, True, False])
    return st.tuples(sizes.flatmap(partly_unknown), known_rank).map(
        lambda pair: TensorShape(pair[0] if pair[1] else None)
    )


def known_sizes(shape: ShapeLike, purpose: str) -> tuple[int, ...]:
    """A shape as the tuple of its sizes.

    Raises
    ------
    ValueError
        If a size is unknown.
    """
    known = TensorShape(shape)
    if not known.is_fully_defined():
        raise ValueError(f"{purpose} needs a shape whose sizes are all known, got {known}")
    return tuple(size for size in known if size is not None)
