"""What does a row of small dense layers cost? ``python -m benchmarks --only dense``.

Eight layers of 64 units with a rectifier: so little arithmetic that the library's own share shows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, keras_and_neupy
from benchmarks.training import FORWARD, STEP, WHOLE_STEP, compiled, forward, give_values, step, whole_step
from torchneupy.layers import Input, LayerGraph, Relu, join

__all__ = ["questions"]

N_LAYERS = 8
WIDTH = 64
#: Batch size to the goals for a forward pass and for a training step.
GOALS = {8: (0.65, 0.90), 512: (0.92, 0.95)}
#: The same, against Keras.
KERAS_GOALS = {8: (0.10, 0.60), 512: (0.60, 0.60)}
COMPILED_GOAL = 1.02
#: Batch size to the goal for a whole training step as one graph, against an eager loop.
WHOLE_GOALS = {8: 0.42}


def sequential() -> nn.Sequential:
    return nn.Sequential(*[part for _ in range(N_LAYERS) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())])


def ours() -> LayerGraph:
    return join(Input(WIDTH), *[Relu(WIDTH) for _ in range(N_LAYERS)])


class ByHand:
    """The same in functional code, the least that there is to do."""

    def __init__(self, network: nn.Module) -> None:
        parameters = [nn.Parameter(parameter.detach().clone()) for parameter in network.parameters()]
        self.weights, self.biases = parameters[::2], parameters[1::2]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = torch.addmm(bias, x, weight).relu_()
        return x


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    sizes = {"n_layers": N_LAYERS, "width": WIDTH}
    for batch, (forward_goal, step_goal) in GOALS.items():
        x = torch.randn(batch, WIDTH, device=options.device)
        own, rival = ours().to(options.device), sequential().to(options.device)
        give_values(own, rival)
        by_hand = ByHand(own)
        keras_forward, keras_step = KERAS_GOALS[batch]
        yield Question(
            f"dense, batch {batch}, {FORWARD}",
            forward(own, x),
            {
                "nn.Sequential": forward(rival, x),
                "by hand": forward(by_hand, x),
                **keras_and_neupy("dense", "forward", options, x, own, **sizes),
            },
            {"nn.Sequential": forward_goal, KERAS: keras_forward},
        )
        yield Question(
            f"dense, batch {batch}, {STEP}",
            step(own, own.parameters(), x),
            {
                "nn.Sequential": step(rival, rival.parameters(), x),
                "by hand": step(by_hand, by_hand.weights + by_hand.biases, x),
                **keras_and_neupy("dense", "training step", options, x, own, **sizes),
            },
            {"nn.Sequential": step_goal, KERAS: keras_step},
        )
        theirs, mine = compiled(rival), compiled(own)
        yield Question(
            f"dense, batch {batch}, compiled, {FORWARD}",
            forward(mine, x),
            {"compiled nn.Sequential": forward(theirs, x)},
            {"compiled nn.Sequential": COMPILED_GOAL},
        )
        yield Question(
            f"dense, batch {batch}, compiled, {STEP}",
            step(mine, own.parameters(), x),
            {"compiled nn.Sequential": step(theirs, rival.parameters(), x)},
            {"compiled nn.Sequential": COMPILED_GOAL},
        )
        eager = "nn.Sequential, eager"
        yield Question(
            f"dense, batch {batch}, {WHOLE_STEP}",
            whole_step(own, x),
            {
                eager: step(rival, rival.parameters(), x),
                "nn.Sequential, as one graph": whole_step(rival, x),
                **keras_and_neupy("dense", "training step", options, x, own, **sizes),
            },
            {eager: WHOLE_GOALS[batch]} if batch in WHOLE_GOALS else {},
        )
