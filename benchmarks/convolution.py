"""What does a small convolution network cost? ``python -m benchmarks --only convolution``.

Four times a convolution of 3x3, batch normalisation and a rectifier. Rivals are the same in torch.nn, in its default
layout and in ``channels_last``, to which network and images are brought by hand.

Compiled, the rival is torch.nn in ``channels_last``; there, the same with a sum after each block, as in residual
networks, is measured too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, NEUPY, keras_and_neupy
from benchmarks.training import (
    FORWARD,
    FORWARD_AND_BACKWARD,
    STEP,
    WHOLE_STEP,
    compiled,
    forward,
    forward_and_backward,
    give_values,
    step,
    whole_step,
)
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

__all__ = ["TASKS", "Images", "convolve_and_normalise", "images", "in_channels_last", "questions", "works"]

N_BLOCKS = 4
N_FILTERS = 32
#: Height and width to the batch size.
IMAGES = {32: 16, 224: 2}
#: Work to the goals against torch.nn in the default layout and in channels_last.
GOALS = {FORWARD: (0.80, 1.02), FORWARD_AND_BACKWARD: (0.95, 1.02), STEP: (0.90, 1.02)}
#: Work to what the rivals in other processes are asked for.
TASKS = {FORWARD: "forward", STEP: "training step"}
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
    run = network if run is None else run
    return {
        FORWARD: in_mode(network, False, forward(run, x)),
        FORWARD_AND_BACKWARD: in_mode(network, True, forward_and_backward(run, x)),
        STEP: in_mode(network, True, step(run, network.parameters(), x)),
    }


class Images(NamedTuple):
    """The same images in torch's default layout, in ``channels_last``, and as ours."""

    first: torch.Tensor
    last: torch.Tensor
    own: torch.Tensor


def images(size: int, batch: int, device: str) -> Images:
    """Random ones."""
    first = torch.randn(batch, 3, size, size, device=device)
    last = first.contiguous(memory_format=torch.channels_last)
    return Images(first, last, last.permute(0, 2, 3, 1))


def in_channels_last(network: Any) -> Any:  # torch's hints of Module.to know no memory_format
    """The network, its kernels in torch's other layout."""
    return network.to(memory_format=torch.channels_last)


def in_mode(network: nn.Module, training: bool, work: Any) -> Any:
    def in_its_mode() -> Any:
        if network.training is not training:
            network.train(training)
        return work()

    return in_its_mode


def convolve_and_normalise(image: torch.Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
    """A convolution and batch normalisation in functional code."""
    stride, padding = convolution.stride, convolution.padding
    image = functional.conv2d(image, convolution.weight, convolution.bias, stride, padding)
    mean, variance = norm.running_mean, norm.running_var
    return functional.batch_norm(image, mean, variance, norm.weight, norm.bias, norm.training, 0.1, 1e-5)


class ByHand(nn.Sequential):
    """The same in functional code, images in ``channels_last``."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        parts: list[Any] = list(self)
        for convolution, norm in zip(parts[::3], parts[1::3], strict=True):
            image = convolve_and_normalise(image, convolution, norm).relu_()
        return image


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    default, last_layout, by_compiler = "torch.nn, default layout", "torch.nn, channels_last", "compiled, channels_last"
    for size, batch in IMAGES.items():
        first, last, image = images(size, batch, options.device)
        network = ours(size).to(options.device)

        def theirs(network: nn.Module = network) -> nn.Sequential:
            rival = sequential().to(options.device)
            give_values(network, rival)
            return rival

        rivals = {
            default: works(theirs(), first),
            last_layout: works(in_channels_last(theirs()), last),
            "by hand": works(ByHand(*in_channels_last(theirs())), last),
        }
        own = works(network, image)
        where = f"convolutions {size}x{size}, batch {batch}"
        sizes = {"size": size, "n_blocks": N_BLOCKS, "n_filters": N_FILTERS}
        for name, goals in GOALS.items():
            apart: dict[str, Any] = {}
            if name in TASKS:
                apart = keras_and_neupy("convolution", TASKS[name], options, image, network, **sizes)
            yield Question(
                f"{where}, {name}",
                own[name],
                {rival: work[name] for rival, work in rivals.items()} | apart,
                {default: goals[0], last_layout: goals[1]}
                | ({KERAS: KERAS_GOAL} if apart else {})
                | ({NEUPY: NEUPY_GOAL} if name == STEP else {}),
            )
        if size > min(IMAGES):
            continue  # compiling takes its time, and tells nothing new
        rival = in_channels_last(theirs())
        yield Question(
            f"{where}, {WHOLE_STEP}",
            whole_step(network, image),
            {
                "torch.nn, eager, channels_last": works(rival, last)[STEP],
                "torch.nn, as one graph, channels_last": whole_step(rival, last),
                **keras_and_neupy("convolution", TASKS[STEP], options, image, network, **sizes),
            },
        )
        pairs: tuple[tuple[str, nn.Module, LayerGraph], ...] = (
            ("convolutions", sequential(), ours(size)),
            ("residual", *residual(size)),
        )
        for name, other, mine in pairs:
            mine.to(options.device)
            give_values(mine, other.to(options.device))
            in_channels_last(other)
            compiled_rival, compiled_own = works(other, last, compiled(other)), works(mine, image, compiled(mine))
            for work in GOALS:
                yield Question(
                    f"{name} {size}x{size}, batch {batch}, compiled, {work}",
                    compiled_own[work],
                    {by_compiler: compiled_rival[work]},
                    {by_compiler: COMPILED_GOAL},
                )
