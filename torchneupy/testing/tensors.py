"""Strategies for tensors: their values are drawn, so that failures reproduce and shrink."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from torchneupy.core.shape import ShapeLike
from torchneupy.testing.shapes import known_sizes

__all__ = ["tensors"]

# From how many values on most are one that is drawn once: hypothesis gives up on examples that draw more.
MANY = 256

# What numpy has no type for is drawn in this one, which has all its values or more.
DRAWN_AS: dict[torch.dtype, Any] = {torch.bfloat16: np.float32}


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    try:
        return np.dtype(DRAWN_AS.get(dtype) or torch.empty(0, dtype=dtype).numpy().dtype)
    except TypeError:
        raise ValueError(f"Cannot draw tensors of {dtype}, which numpy does not have") from None


def moderate(dtype: torch.dtype, largest: float) -> st.SearchStrategy[Any]:
    """Values that are no cause of trouble by themselves: none is infinite, close to zero but not zero, or no number."""
    drawn = numpy_dtype(dtype)
    if dtype is torch.bool:
        return numpy_strategies.from_dtype(drawn)
    if not (dtype.is_floating_point or dtype.is_complex):
        limits = torch.iinfo(dtype)
        least, most = int(max(-largest, limits.min)), int(min(largest, limits.max))
        return numpy_strategies.from_dtype(drawn, min_value=least, max_value=most)
    largest = min(largest, torch.finfo(dtype).max)
    # Steps of an eighth are exact in every type.
    steps = st.integers(round(-8 * largest), round(8 * largest)).map(lambda step: step / 8)
    return st.builds(complex, steps, steps) if dtype.is_complex else steps


def tensors(
    shape: ShapeLike | st.SearchStrategy[Any],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    elements: st.SearchStrategy[Any] | None = None,
    largest: float = 4,
    requires_grad: bool = False,
) -> st.SearchStrategy[torch.Tensor]:
    """Tensors of a shape, with drawn values.

    Parameters
    ----------
    shape : TensorShape, tuple of int, int, or a strategy for them
        All its sizes are known.
    dtype : torch.dtype
        Defaults to ``torch.float32``.
    device : torch.device or str
        Where the tensor is put. Defaults to ``"cpu"``.
    elements : strategy or None
        For the values. Defaults to ``None``, which draws multiples of 1/8, or whole numbers, up to ``largest``.
    largest : float
        The largest absolute value without ``elements``. Defaults to ``4``.
    requires_grad : bool
        Defaults to ``False``.

    Returns
    -------
    strategy of Tensor
        Shrinks towards small shapes, and towards zeros.

    Raises
    ------
    ValueError
        If a size of the shape is unknown, ``largest`` is negative, numpy has no such dtype, or the dtype no gradient.
    RuntimeError
        If there is no such device.

    Examples
    --------
    >>> import torch
    >>> from hypothesis import given
    >>> @given(tensors((3, 4)))
    ... def test_relu_is_never_negative(x):
    ...     assert (torch.relu(x) >= 0).all()
    >>> test_relu_is_never_negative()
    """
    if isinstance(shape, st.SearchStrategy):
        return shape.flatmap(
            lambda drawn: tensors(drawn, dtype, device, elements=elements, largest=largest, requires_grad=requires_grad)
        )
    sizes = known_sizes(shape, "tensors()")
    if not largest >= 0:
        raise ValueError(f"The largest absolute value has to be at least 0, got {largest}")
    if requires_grad and not (dtype.is_floating_point or dtype.is_complex):
        raise ValueError(f"Tensors of {dtype} have no gradient, as requires_grad asks for")
    torch.empty(0, device=device)  # or torch says what is wrong with the device
    values = moderate(dtype, largest) if elements is None else elements
    fill = values if math.prod(sizes) > MANY else st.nothing()
    arrays = numpy_strategies.arrays(numpy_dtype(dtype), sizes, elements=values, fill=fill)
    return arrays.map(lambda array: torch.tensor(array, dtype=dtype, device=device, requires_grad=requires_grad))
