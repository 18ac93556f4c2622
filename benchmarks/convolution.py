"""What does a small convolution network cost? ``python -m benchmarks --only convolution``.

Four times a convolution of 3x3, batch normalisation and a rectifier. Rivals are the same in torch.nn, in its default
layout and in ``channels_last``, to which network and images are brought by hand.

Compiled, the rival is torch.nn in ``channels_last``; there, the same with a sum after each block, as in residual
networks, is measured too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, NEUPY, keras_and_neupy
from benchmarks.training import compiled, forward, forward_and_backward, step, whole_step
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
KERAS_GOAL = 0.60
NEUPY_GOAL = 0.80


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


class ByHand(nn.Module):
    """The same in functional code, images in ``channels_last``."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = in_channels_last(sequential())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        parts = list(self.parts)
        for convolution, norm in zip(parts[::3], parts[1::3], strict=True):
            image = functional.conv2d(image, convolution.weight, convolution.bias, padding=1)
            mean, variance = norm.running_mean, norm.running_var
            image = functional.batch_norm(image, mean, variance, norm.weight, norm.bias, self.training, 0.1, 1e-5)
            image = image.relu_()
        return image


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    default, last_layout, by_compiler = "torch.nn, default layout", "torch.nn, channels_last", "compiled, channels_last"
    for size, batch in IMAGES.items():
        x = torch.randn(batch, 3, size, size, device=options.device)
        last = x.contiguous(memory_format=torch.channels_last)
        image = last.permute(0, 2, 3, 1)
        rivals = {
            default: works(sequential().to(options.device), x),
            last_layout: works(in_channels_last(sequential().to(options.device)), last),
            "by hand": works(ByHand().to(options.device), last),
        }
        network = ours(size).to(options.device)
        own = works(network, image)
        where = f"convolutions {size}x{size}, batch {batch}"
        for name, goals in GOALS.items():
            apart: dict[str, Any] = {}
            if name in ("forward without gradients", "training step"):
                task = name.partition(" without")[0]
                sizes = {"size": size, "n_blocks": N_BLOCKS, "n_filters": N_FILTERS}
                apart = keras_and_neupy("convolution", task, options, image, network, **sizes)
            yield Question(
                f"{where}, {name}",
                own[name],
                {rival: work[name] for rival, work in rivals.items()} | apart,
                {default: goals[0], last_layout: goals[1], KERAS: KERAS_GOAL}
                | ({NEUPY: NEUPY_GOAL} if name == "training step" else {}),
            )
        if size > min(IMAGES):
            continue  # compiling takes its time, and tells nothing new
        rival = in_channels_last(sequential().to(options.device))
        yield Question(
            f"{where}, whole training step as one graph",
            whole_step(network, image),
            {
                "torch.nn, eager, channels_last": works(rival, last)["training step"],
                "torch.nn, as one graph, channels_last": whole_step(rival, last),
            },
        )
        for name, rival, network in (("convolutions", sequential(), ours(size)), ("residual", *residual(size))):
            theirs, mine = in_channels_last(rival.to(options.device)), network.to(options.device)
            by_hand, own = works(theirs, last, compiled(theirs)), works(mine, image, compiled(mine))
            for work in GOALS:
                yield Question(
                    f"{name} {size}x{size}, batch {batch}, compiled, {work}",
                    own[work],
                    {by_compiler: by_hand[work]},
                    {by_compiler: COMPILED_GOAL},
                )
