"""What does looking rows up cost? ``python -m benchmarks --only embedding``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, keras_and_neupy
from benchmarks.training import compiled, forward, forward_and_backward, step
from torchneupy.layers import Embedding, Input

__all__ = ["questions"]

N_ROWS, WIDTH = 10_000, 64
BATCH, N_STEPS = 32, 50
GOAL = 1.05
KERAS_GOAL = 0.60


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    indices = torch.randint(N_ROWS, (BATCH, N_STEPS), device=options.device)
    rival = nn.Sequential(nn.Embedding(N_ROWS, WIDTH)).to(options.device)
    own: Any = (Input(N_STEPS) >> Embedding(N_ROWS, WIDTH)).to(options.device)
    weight = nn.Parameter(torch.randn(N_ROWS, WIDTH, device=options.device))
    where = f"Embedding {N_ROWS}x{WIDTH}, {BATCH}x{N_STEPS} indices"
    sizes = {"n_steps": N_STEPS, "n_rows": N_ROWS, "width": WIDTH}
    yield Question(
        f"{where}, forward without gradients",
        forward(own, indices),
        {
            "nn.Embedding": forward(rival, indices),
            "by hand": forward(lambda x: functional.embedding(x, weight), indices),
            **keras_and_neupy("embedding", "forward", options, indices, own, **sizes),
        },
        {"nn.Embedding": GOAL, KERAS: KERAS_GOAL},
    )
    yield Question(
        f"{where}, forward and backward",
        forward_and_backward(own, indices),
        {"nn.Embedding": forward_and_backward(rival, indices)},
        {"nn.Embedding": GOAL},
    )
    yield Question(
        f"{where}, training step",
        step(own, own.parameters(), indices),
        {
            "nn.Embedding": step(rival, rival.parameters(), indices),
            **keras_and_neupy("embedding", "training step", options, indices, own, **sizes),
        },
        {"nn.Embedding": GOAL, KERAS: KERAS_GOAL},
    )
    for work, what in ((forward, "forward without gradients"), (forward_and_backward, "forward and backward")):
        yield Question(
            f"{where}, compiled, {what}",
            work(compiled(own), indices),
            {"compiled nn.Embedding": work(compiled(rival), indices)},
            {"compiled nn.Embedding": GOAL},
        )
