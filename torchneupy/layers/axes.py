"""The two orders of an image's axes: ``(batch, height, width, channels)`` outside, torch's own within."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchneupy.layers.tracing import is_compiled, is_open

__all__ = [
    "AXES_FIRST",
    "by_value",
    "channels_first",
    "channels_last",
    "given",
    "goes_channels_first",
    "kept",
    "kept_alone",
]

#: Where torch has each axis.
AXES_FIRST = (0, 2, 3, 1)


def channels_first(image: Any) -> Any:
    """An image as torch's kernels want it: a view, in the layout ``channels_last``, which they keep."""
    return image.permute(0, 3, 1, 2)


def channels_last(image: Any) -> Any:
    """The way back from :func:`channels_first`, which is a view too."""
    return image.permute(0, 2, 3, 1)


def kept(value: Any) -> Any:
    """A value as a network that is compiled keeps it between layers: an image in torch's order of axes.

    Each layer that reads it is then given a change of axes of its own, which can cancel with the layer's; one that
    several layers share cannot, and where their gradients are added up it would stand in the way, too.
    """
    return channels_first(value) if isinstance(value, torch.Tensor) and value.ndim == 4 else value


def given(value: Any) -> Any:
    """The way back from :func:`kept`."""
    return channels_last(value) if isinstance(value, torch.Tensor) and value.ndim == 4 else value


def kept_alone(image: Any) -> Any:
    """An image whose axes were changed, as values of its own where compilers cannot do with a view.

    That is where height or width are open and the image is kept for the gradient: torch 2.13 and 2.14 ask of the view's
    strides which is the least, and cannot tell.
    """
    if is_compiled() and torch.is_grad_enabled() and any(map(is_open, image.shape[2:])):
        return image.clone(memory_format=torch.contiguous_format)
    return image


def goes_channels_first(*values: Any) -> bool:
    """Whether a layer that could do without should change the axes of its inputs, too, as it is compiled.

    Between two layers for images each change then undoes the one before, and the compiler removes both. Else it would
    keep some values in both orders, and write some in an order that suits no reader: a training step of convolutions
    and rectifiers takes 1.7 times as long (torch 2.13).
    """
    return is_compiled() and all(value.ndim == 4 for value in values)


def by_value(function: Callable[..., Any], *values: Any, **options: Any) -> Any:
    """What a function that treats each value, or the values in one place, alone makes of tensors of one shape."""
    if goes_channels_first(*values):
        return channels_last(function(*map(channels_first, values), **options))
    return function(*values, **options)
