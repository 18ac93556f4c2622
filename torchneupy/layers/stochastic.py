"""Layers that add noise while training and pass their input on otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from torchneupy.core.properties import NumberProperty, ProperFractionProperty, TypedListProperty
from torchneupy.core.shape import ShapeLike, TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers.axes import by_value
from torchneupy.layers.base import Identity

__all__ = ["DropBlock", "Dropout", "GaussianNoise"]


class Dropout(Identity):
    """Sets a share of the values to zero while training, and scales the others by ``1 / (1 - proba)``.

    ``output(x, training=...)`` is ``torch.nn.functional.dropout(x, proba, training)``; without ``training`` it gives
    back ``x`` itself. Input and output have the same shape.

    Parameters
    ----------
    proba : float
        The share, from 0 to 1. With 1 everything is zero.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError, ValueError
        If ``proba`` is no number, or not between 0 and 1.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting, 2014, https://jmlr.org/papers/v15/srivastava14a.html

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> Dropout(0.5)
    Dropout(proba=0.5, name='dropout-1')
    >>> x = torch.ones(3)
    >>> Dropout(0.5).output(x) is x
    True
    >>> Dropout(1.5)
    Traceback (most recent call last):
    ...
    ValueError: Value `proba` should be between 0 and 1, got 1.5 (option of Dropout)
    """

    proba = ProperFractionProperty()

    def __init__(self, proba: float, name: str | None = None) -> None:
        self.specify(proba=proba)
        super().__init__(name=name)

    def output(self, input: Any, training: bool = False) -> Any:  # type: ignore[override]  # no other keywords
        if not training:
            return input
        return by_value(functional.dropout, input, p=self.proba, training=True)


class GaussianNoise(Identity):
    """Adds normally distributed noise while training.

    Input and output have the same shape.

    Parameters
    ----------
    mean : float
        Mean of the noise. Defaults to ``0``.
    std : float
        Standard deviation of the noise, at least 0. Defaults to ``1``.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number, or ``std`` is negative.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input(10) >> Relu(5) >> GaussianNoise(std=0.1)
    (?, 10) -> [... 3 layers ...] -> (?, 5)
    """

    mean = NumberProperty()
    std = NumberProperty(minval=0)

    def __init__(self, mean: float = 0, std: float = 1, name: str | None = None) -> None:
        self.specify(mean=mean, std=std)
        super().__init__(name=name)

    def output(self, input: Any, training: bool = False) -> Any:  # type: ignore[override]  # no other keywords
        if not training:
            return input
        # Drawn in the order of the input's axes, as the numbers depend on it.
        return by_value(torch.add, input, torch.randn_like(input) * self.std + self.mean)


class DropBlock(Identity):
    r"""Sets blocks of neighbouring values to zero while training, and scales the others up by the share that is kept.

    Each value of the region in which a block fits is the corner of a dropped block with the probability

    .. math:: \frac{1 - keep}{block\_height \cdot block\_width} \cdot
              \frac{height \cdot width}{(height - block\_height + 1)(width - block\_width + 1)}

    on its own for each sample and channel. The scale is that of the whole batch; where nothing is kept the output is
    zero, and an image smaller than the block stays as it is.

    Shapes: input and output ``(batch, height, width, channels)``.

    Parameters
    ----------
    keep_proba : float
        About the share of values to keep, from 0 to 1.
    block_size : int or tuple of int
        ``(height, width)`` of a block; one number stands for both.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of its range.
    LayerConnectionError
        When connected to an input that has not four dimensions.

    References
    ----------
    Ghiasi, Lin, Le: DropBlock: A regularization method for convolutional networks, 2018,
    https://arxiv.org/abs/1810.12890

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input((28, 28, 1)) >> DropBlock(keep_proba=0.9, block_size=5)
    (?, 28, 28, 1) -> [... 2 layers ...] -> (?, 28, 28, 1)
    """

    keep_proba = ProperFractionProperty()
    block_size = TypedListProperty(n_elements=2, minval=1, single=True)

    def __init__(self, keep_proba: float, block_size: int | tuple[int, int], name: str | None = None) -> None:
        self.specify(keep_proba=keep_proba, block_size=block_size)
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        shape = TensorShape(input_shape)
        if shape and shape.ndims != 4:
            raise LayerConnectionError(
                f"DropBlock layer expects input with 4 dimensions (batch, height, width, channels), got "
                f"{shape.ndims} with shape {shape}. Layer: {self}"
            )
        return shape

    def output(self, input: Any, training: bool = False) -> Any:  # type: ignore[override]  # no other keywords
        if not training:
            return input
        batch, height, width, channels = input.shape
        block_height, block_width = self.block_size
        rows, columns = height - block_height + 1, width - block_width + 1
        if rows < 1 or columns < 1:
            return input
        share = (1 - self.keep_proba) * height * width / (block_height * block_width * rows * columns)
        seeds = torch.rand((batch, rows, columns, channels), device=input.device, dtype=torch.float32) < share
        # A block reaches from its seed downwards and to the right: padded on both sides, and the largest of a window
        # taken, each seed fills its block. Drawn channels-last, which is the layout that the pooling keeps.
        margins = (block_width - 1, block_width - 1, block_height - 1, block_height - 1)
        precise = torch.promote_types(input.dtype, torch.float32)
        padded = functional.pad(seeds.permute(0, 3, 1, 2).to(precise), margins)
        dropped = functional.max_pool2d(padded, (block_height, block_width), stride=1).permute(0, 2, 3, 1)
        kept = 1 - dropped
        scale = 1 / kept.mean().clamp(min=torch.finfo(kept.dtype).tiny)
        return by_value(torch.mul, input, (kept * scale).to(input.dtype))
