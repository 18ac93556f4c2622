"""What do LSTM and GRU cost, by torch's kernel and step by step? ``python -m benchmarks --only recurrent``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Absent, Options, Question
from benchmarks.rivals.apart import KERAS, NEUPY, keras_and_neupy
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
from torchneupy.layers import GRU, LSTM, Input

__all__ = ["questions"]

N_FEATURES, N_UNITS, N_STEPS, BATCH = 64, 128, 50, 32
GOAL = 1.05
#: Kind of layer to the goal against Keras.
KERAS_GOALS = {"LSTM": 0.35, "GRU": 0.60}
NEUPY_GOAL = 0.80
#: Kind of layer to the option that gives one of its gates a function.
GATES = {"LSTM": "ingate", "GRU": "resetgate"}


class LastStep(nn.Module):
    """One of torch's layers, and of its results the state after the last step."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)[0][:, -1]


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    """No function that torch's kernels have, as far as a layer can tell, so that it goes step by step."""
    return torch.sigmoid(x)


@torch.no_grad()
def give_values(own: Any, rival: nn.RNNBase) -> None:
    """Copy our values into one of torch's layers, whose second bias is left at 0."""
    values = own.input_weights.T, own.hidden_weights.T, own.biases
    *parameters, second_bias = rival.parameters()
    for theirs, mine in zip(parameters, values, strict=True):
        theirs.copy_(in_torchs_order(mine, rival))
    second_bias.zero_()


def in_torchs_order(rows: torch.Tensor, rival: nn.RNNBase) -> torch.Tensor:
    """GRU's update gate says here how much of the state is replaced, there how much of it is kept."""
    if isinstance(rival, nn.LSTM):
        return rows
    reset, update, entering = rows.chunk(3)
    return torch.cat([reset, -update, entering])


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
        theirs = rival_class(N_FEATURES, N_UNITS, batch_first=True).to(options.device)
        rival = LastStep(theirs)
        layer: Any = layer_class(N_UNITS)
        own = (Input((N_STEPS, N_FEATURES)) >> layer).to(options.device)
        give_values(layer, theirs)
        by_steps = Input((N_STEPS, N_FEATURES)) >> layer_class(N_UNITS, **{GATES[name]: sigmoid})
        by_steps.to(options.device)
        by_steps.load_state_dict(dict(zip(by_steps.state_dict(), own.state_dict().values(), strict=True)))
        competitors: dict[str, nn.Module] = {
            f"nn.{name}": rival,
            "by hand": ByHand(theirs),
            "torchneupy, step by step": by_steps,
        }
        apart = keras_and_neupy(name.lower(), "forward", options, x, own, **sizes)
        for work, what in ((forward, FORWARD), (forward_and_backward, FORWARD_AND_BACKWARD)):
            rivals: dict[str, Any] = {key: work(module, x) for key, module in competitors.items()}
            rivals |= apart if work is forward else {}
            goals = {f"nn.{name}": GOAL, **({KERAS: KERAS_GOALS[name]} if work is forward else {})}
            yield Question(f"{name}, {what}", work(own, x), rivals, goals)
        yield Question(
            f"{name}, {STEP}",
            step(own, own.parameters(), x),
            {
                f"nn.{name}": step(rival, rival.parameters(), x),
                **keras_and_neupy(name.lower(), "training step", options, x, own, **sizes),
            },
            {f"nn.{name}": GOAL, KERAS: KERAS_GOALS[name], NEUPY: NEUPY_GOAL},
        )
        yield Question(
            f"{name}, {WHOLE_STEP}",
            whole_step(own, x),
            {
                f"nn.{name}, eager": step(rival, rival.parameters(), x),
                f"nn.{name}, as one graph": Absent("torch's compiler refuses it"),
                **keras_and_neupy(name.lower(), "training step", options, x, own, **sizes),
            },
        )
        for work, what in ((forward, FORWARD), (forward_and_backward, FORWARD_AND_BACKWARD)):
            # Without a goal: compiled training of LSTM goes step by step, as compilers have no gradient of the kernel.
            rivals = {f"compiled nn.{name}": work(compiled(rival), x)}
            yield Question(f"{name}, compiled, {what}", work(compiled(own), x), rivals)
