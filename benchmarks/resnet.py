"""What does ResNet-50 cost? ``python -m benchmarks --only resnet``.

Rivals are the same network in torch.nn, in its default layout and in ``channels_last``, and in functional code: as in
NeuPy, the first convolution of a block has its stride. Images of 64x64 are also computed by compiled networks.
"""

from __future__ import annotations

import copy
import string
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.convolution import TASKS, Images, convolve_and_normalise, images, in_channels_last, works
from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, keras_and_neupy
from benchmarks.training import STEP, WHOLE_STEP, compiled, whole_step
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


class ByHand(nn.Sequential):
    """The same in functional code, images in ``channels_last``."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        parts: list[Any] = list(self)
        image = convolve_and_normalise(functional.pad(image, (2, 3, 2, 3)), *parts[1]).relu_()
        image = functional.max_pool2d(functional.pad(image, (0, 1, 0, 1), value=-torch.inf), 3, 2)
        for block in parts[5:-4]:
            one, _, two, _, three = block.main
            way = convolve_and_normalise(convolve_and_normalise(image, *one).relu_(), *two).relu_()
            around = image if isinstance(block.short, nn.Identity) else convolve_and_normalise(image, *block.short)
            image = convolve_and_normalise(way, *three).add_(around).relu_()
        last = parts[-2]
        return functional.linear(image.mean((2, 3)), last.weight, last.bias).softmax(1)


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
        drawn = images(size, batch, options.device)
        own = resnet50((size, size, 3)).to(options.device)
        default, rival = in_torch().to(options.device), in_torch().to(options.device)
        give_values(own, default)
        give_values(own, in_channels_last(rival))
        untrained = copy.deepcopy((own, rival))  # training moves the statistics, each its own way
        by_hand = ByHand(*copy.deepcopy(rival))
        sides = works(own, drawn.own), works(default, drawn.first), works(rival, drawn.last), works(by_hand, drawn.last)
        where = f"ResNet-50, {size}x{size}, batch {batch}"
        for name, task in TASKS.items():
            mine, *theirs = (side[name] for side in sides)
            yield Question(
                f"{where}, {name}",
                mine,
                {
                    **dict(
                        zip(("torch.nn, default layout", "torch.nn, channels_last", "by hand"), theirs, strict=True)
                    ),
                    **apart(task, options, drawn.own, own),
                },
                {"torch.nn, channels_last": GOAL, KERAS: KERAS_GOAL},
            )
        if size == min(IMAGES):  # compiling takes its time, and tells nothing new for others
            yield from compiled_questions(where, options, drawn, *untrained)


def compiled_questions(
    where: str, options: Options, drawn: Images, own: LayerGraph, rival: nn.Sequential
) -> Iterator[Question]:
    """What a compiler makes of the networks, which are not changed, and of a whole training step."""
    for name in TASKS:
        mine, theirs = copy.deepcopy((own, rival))
        yield Question(
            f"{where}, compiled, {name}",
            works(mine, drawn.own, compiled(mine))[name],
            {"compiled, channels_last": works(theirs, drawn.last, compiled(theirs))[name]},
            {"compiled, channels_last": GOAL},
        )
    mine, theirs = copy.deepcopy((own, rival))
    yield Question(
        f"{where}, {WHOLE_STEP}",
        whole_step(mine, drawn.own),
        {
            "torch.nn, eager, channels_last": works(copy.deepcopy(rival), drawn.last)[STEP],
            "torch.nn, as one graph, channels_last": whole_step(theirs, drawn.last),
            **apart(TASKS[STEP], options, drawn.own, own),
        },
    )


def apart(task: str, options: Options, image: torch.Tensor, own: LayerGraph) -> dict[str, Any]:
    """Those in processes of their own, of which Keras's has biases besides."""
    return {**keras_and_neupy("resnet50", task, options, image, own, (KERAS,), size=image.shape[1])}
