"""Axes in the order in which torch's kernel of batch normalisation wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from torchneupy.layers.tracing import is_recorded

__all__ = ["Arrangement"]


def with_plain_strides(values: Any) -> Any:
    """The values, one behind the other in memory, if that could be told of axes of one element in several ways.

    The strides of such axes mean nothing, but torch reads the order of the others from them. The gradient of its batch
    normalisation on the CPU then takes a gradient that comes in another order for its own, and is wrong (torch 2.13 and
    2.14): for a transposed image, say, whose width is 1.
    """
    if torch.compiler.is_compiling() or is_recorded() or 1 not in values.shape:
        return values
    step = 1
    for size, stride in zip(reversed(values.shape), reversed(values.stride()), strict=True):
        if stride != step:
            return values.contiguous().flatten().view(values.shape)
        step *= size
    return values


class Arrangement(NamedTuple):
    """How values are shown to a kernel that normalises ``(rows, channels, ...)`` along all axes but the channels.

    Nothing is copied unless the axes that are kept lie apart.

    Attributes
    ----------
    order, back : tuple of int or None
        The axes in the order: ``n_rows`` that are normalised, ``n_kept`` that are kept, the others; and the way back.
        None where they are in that order.
    n_rows, n_kept : int
        How many axes become one. If none is kept, all values are of one channel.
    """

    order: tuple[int, ...] | None
    back: tuple[int, ...] | None
    n_rows: int
    n_kept: int

    @classmethod
    def along(cls, axes: Sequence[int], ndims: int) -> Arrangement:
        """The arrangement that normalises along these axes, counted from the first and in order."""
        kept = [axis for axis in range(ndims) if axis not in axes]
        if not kept:
            return cls(None, None, 1, 0)
        if kept == [ndims - 1] and ndims in (4, 5):
            # Images are not made a matrix, because they may lie in memory with the channels first.
            order = [0, ndims - 1, *range(1, ndims - 1)]
        elif kept[0] > 0 and kept[-1] - kept[0] == len(kept) - 1:
            return cls(None, None, kept[0], len(kept))
        else:
            order = [*axes, *kept]
        return cls(tuple(order), tuple(map(order.index, range(ndims))), order.index(kept[0]), len(kept))

    def apply(self, values: Any) -> Any:
        """The values as the kernel wants them."""
        values = with_plain_strides(values)
        if self.order is not None:
            values = values.permute(self.order)
        if self.n_kept == 0:
            values = values.unsqueeze(1)
        elif self.n_kept > 1:
            values = values.flatten(self.n_rows, self.n_rows + self.n_kept - 1)
        return values if self.n_rows == 1 else values.flatten(0, self.n_rows - 1)

    def undo(self, output: Any, values: Any) -> Any:
        """What the kernel has made of the values, with the axes where they have them."""
        if self.order is not None:
            return output.reshape([values.shape[axis] for axis in self.order]).permute(self.back)
        return output if self.n_rows == self.n_kept == 1 else output.reshape(values.shape)
