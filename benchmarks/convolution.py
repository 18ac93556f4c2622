"""What does a small convolution network cost? ``python -m benchmarks --only convolution``.

Four times a convolution of 3x3, batch normalisation and a rectifier. Rivals are the same in torch.nn, in its default
layout and in ``channels_last``, to which network and images are brought by hand.

Compiled, the rival is the one in ``channels_last``; there, the same with a sum after each block, as in residual
networks, is measured too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Options, Question
from benchmarks.training import compiled, forward, forward_and_backward, step
from torchneupy.layers import (
    BatchNorm,
    Convolution,
    Elementwise,
    Identity,
    Input,
    LayerGraph,
    Relu,
    join,
    parallel,
    repeat,
)

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


class Block(nn.Module):
    """A convolution and what goes in, added up."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(N_FILTERS, N_FILTERS, 3, padding=1), nn.BatchNorm2d(N_FILTERS))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(image + self.inner(image))


def residual(size: int) -> tuple[nn.Module, LayerGraph]:
    """A residual network in torch.nn, and here."""
    rival = nn.Sequential(nn.Conv2d(3, N_FILTERS, 3, padding=1), *[Block() for _ in range(N_BLOCKS - 1)])
    inner = Convolution((3, 3, N_FILTERS), padding="same") >> BatchNorm()
    block = Identity() >> parallel(Identity(), inner) >> Elementwise("add") >> Relu()
    first = Convolution((3, 3, N_FILTERS), padding="same")
    return rival, join(Input((size, size, 3)), first, repeat(block, N_BLOCKS - 1))


def works(network: nn.Module, x: torch.Tensor, run: Any = None) -> dict[str, Any]:
    """What there is to do, by name; forward in evaluation mode, the others in training mode."""
    run = run or network
    return {
        "forward without gradients": in_mode(network, False, forward(run, x)),
        "forward and backward": in_mode(network, True, forward_and_backward(run, x)),
        "training step": in_mode(network, True, step(run, network.parameters(), x)),
    }


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
        for name, rival, network in (("convolutions", sequential(), ours(size)), ("residual", *residual(size))):
            theirs, mine = in_channels_last(rival.to(options.device)), network.to(options.device)
            by_hand, own = works(theirs, last, compiled(theirs)), works(mine, image, compiled(mine))
            for work in GOALS:
                rivals = {"compiled torch.nn, channels_last": by_hand[work], "torchneupy": own[work]}
                yield Question(f"{name} {size}x{size}, batch {batch}, compiled, {work}", rivals, COMPILED_GOAL)
