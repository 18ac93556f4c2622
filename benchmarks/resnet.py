"""What does ResNet-50 cost? ``python -m benchmarks --only resnet``.

The rival is the same network in torch.nn, in its default layout and in ``channels_last``: as in NeuPy, the first
convolution of a block has its stride. Keras's own has biases in its convolutions besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.convolution import in_channels_last, works
from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, keras_and_neupy
from torchneupy.architectures import resnet50

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


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    for size, batch in IMAGES.items():
        x = torch.randn(batch, 3, size, size, device=options.device)
        last = x.contiguous(memory_format=torch.channels_last)
        image = last.permute(0, 2, 3, 1)
        own = resnet50((size, size, 3)).to(options.device)
        rivals = {
            "torch.nn, default layout": works(in_torch().to(options.device), x),
            "torch.nn, channels_last": works(in_channels_last(in_torch().to(options.device)), last),
        }
        mine = works(own, image)
        for name in ("forward without gradients", "training step"):
            task = name.partition(" without")[0]
            yield Question(
                f"ResNet-50, {size}x{size}, batch {batch}, {name}",
                mine[name],
                {rival: work[name] for rival, work in rivals.items()}
                | dict(keras_and_neupy("resnet50", task, options, image, size=size)),
                {"torch.nn, channels_last": GOAL, KERAS: KERAS_GOAL},
            )
