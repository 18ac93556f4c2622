"""What does a network with branches cost? ``python -m benchmarks --only residual``.

Four residual blocks of two dense layers of 64 units; the rival is a module that writes the additions by hand.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.measure import Options, Question
from benchmarks.training import FORWARD, STEP, forward, give_values, step
from torchneupy.layers import Elementwise, Identity, Input, LayerGraph, Linear, Relu, join

__all__ = ["questions"]

N_BLOCKS = 4
WIDTH = 64


class Block(nn.Module):
    """``x + linear(relu(linear(x)))``."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.outer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = x + self.outer(torch.relu(self.inner(x)))
        return added


def ours() -> LayerGraph:
    blocks = [(Identity() | Relu(WIDTH) >> Linear(WIDTH)) >> Elementwise("add") for _ in range(N_BLOCKS)]
    return join(Input(WIDTH), *blocks)


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    for batch in (8, 512):
        x = torch.randn(batch, WIDTH, device=options.device)
        rival = nn.Sequential(*[Block() for _ in range(N_BLOCKS)]).to(options.device)
        own = ours().to(options.device)
        give_values(own, rival)
        yield Question(
            f"residual, batch {batch}, {FORWARD}",
            forward(own, x),
            {"nn.Module by hand": forward(rival, x)},
        )
        yield Question(
            f"residual, batch {batch}, {STEP}",
            step(own, own.parameters(), x),
            {"nn.Module by hand": step(rival, rival.parameters(), x)},
        )
