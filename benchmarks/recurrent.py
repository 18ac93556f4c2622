"""What do LSTM and GRU cost, by torch's kernel and step by step? ``python -m benchmarks --only recurrent``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, NEUPY, keras_and_neupy
from benchmarks.training import compiled, forward, forward_and_backward, step
from torchneupy.layers import GRU, LSTM, Input

__all__ = ["questions"]

N_FEATURES, N_UNITS, N_STEPS, BATCH = 64, 128, 50, 32
GOAL = 1.05
KERAS_GOAL = 0.35
NEUPY_GOAL = 0.80


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


class ByHand(nn.Module):
    """Torch's kernel called directly, with the parameters of one of its layers."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        self.is_lstm = isinstance(layer, nn.LSTM)

    def forward(self, x: torch.Tensor) -> Any:
        state = x.new_zeros(1, len(x), N_UNITS)
        weights: list[torch.Tensor] = list(self.layer.parameters())
        if self.is_lstm:
            return torch.lstm(x, (state, state), weights, True, 1, 0.0, self.training, False, True)[0][:, -1]
        return torch.gru(x, state, weights, True, 1, 0.0, self.training, False, True)[0][:, -1]


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    x = torch.randn(BATCH, N_STEPS, N_FEATURES, device=options.device)
    sizes = {"n_steps": N_STEPS, "n_features": N_FEATURES, "n_units": N_UNITS}
    kinds: list[tuple[Any, Any]] = [(LSTM, nn.LSTM), (GRU, nn.GRU)]
    for layer_class, rival_class in kinds:
        name = layer_class.__name__
        theirs = rival_class(N_FEATURES, N_UNITS, batch_first=True)
        rival = LastStep(theirs).to(options.device)
        layer: Any = layer_class(N_UNITS)
        own = (Input((N_STEPS, N_FEATURES)) >> layer).to(options.device)
        competitors: dict[str, nn.Module] = {
            f"nn.{name}": rival,
            "by hand": ByHand(theirs),
            "torchneupy, step by step": Loop(layer),
        }
        apart = keras_and_neupy(name.lower(), "forward", options, x, own, **sizes)
        for work, what in ((forward, "forward without gradients"), (forward_and_backward, "forward and backward")):
            rivals: dict[str, Any] = {key: work(module, x) for key, module in competitors.items()}
            rivals |= apart if work is forward else {}
            goals = {f"nn.{name}": GOAL, **({KERAS: KERAS_GOAL} if work is forward else {})}
            yield Question(f"{name}, {what}", work(own, x), rivals, goals)
        yield Question(
            f"{name}, training step",
            step(own, own.parameters(), x),
            {
                f"nn.{name}": step(rival, rival.parameters(), x),
                **keras_and_neupy(name.lower(), "training step", options, x, own, **sizes),
            },
            {f"nn.{name}": GOAL, KERAS: KERAS_GOAL, NEUPY: NEUPY_GOAL},
        )
        for work, what in ((forward, "forward without gradients"), (forward_and_backward, "forward and backward")):
            # Without a goal: compiled training of LSTM goes step by step, as compilers have no gradient of the kernel.
            rivals = {f"compiled nn.{name}": work(compiled(rival), x)}
            yield Question(f"{name}, compiled, {what}", work(compiled(own), x), rivals)
