"""ResNet-50: blocks of three convolutions, each with a short way around it."""

from __future__ import annotations

from typing import Any

from torchneupy.core.shape import ShapeLike
from torchneupy.layers import (
    BatchNorm,
    Convolution,
    Elementwise,
    GlobalPooling,
    Identity,
    Input,
    LayerGraph,
    MaxPooling,
    Relu,
    Softmax,
    join,
)

__all__ = ["resnet50"]

#: For each ratio of the input's size to the output's: the strides of the third, fourth and fifth stage, and by how much
#: the filters of their later blocks are spread to see as far as if all strides were there.
RATIOS = {
    4: ((1, 1, 1), (2, 4, 8)),
    8: ((2, 1, 1), (1, 2, 4)),
    16: ((2, 2, 1), (1, 1, 2)),
    32: ((2, 2, 2), (1, 1, 1)),
}


def normalised_convolution(size: tuple[int, int, int], name: str, **options: Any) -> Any:
    """A convolution without bias, and BatchNorm."""
    return join(Convolution(size, bias=None, name=f"res{name}", **options), BatchNorm(name=f"bn{name}"))


def residual_block(name: str, n_filters: int, stride: int = 1, dilation: int = 1, has_convolution: bool = False) -> Any:
    """Three convolutions, to whose output the block's input is added, if need be through a convolution."""
    n_outputs = 4 * n_filters
    main = join(
        normalised_convolution((1, 1, n_filters), f"{name}_branch2a", stride=stride),
        Relu(),
        normalised_convolution((3, 3, n_filters), f"{name}_branch2b", padding="same", dilation=dilation),
        Relu(),
        normalised_convolution((1, 1, n_outputs), f"{name}_branch2c"),
    )
    if has_convolution:
        short = normalised_convolution((1, 1, n_outputs), f"{name}_branch1", stride=stride)
    else:
        short = Identity(f"residual-{name}")
    return join(main | short, Elementwise(), Relu())


def stage(number: int, n_blocks: int, n_filters: int, stride: int, first_dilation: int, dilation: int) -> Any:
    """Blocks of equal sizes, of which the first one may halve height and width."""
    names = [f"{number}{letter}" for letter in "abcdef"[:n_blocks]]
    first = residual_block(names[0], n_filters, stride, first_dilation, has_convolution=True)
    return join(first, *(residual_block(name, n_filters, dilation=dilation) for name in names[1:]))


def resnet50(
    input_shape: ShapeLike = (224, 224, 3), include_global_pool: bool = True, in_out_ratio: int = 32
) -> LayerGraph:
    """ResNet-50, for the thousand classes of ImageNet: 25,557,032 parameters.

    Parameters
    ----------
    input_shape : tuple
        ``(height, width, 3)``; heights and widths may be None. Defaults to ``(224, 224, 3)``.
    include_global_pool : bool
        ``True`` ends in a mean over height and width, and a Softmax layer: output ``(batch, 1000)``. ``False`` leaves
        these two out: output ``(batch, height / ratio, width / ratio, 2048)``. Defaults to ``True``.
    in_out_ratio : {4, 8, 16, 32}
        By how much height and width shrink on the way. Where strides are left out to shrink less, the filters behind
        them are spread instead. Defaults to ``32``.

    Raises
    ------
    ValueError
        If there is no such ratio.

    References
    ----------
    He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015, https://arxiv.org/abs/1512.03385

    Examples
    --------
    >>> import torch
    >>> from torchneupy import architectures
    >>> from torchneupy.layers import *
    >>> with torch.device("meta"):
    ...     network = architectures.resnet50()
    ...     features = architectures.resnet50(include_global_pool=False, in_out_ratio=8)
    ...     other_classes = features >> GlobalPooling("avg") >> Softmax(21)
    >>> network
    (?, 224, 224, 3) -> [... 187 layers ...] -> (?, 1000)
    >>> features
    (?, 224, 224, 3) -> [... 185 layers ...] -> (?, 28, 28, 2048)
    >>> other_classes
    (?, 224, 224, 3) -> [... 187 layers ...] -> (?, 21)
    """
    if in_out_ratio not in RATIOS:
        known = ", ".join(map(str, RATIOS))
        raise ValueError(f"Expected one of the following in_out_ratio values: {known}, got {in_out_ratio!r} instead")
    strides, dilations = RATIOS[in_out_ratio]
    images = join(
        Input(input_shape),
        Convolution((7, 7, 64), stride=2, bias=None, padding="same", name="conv1"),
        BatchNorm(name="bn_conv1"),
        Relu(),
        MaxPooling((3, 3), stride=2, padding="same"),
        stage(2, 3, 64, 1, 1, 1),
        stage(3, 4, 128, strides[0], 1, dilations[0]),
        stage(4, 6, 256, strides[1], dilations[0], dilations[1]),
        stage(5, 3, 512, strides[2], dilations[1], dilations[2]),
    )
    return join(images, GlobalPooling("avg"), Softmax(1000, name="fc1000")) if include_global_pool else images
