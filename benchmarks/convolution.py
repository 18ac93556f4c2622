"""What does a small convolution network cost? ``python -m benchmarks --only convolution``.

Four times a convolution of 3x3, batch normalisation and a rectifier. Rivals are the same in torch.nn, in its default
layout and in ``channels_last``, to which network and images are brought by hand.

Compiled, training is measured a second time with two of the compiler's switches set. Without them torch 2.13 keeps
copies for the gradient that it need not keep, as its partitioner does not see through the change of axes before and
after each convolution, and writes some of them in an order of axes that suits no reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch._functorch import config as functorch_config

from benchmarks.measure import Options, Question
from benchmarks.training import forward, forward_and_backward, step
from torchneupy.layers import BatchNorm, Convolution, Input, LayerGraph, Relu, join, repeat

__all__ = ["questions"]

N_BLOCKS = 4
N_FILTERS = 32
#: Height and width to the batch size.
IMAGES = {32: 16, 224: 2}
#: Work to the goals against torch.nn in the default layout and in channels_last.
GOALS = {"forward without gradients": (0.80, 1.02), "forward and backward": (0.95, 1.02), "training step": (0.90, 1.02)}
COMPILED_GOAL = 1.02


def sequential() -> nn.Sequential:
    parts: list[nn.Module] = []
    for block in range(N_BLOCKS):
        n_channels = N_FILTERS if block else 3
        parts += [nn.Conv2d(n_channels, N_FILTERS, 3, padding=1), nn.BatchNorm2d(N_FILTERS), nn.ReLU()]
    return nn.Sequential(*parts)


def ours(size: int) -> LayerGraph:
    block = Convolution((3, 3, N_FILTERS), padding="same") >> BatchNorm() >> Relu()
    return join(Input((size, size, 3)), repeat(block, N_BLOCKS))


def works(network: nn.Module, x: torch.Tensor, run: Any = None) -> dict[str, Any]:
    """What there is to do, by name; forward in evaluation mode, the others in training mode."""
    run = run or network
    return {
        "forward without gradients": in_mode(network, False, forward(run, x)),
        "forward and backward": in_mode(network, True, forward_and_backward(run, x)),
        "training step": in_mode(network, True, step(run, network.parameters(), x)),
    }


def compiled(network: nn.Module, x: torch.Tensor, switched: bool = False) -> dict[str, Any]:
    """The same, compiled for this size."""
    options: dict[str, Any] | None = {"layout_optimization": False} if switched else None
    made = works(network, x, torch.compile(network, dynamic=False, options=options))
    with functorch_config.patch(recompute_views=switched):
        for work in made.values():
            work()
    return made


def in_channels_last(network: Any) -> Any:  # torch's hints of Module.to know no memory_format
    return network.to(memory_format=torch.channels_last)


def in_mode(network: nn.Module, training: bool, work: Any) -> Any:
    def in_its_mode() -> Any:
        if network.training is not training:
            network.train(training)
        return work()

    return in_its_mode


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    for size, batch in IMAGES.items():
        x = torch.randn(batch, 3, size, size, device=options.device)
        last = x.contiguous(memory_format=torch.channels_last)
        default = works(sequential().to(options.device), x)
        by_hand = works(in_channels_last(sequential().to(options.device)), last)
        own = works(ours(size).to(options.device), last.permute(0, 2, 3, 1))
        where = f"convolutions {size}x{size}, batch {batch}"
        for name, goals in GOALS.items():
            yield Question(f"{where}, {name}", {"torch.nn": default[name], "torchneupy": own[name]}, goals[0])
            rivals = {"torch.nn, channels_last": by_hand[name], "torchneupy": own[name]}
            yield Question(f"{where}, {name}", rivals, goals[1])
        if size > min(IMAGES):
            continue  # compiling takes its time, and tells nothing new
        image = last.permute(0, 2, 3, 1)
        by_hand = compiled(in_channels_last(sequential().to(options.device)), last)
        own, switched = (compiled(ours(size).to(options.device), image, switched=yes) for yes in (False, True))
        for name in ("forward without gradients", "training step"):
            rivals = {
                "compiled torch.nn, channels_last": by_hand[name],
                "torchneupy": own[name],
                "torchneupy, two switches set": switched[name],
            }
            yield Question(f"{where}, compiled, {name}", rivals, COMPILED_GOAL)
