"""A layer that looks values up in a table."""

from __future__ import annotations

from typing import Any

import torch

from torchneupy import init
from torchneupy.core.properties import IntProperty, ParameterProperty
from torchneupy.core.shape import ShapeLike, TensorShape
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.tracing import is_transformed

__all__ = ["Embedding"]


class Embedding(BaseLayer):
    """For each index a row of a table that is learned.

    Shapes: input ``(batch, ...)``, output ``(batch, ..., output_size)``. The input holds whole numbers from 0 to
    ``input_size - 1``; of fractions the whole part counts.

    Parameters
    ----------
    input_size : int
        Number of rows.
    output_size : int
        Number of values of a row.
    weight : Initializer, number, array or tensor
        The table, ``(input_size, output_size)``. An ``nn.Parameter`` is shared, everything else is copied. Defaults to
        ``HeNormal()``.
    name : str or None
        As in :class:`BaseLayer`.

    Attributes
    ----------
    weight : nn.Parameter or None
        ``None`` until the layer is connected.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of its range.
    IndexError
        When called with an index that is not in the table, on the CPU. On CUDA the program fails at some later time
        with an assertion of the device: nothing is read back from there to look at it.
    WeightInitializationError
        When called before it is connected.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> join(Input(40), Embedding(1000, 16), LSTM(20), Sigmoid(1))
    (?, 40) -> [... 4 layers ...] -> (?, 1)
    """

    takes_indices = True

    input_size = IntProperty(minval=1, fixed=True)
    output_size = IntProperty(minval=1, fixed=True)
    weight = ParameterProperty()

    def __init__(
        self, input_size: int, output_size: int, weight: Any = init.HeNormal(), name: str | None = None
    ) -> None:
        self.specify(input_size=input_size, output_size=output_size, weight=weight)
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        return TensorShape(input_shape).concatenate(self.output_size)

    def create_variables(self, input_shape: Any) -> None:
        self.variable(None, "weight", shape=(self.input_size, self.output_size))

    def output(self, input: Any, **kwargs: Any) -> Any:
        weight = self.weight
        if weight is None:
            self.fail_if_not_built()
        indices = input.long()
        try:
            return torch.embedding(weight, indices)
        except IndexError as error:
            found = "" if is_transformed() else f" (they go from {indices.min()} to {indices.max()})"
            raise IndexError(
                f"Layer `{self.name}` got indices that are not all between 0 and {self.input_size - 1}{found}: "
                f"{error}. Layer: {self}"
            ) from error

    def __repr__(self) -> str:
        return self._repr_arguments(self.input_size, self.output_size, weight=self._option("weight"), name=self.name)
