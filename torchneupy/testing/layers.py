"""Strategies for single layers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from torchneupy.core.shape import ShapeLike
from torchneupy.layers import BaseLayer
from torchneupy.testing.arguments import warm_up
from torchneupy.testing.catalogue import Palette, Sizes
from torchneupy.testing.shapes import known_sizes

__all__ = ["LARGEST_INPUT_SIDE", "draw_suitable", "layers", "sample_sizes", "sizes_of_inputs"]

#: The largest size that is drawn for inputs.
LARGEST_INPUT_SIDE = 4


def sample_sizes(min_ndim: int = 1, max_ndim: int = 4) -> st.SearchStrategy[Sizes]:
    """Sizes of a sample, for shapes of such numbers of dimensions with the batch."""
    return numpy_strategies.array_shapes(
        min_dims=min_ndim - 1, max_dims=max_ndim - 1, min_side=1, max_side=LARGEST_INPUT_SIDE
    )


def sizes_of_inputs(input_shape: ShapeLike | list[Any], purpose: str) -> list[Sizes]:
    """The shape of one input, or those of several in a list, as tuples of sizes.

    Raises
    ------
    ValueError
        If a size is unknown.
    """
    shapes = input_shape if isinstance(input_shape, list) else [input_shape]
    return [known_sizes(shape, purpose) for shape in shapes]


def draw_suitable(draw: st.DrawFn, palette: Palette, *sizes: Sizes) -> BaseLayer:
    """A layer that can take inputs of these sizes."""
    suitable = palette.suitable(*sizes)
    layer: BaseLayer = draw(suitable[draw(st.sampled_from(list(suitable)))])
    return layer


@st.composite
def any_layer(draw: st.DrawFn, palette: Palette, sizes: list[Sizes]) -> BaseLayer:
    return draw_suitable(draw, palette, *sizes)


@st.composite
def layer_for_some_input(draw: st.DrawFn, palette: Palette) -> BaseLayer:
    found = draw(sample_sizes().filter(palette.suitable))
    return draw_suitable(draw, palette, found)


def layers(
    input_shape: ShapeLike | list[Any] = None,
    *,
    allow: Collection[type[BaseLayer]] | None = None,
    forbid: Collection[type[BaseLayer]] = (),
) -> st.SearchStrategy[BaseLayer]:
    """Layers with valid options, which are not connected yet.

    Parameters
    ----------
    input_shape : int, tuple, TensorShape, list of them, or None
        Shape of one sample, as for ``Input``; a list is for several inputs. Defaults to ``None``: a layer that can take
        one input of some shape.
    allow, forbid : collection of classes
        Which classes may be drawn, and which not. By default all may that take so many inputs: those of the library,
        and what was registered by :func:`register_layer`.

    Returns
    -------
    strategy of BaseLayer

    Raises
    ------
    ValueError
        If a size is unknown, a class is not registered, or no class can take such inputs.

    Examples
    --------
    >>> from hypothesis import given
    >>> from torchneupy.layers import Input
    >>> from torchneupy.testing import layers
    >>> @given(layers(input_shape=(4, 4, 3)))
    ... def test_batch_is_left_open(layer):
    ...     assert (Input((4, 4, 3)) >> layer).output_shape[0] is None
    >>> test_batch_is_left_open()
    """
    warm_up()
    palette = Palette(allow, forbid)
    if input_shape is None:
        if not palette.takes_one:
            raise ValueError(f"None takes one input alone, give the shapes of several: there are only {palette}")
        return layer_for_some_input(palette)
    sizes = sizes_of_inputs(input_shape, "layers()")
    if not palette.suitable(*sizes):
        raise ValueError(f"No class of layers that may be drawn can take inputs of the sizes {sizes}")
    return any_layer(palette, sizes)
