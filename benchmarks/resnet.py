"""What does ResNet-50 cost? ``python -m benchmarks --only resnet``.

The rival is the same network in torch.nn, in its default layout and in ``channels_last``: as in NeuPy, the first
convolution of a block has its stride.
"""

from __future__ import annotations

import copy
import string
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.convolution import TASKS, images, in_channels_last, works
from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, keras_and_neupy
from benchmarks.training import FORWARD, compiled
from torchneupy.architectures import resnet50
from torchneupy.layers import LayerGraph

__all__ = ["questions"]

#: Height and width to the batch size.
IMAGES = {64: 8, 224: 2}
#: Goals against torch.nn in channels_last, and against Keras.
GOAL, KERAS_GOAL = 1.02, 0.60
#: Blocks, filters and stride of each stage.
STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))


def normalised(n_inputs: int, n_outputs: int, size: int = 1, stride: int = 1, padding: int = 0) -> nn.Sequential:
    convolution = nn.Conv2d(n_inputs, n_outputs, size, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_outputs))


class Block(nn.Module):
    """Three convolutions, and a way around them."""

    def __init__(self, n_inputs: int, n_filters: int, stride: int, has_convolution: bool) -> None:
        super().__init__()
        self.main = nn.Sequential(
            normalised(n_inputs, n_filters, stride=stride),
            nn.ReLU(inplace=True),
            normalised(n_filters, n_filters, size=3, padding=1),
            nn.ReLU(inplace=True),
            normalised(n_filters, 4 * n_filters),
        )
        self.short: nn.Module = nn.Identity()
        if has_convolution:
            self.short = normalised(n_inputs, 4 * n_filters, stride=stride)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.main(image) + self.short(image)
        return added.relu_()


class SamePadding(nn.Module):
    """TensorFlow's "same" for even sizes and a stride of two: less on the left and at the top."""

    def __init__(self, size: int, value: float = 0.0) -> None:
        super().__init__()
        before, after = (size - 2) // 2, (size - 1) // 2
        self.pad = nn.ConstantPad2d((before, after, before, after), value)

    def forward(self, image: torch.Tensor) -> Any:
        return self.pad(image)


def in_torch() -> nn.Sequential:
    parts: list[nn.Module] = [SamePadding(7), normalised(3, 64, size=7, stride=2), nn.ReLU(inplace=True)]
    parts += [SamePadding(3, -torch.inf), nn.MaxPool2d(3, 2)]
    n_inputs = 64
    for n_blocks, n_filters, stride in STAGES:
        for place in range(n_blocks):
            parts.append(Block(n_inputs, n_filters, 1 if place else stride, has_convolution=not place))
            n_inputs = 4 * n_filters
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_inputs, 1000), nn.Softmax(1))


@torch.no_grad()
def give_values(own: LayerGraph, rival: nn.Sequential) -> None:
    """Copy our values into the rival, which has a block's way around it behind the way through it."""
    names = ["conv1"]
    for stage, (n_blocks, _, _) in enumerate(STAGES, start=2):
        for letter in string.ascii_lowercase[:n_blocks]:
            ways = ["branch2a", "branch2b", "branch2c", *(["branch1"] if letter == "a" else [])]
            names += [f"res{stage}{letter}_{way}" for way in ways]
    kernels = [module.weight for module in rival.modules() if isinstance(module, nn.Conv2d)]
    for name, kernel in zip(names, kernels, strict=True):
        kernel.copy_(own[name].weight.permute(3, 2, 0, 1))
    (last,) = (module for module in rival.modules() if isinstance(module, nn.Linear))
    last.weight.copy_(own["fc1000"].weight.T)
    last.bias.copy_(own["fc1000"].bias)


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    for size, batch in IMAGES.items():
        first, last, image = images(size, batch, options.device)
        own = resnet50((size, size, 3)).to(options.device)
        rivals = in_torch().to(options.device), in_torch().to(options.device)
        for rival in rivals:
            give_values(own, rival)
        in_channels_last(rivals[1])
        untrained = copy.deepcopy((own, rivals[1]))  # training moves the statistics, each its own way
        mine, default, theirs = works(own, image), works(rivals[0], first), works(rivals[1], last)
        for name, task in TASKS.items():
            # Keras's has biases besides.
            apart = keras_and_neupy("resnet50", task, options, image, own, (KERAS,), size=size)
            yield Question(
                f"ResNet-50, {size}x{size}, batch {batch}, {name}",
                mine[name],
                {"torch.nn, default layout": default[name], "torch.nn, channels_last": theirs[name], **apart},
                {"torch.nn, channels_last": GOAL, KERAS: KERAS_GOAL},
            )
        if size > min(IMAGES):
            continue  # compiling takes its time, and tells nothing new
        yield Question(
            f"ResNet-50, {size}x{size}, batch {batch}, compiled, {FORWARD}",
            works(untrained[0], image, compiled(untrained[0]))[FORWARD],
            {"compiled, channels_last": works(untrained[1], last, compiled(untrained[1]))[FORWARD]},
            {"compiled, channels_last": GOAL},
        )
