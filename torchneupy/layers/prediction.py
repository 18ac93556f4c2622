"""Outputs of a network for many samples at once."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch

from torchneupy.layers.modes import in_mode
from torchneupy.layers.structure import Structure
from torchneupy.layers.variables import as_array

__all__ = ["predict"]


def count_samples(inputs: Sequence[Any]) -> int:
    """How many samples all the inputs have.

    Raises
    ------
    ValueError
        If they differ, or one of them is a single number.
    """
    shapes = [tuple(value.shape) for value in inputs]
    if not all(shapes) or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(f"Every input should have the same number of samples, got inputs of shapes {shapes}")
    return int(shapes[0][0])


def predict(network: Structure, inputs: Sequence[Any], batch_size: int | None, verbose: bool) -> Any:
    """See :meth:`LayerGraph.predict`; here the inputs are in the order of the input layers."""
    network._fail_if_empty()
    inputs = [value if isinstance(value, torch.Tensor) else np.asarray(value) for value in inputs]
    n_samples = count_samples(inputs)
    if batch_size is None:
        batch_size = max(n_samples, 1)
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"The batch size should be a positive integer or None, got {batch_size!r}")
    # A network tells the shape of its outputs for no samples too.
    starts = range(0, max(n_samples, 1), int(batch_size))
    if verbose and len(starts) > 1:
        from tqdm import tqdm

        starts = tqdm(starts, desc="predict", unit="batch")
    batches = []
    with in_mode(network, training=False), torch.no_grad():
        for start in starts:
            outputs = network(*[value[start : start + batch_size] for value in inputs])
            batches.append([as_array(o) for o in (outputs if len(network._outputs) > 1 else (outputs,))])
    joined = tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))
    return joined[0] if len(joined) == 1 else joined
