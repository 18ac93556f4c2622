"""What does looking rows up cost? ``python -m benchmarks --only embedding``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Options, Question
from benchmarks.training import compiled, forward, forward_and_backward
from torchneupy.layers import Embedding, Input

__all__ = ["questions"]

N_ROWS, WIDTH = 10_000, 64
BATCH, N_STEPS = 32, 50
GOAL = 1.05


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    indices = torch.randint(N_ROWS, (BATCH, N_STEPS), device=options.device)
    rival = nn.Sequential(nn.Embedding(N_ROWS, WIDTH)).to(options.device)
    own: Any = (Input(N_STEPS) >> Embedding(N_ROWS, WIDTH)).to(options.device)
    for work, what in ((forward, "forward without gradients"), (forward_and_backward, "forward and backward")):
        works = {"nn.Embedding": work(rival, indices), "torchneupy": work(own, indices)}
        where = f"Embedding {N_ROWS}x{WIDTH}, {BATCH}x{N_STEPS} indices"
        yield Question(f"{where}, {what}", works, GOAL)
        works = {"compiled nn.Embedding": work(compiled(rival), indices), "torchneupy": work(compiled(own), indices)}
        yield Question(f"{where}, compiled, {what}", works, GOAL)
