"""What does looking rows up cost? ``python -m benchmarks --only embedding``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, keras_and_neupy
from benchmarks.training import (
    FORWARD,
    FORWARD_AND_BACKWARD,
    STEP,
    WHOLE_STEP,
    compiled,
    forward,
    forward_and_backward,
    step,
    whole_step,
)
from torchneupy.layers import Embedding, Input

__all__ = ["questions"]

N_ROWS, WIDTH = 10_000, 64
BATCH, N_STEPS = 32, 50
#: A network as ours is: a module that is called by another.
RIVAL = "nn.Sequential of nn.Embedding"
GOAL = 1.05
KERAS_GOAL = 0.60


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    indices = torch.randint(N_ROWS, (BATCH, N_STEPS), device=options.device)
    rival = nn.Sequential(nn.Embedding(N_ROWS, WIDTH)).to(options.device)
    own: Any = (Input(N_STEPS) >> Embedding(N_ROWS, WIDTH)).to(options.device)
    (weight,) = rival.parameters()
    with torch.no_grad():
        weight.copy_(*own.parameters())
    where = f"Embedding {N_ROWS}x{WIDTH}, {BATCH}x{N_STEPS} indices"
    sizes = {"n_steps": N_STEPS, "n_rows": N_ROWS, "width": WIDTH}
    yield Question(
        f"{where}, {FORWARD}",
        forward(own, indices),
        {
            RIVAL: forward(rival, indices),
            "by hand": forward(lambda x: functional.embedding(x, weight), indices),
            **keras_and_neupy("embedding", "forward", options, indices, own, **sizes),
        },
        {RIVAL: GOAL, KERAS: KERAS_GOAL},
    )
    yield Question(
        f"{where}, {FORWARD_AND_BACKWARD}",
        forward_and_backward(own, indices),
        {RIVAL: forward_and_backward(rival, indices)},
        {RIVAL: GOAL},
    )
    yield Question(
        f"{where}, {STEP}",
        step(own, own.parameters(), indices),
        {
            RIVAL: step(rival, rival.parameters(), indices),
            **keras_and_neupy("embedding", "training step", options, indices, own, **sizes),
        },
        {RIVAL: GOAL, KERAS: KERAS_GOAL},
    )
    eager = f"{RIVAL}, eager"
    yield Question(
        f"{where}, {WHOLE_STEP}",
        whole_step(own, indices),
        {
            eager: step(rival, rival.parameters(), indices),
            f"{RIVAL}, as one graph": whole_step(rival, indices),
            **keras_and_neupy("embedding", "training step", options, indices, own, **sizes),
        },
    )
    for work, what in ((forward, FORWARD), (forward_and_backward, FORWARD_AND_BACKWARD)):
        yield Question(
            f"{where}, compiled, {what}",
            work(compiled(own), indices),
            {f"compiled {RIVAL}": work(compiled(rival), indices)},
            {f"compiled {RIVAL}": GOAL},
        )
