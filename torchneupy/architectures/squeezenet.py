"""SqueezeNet: few channels into each pair of convolutions, many out of it."""

from __future__ import annotations

from typing import Any

from torchneupy.layers import (
    Concatenate,
    Convolution,
    Dropout,
    GlobalPooling,
    Input,
    LayerGraph,
    MaxPooling,
    Relu,
    Reshape,
    Softmax,
    join,
    parallel,
)

__all__ = ["squeezenet"]

SameConvolution = Convolution.define(padding="SAME")


def fire(name: str, n_squeezed: int, n_expanded: int) -> Any:
    """A 1x1 convolution with few filters, and behind it a 1x1 and a 3x3 convolution side by side."""
    return join(
        SameConvolution((1, 1, n_squeezed), name=f"{name}/squeeze1x1"),
        Relu(),
        parallel(
            [SameConvolution((1, 1, n_expanded), name=f"{name}/expand1x1"), Relu()],
            [SameConvolution((3, 3, n_expanded), name=f"{name}/expand3x3"), Relu()],
        ),
        Concatenate(),
    )


def squeezenet() -> LayerGraph:
    """SqueezeNet 1.0, for the thousand classes of ImageNet: 1,248,424 parameters.

    Input ``(batch, 227, 227, 3)``, output ``(batch, 1000)``.

    References
    ----------
    Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
    <0.5MB model size, 2016, https://arxiv.org/abs/1602.07360

    Examples
    --------
    >>> import torch
    >>> from torchneupy import architectures
    >>> with torch.device("meta"):
    ...     network = architectures.squeezenet()
    >>> network
    (?, 227, 227, 3) -> [... 67 layers ...] -> (?, 1000)
    """
    return join(
        Input((227, 227, 3)),
        Convolution((7, 7, 96), stride=(2, 2), padding="VALID", name="conv1"),
        Relu(),
        MaxPooling((3, 3), stride=(2, 2)),
        fire("fire2", 16, 64),
        fire("fire3", 16, 64),
        fire("fire4", 32, 128),
        MaxPooling((2, 2)),
        fire("fire5", 32, 128),
        fire("fire6", 48, 192),
        fire("fire7", 48, 192),
        fire("fire8", 64, 256),
        MaxPooling((2, 2)),
        fire("fire9", 64, 256),
        Dropout(0.5),
        Convolution((1, 1, 1000), name="conv10"),
        GlobalPooling("avg"),
        Reshape(),
        Softmax(),
    )
