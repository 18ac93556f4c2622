"""VGG: rows of 3x3 convolutions, halved in size by pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torchneupy.layers import Convolution, Dropout, Input, LayerGraph, Linear, MaxPooling, Relu, Reshape, Softmax, join

__all__ = ["vgg16", "vgg19"]

#: Filters of the convolutions of each block.
FILTERS = (64, 128, 256, 512, 512)


def vgg(n_convolutions: tuple[int, ...]) -> LayerGraph:
    """A VGG with so many convolutions in each of its blocks."""
    return join(Input((224, 224, 3)), *images(n_convolutions), *classifier())


def images(n_convolutions: tuple[int, ...]) -> Iterator[Any]:
    """The blocks of convolutions."""
    for block, (filters, count) in enumerate(zip(FILTERS, n_convolutions, strict=True), start=1):
        for index in range(1, count + 1):
            yield Convolution((3, 3, filters), padding="SAME", name=f"conv{block}_{index}")
            yield Relu()
        yield MaxPooling((2, 2))


def classifier() -> Iterator[Any]:
    """The dense layers."""
    yield Reshape()
    for index in (1, 2):
        yield Linear(4096, name=f"dense_{index}")
        yield Relu()
        yield Dropout(0.5)
    yield Linear(1000, name="dense_3")
    yield Softmax()


def vgg16() -> LayerGraph:
    """VGG16, for the thousand classes of ImageNet: 138,357,544 parameters.

    Input ``(batch, 224, 224, 3)``, output ``(batch, 1000)``.

    References
    ----------
    Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014,
    https://arxiv.org/abs/1409.1556

    Examples
    --------
    Without memory for the weights:

    >>> import torch
    >>> from torchneupy import architectures
    >>> with torch.device("meta"):
    ...     network = architectures.vgg16()
    >>> network
    (?, 224, 224, 3) -> [... 41 layers ...] -> (?, 1000)
    """
    return vgg((2, 2, 3, 3, 3))


def vgg19() -> LayerGraph:
    """VGG19, for the thousand classes of ImageNet: 143,667,240 parameters.

    Input ``(batch, 224, 224, 3)``, output ``(batch, 1000)``.

    References
    ----------
    Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014,
    https://arxiv.org/abs/1409.1556

    Examples
    --------
    >>> import torch
    >>> from torchneupy import architectures
    >>> with torch.device("meta"):
    ...     network = architectures.vgg19()
    >>> network
    (?, 224, 224, 3) -> [... 47 layers ...] -> (?, 1000)
    """
    return vgg((2, 2, 4, 4, 4))
