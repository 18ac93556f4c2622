"""What do pools cost? ``python -m benchmarks --only pooling``.

Rivals are those of torch.nn, with images in ``channels_last`` and in torch's default layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Options, Question
from benchmarks.training import FORWARD, FORWARD_AND_BACKWARD, backward, compiled, forward
from torchneupy.layers import AveragePooling, GlobalPooling, Input, MaxPooling, Upscale, join

__all__ = ["questions"]


class SamePool(nn.Module):
    """What "same" means, in torch.nn's words: one more on the right and at the bottom, for even sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ConstantPad2d((0, 1, 0, 1), -torch.inf)
        self.pool = nn.MaxPool2d(3, stride=2)

    def forward(self, image: torch.Tensor) -> Any:
        return self.pool(self.pad(image))


#: Shapes of images.
SHAPES = ((16, 32, 32, 64), (2, 224, 224, 16))
#: Name to what makes it in torch.nn, and here.
POOLS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "max 2x2": (lambda: nn.MaxPool2d(2), lambda: MaxPooling((2, 2))),
    "max 3x3, stride 2, same": (SamePool, lambda: MaxPooling((3, 3), stride=2, padding="same")),
    "average 2x2": (lambda: nn.AvgPool2d(2), lambda: AveragePooling((2, 2))),
    "global average": (lambda: nn.AdaptiveAvgPool2d(1), lambda: GlobalPooling("avg")),
    "global max": (lambda: nn.AdaptiveMaxPool2d(1), lambda: GlobalPooling("max")),
    "upscale 2": (lambda: nn.Upsample(scale_factor=2), lambda: Upscale(2)),
}


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    for shape in SHAPES:
        x = torch.randn(shape, device=options.device)
        image = x.permute(0, 3, 1, 2)
        for name, (rival, own) in POOLS.items():
            theirs, ours = rival(), join(Input(shape[1:]), own())
            where = f"{name}, {shape[0]}x{shape[1]}x{shape[2]}x{shape[3]}"
            for work, what in ((forward, FORWARD), (backward, FORWARD_AND_BACKWARD)):
                rivals = {
                    "torch.nn, channels_last": work(theirs, image),
                    "torch.nn, default layout": work(theirs, image.contiguous()),
                }
                yield Question(f"{where}, {what}", work(ours, x), rivals)
                rivals = {"compiled torch.nn, channels_last": work(compiled(theirs), image)}
                yield Question(f"{where}, compiled, {what}", work(compiled(ours), x), rivals)
