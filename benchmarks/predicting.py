"""What does it cost to compute many rows in batches? ``python -m benchmarks --only predicting``.

100,000 rows through the network of dense.py, a thousand at a time, from an array to an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks import dense
from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, keras_and_neupy
from benchmarks.training import give_values

__all__ = ["questions"]

N_ROWS, BATCH = 100_000, 1_000
GOAL = 1.05
KERAS_GOAL = 0.60


def in_batches(compute: Callable[[Any], torch.Tensor], x: np.ndarray[Any, Any], device: str) -> Callable[[], Any]:
    """A loop as one writes it."""

    def work() -> np.ndarray[Any, Any]:
        with torch.no_grad():
            batches = torch.from_numpy(x).split(BATCH)
            return np.concatenate([compute(batch.to(device)).cpu().numpy() for batch in batches])

    return work


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    rows = torch.randn(N_ROWS, dense.WIDTH)
    x = rows.numpy()
    own, rival = dense.ours().to(options.device), dense.sequential().to(options.device)
    give_values(own, rival)
    sizes = {"n_layers": dense.N_LAYERS, "width": dense.WIDTH, "batch_size": BATCH}
    yield Question(
        f"predict, {N_ROWS:,} rows in batches of {BATCH:,}",
        lambda: own.predict(x, batch_size=BATCH, verbose=False),
        {
            "nn.Sequential in a loop": in_batches(rival, x, options.device),
            "by hand in a loop": in_batches(dense.ByHand(own), x, options.device),
            **keras_and_neupy("dense", "predict", options, rows, own, **sizes),
        },
        {"nn.Sequential in a loop": GOAL, KERAS: KERAS_GOAL},
    )
