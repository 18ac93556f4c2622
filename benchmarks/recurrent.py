"""What do LSTM and GRU cost, by torch's kernel and step by step? ``python -m benchmarks --only recurrent``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Options, Question
from benchmarks.training import compiled, forward, forward_and_backward
from torchneupy.layers import GRU, LSTM, Input

__all__ = ["questions"]

N_FEATURES, N_UNITS, N_STEPS, BATCH = 64, 128, 50, 32
GOAL = 1.05


class LastStep(nn.Module):
    """One of torch's layers, and of its results the state after the last step."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)[0][:, -1]


class Loop(nn.Module):
    """One of our layers, kept from torch's kernel."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer._loop(x)[1]


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    x = torch.randn(BATCH, N_STEPS, N_FEATURES, device=options.device)
    kinds: list[tuple[Any, Any]] = [(LSTM, nn.LSTM), (GRU, nn.GRU)]
    for layer_class, rival_class in kinds:
        name = layer_class.__name__
        rival = LastStep(rival_class(N_FEATURES, N_UNITS, batch_first=True)).to(options.device)
        layer: Any = layer_class(N_UNITS)
        own = (Input((N_STEPS, N_FEATURES)) >> layer).to(options.device)
        competitors: dict[str, nn.Module] = {f"nn.{name}": rival, "torchneupy": own, "step by step": Loop(layer)}
        for work, what in ((forward, "forward without gradients"), (forward_and_backward, "forward and backward")):
            yield Question(f"{name}, {what}", {key: work(module, x) for key, module in competitors.items()}, GOAL)
            works = {f"compiled nn.{name}": work(compiled(rival), x), "torchneupy": work(compiled(own), x)}
            # Without a goal: compiled training of LSTM goes step by step, as compilers have no gradient of the kernel.
            yield Question(f"{name}, compiled, {what}", works)
