"""What is told of a layer, so that laws.py, and the public contract, can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from torchneupy import init, layers

#: A shape of one sample, without the batch. A text stands for a size that may be any, and may be unknown; the same text
#: is the same size.
Shape: TypeAlias = tuple[int | str, ...]

Array: TypeAlias = np.ndarray[Any, Any]

#: Takes the variables by name and the inputs, all of float64, and gives the output.
Reference: TypeAlias = Callable[..., Array]

#: What the source of a variant can use.
NAMES: dict[str, Any] = {
    **{name: getattr(layers, name) for name in layers.__all__},
    **{name: getattr(init, name) for name in init.__all__},
    "np": np,
    "torch": torch,
    "nn": nn,
}


@dataclass(frozen=True)
class Variant:
    """A layer made in one way.

    Parameters
    ----------
    source : str
        The call that makes it, with ``NAMES``.
    inputs : Shape
        One for each input.
    reference : callable
        The output in evaluation mode, found in another way.
    variables : mapping
        Name to shape, in the order of creation.
    buffers : tuple of str
        Those among the variables that are not trained.
    sizes : mapping
        The least and the largest value of a size; (1, 6) for those that it does not tell.
    in_training : callable or None
        The output in training mode, as ``reference``. None where it is the same, or ``check_training`` checks it.
    after_training : callable or None
        What is in the buffers, by name, after one call in training mode; arguments as ``reference``. None where
        nothing changes.
    least_batch : int
        The least number of samples with which training works. Defaults to 0.
    check_training : callable or None
        Takes an input and the output in training mode, and asserts what has to be true of them. None where training
        changes nothing.
    random : bool
        Whether two outputs in training mode differ.
    exempt : mapping
        Name of a law, or of a part of the contract, to the reason why it cannot hold.
    """

    source: str
    inputs: tuple[Shape, ...]
    reference: Reference
    variables: Mapping[str, Shape] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    in_training: Reference | None = None
    after_training: Callable[..., Mapping[str, Array]] | None = None
    least_batch: int = 0
    check_training: Callable[[Array, Array], None] | None = None
    random: bool = False
    exempt: Mapping[str, str] = field(default_factory=dict)

    def make(self) -> Any:
        return eval(self.source, dict(NAMES))

    def __str__(self) -> str:
        ranks = ",".join(str(len(shape) + 1) for shape in self.inputs)
        return f"{self.source}@{ranks}d"

    def bounds(self) -> dict[str, tuple[int, int]]:
        """Name of a size to its least and its largest value."""
        names = dict.fromkeys(size for shape in self.inputs for size in shape if isinstance(size, str))
        return {name: self.sizes.get(name, (1, 6)) for name in names}

    def typical_sizes(self) -> dict[str, int]:
        """A value for each size, all different where the bounds let them."""
        return {
            name: min(max(least, 3 + place), most) for place, (name, (least, most)) in enumerate(self.bounds().items())
        }


@dataclass(frozen=True)
class Refused:
    """A use that has to fail.

    Parameters
    ----------
    source : str
        The call that makes the layer.
    error : class
    mentions : tuple of str
        What the message has to contain besides the layer: the option and its value, or the shapes.
    inputs : tuple of shapes, or None
        What it is connected to, which is what has to fail; None where making it has to fail already.
    """

    source: str
    error: type[Exception]
    mentions: tuple[str, ...]
    inputs: tuple[tuple[int | None, ...], ...] | None = None

    def __str__(self) -> str:
        return self.source if self.inputs is None else f"{self.inputs} >> {self.source}"


@dataclass(frozen=True)
class Case:
    """A layer: its public name, the ways to make it, and what it refuses.

    Attributes
    ----------
    not_recorded : str
        Why tests/golden has no numbers of NeuPy's for it, where it has none.
    """

    layer: str
    variants: tuple[Variant, ...]
    refused: tuple[Refused, ...]
    not_recorded: str = ""
