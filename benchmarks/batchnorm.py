"""What does normalisation cost? ``python -m benchmarks --only batchnorm``.

Batch normalisation of images and of rows while training, in evaluation mode, and frozen in a network that is trained,
compiled too, and its training steps; and group normalisation. Rivals are those of torch.nn, with images in
``channels_last``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import KERAS, keras_and_neupy
from benchmarks.training import (
    FORWARD,
    FORWARD_AND_BACKWARD,
    STEP,
    WHOLE_STEP,
    backward,
    compiled,
    forward,
    step,
    whole_step,
)
from torchneupy.layers import BatchNorm, GroupNorm, Input, LayerGraph, join

__all__ = ["questions"]

IMAGES = ((16, 32, 32, 64), (2, 224, 224, 16))
ROWS = ((32, 64), (512, 256))
N_GROUPS = 4
GOAL = 1.05
KERAS_GOAL = 0.60


def pair(rival: nn.Module, layer: Any, shape: tuple[int, ...], device: str) -> tuple[nn.Module, LayerGraph]:
    """Torch's module and our layer, each in a network."""
    return nn.Sequential(rival).to(device), join(Input(shape[1:]), layer).to(device)


def rival_name(values: torch.Tensor) -> str:
    return "nn.BatchNorm2d, channels_last" if values.ndim == 4 else "nn.BatchNorm1d"


def by_hand(module: Any, training: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that one of torch's modules calls, with its values."""
    (one,) = module
    mean, variance, weight, bias = one.running_mean, one.running_var, one.weight, one.bias
    return lambda x: functional.batch_norm(x, mean, variance, weight, bias, training, 0.1, 1e-5)


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    for shape in (*IMAGES, *ROWS):
        x = torch.randn(shape, device=options.device)
        values = x.permute(0, 3, 1, 2) if len(shape) == 4 else x  # of torch's order, in the layout channels_last
        where = "x".join(map(str, shape))
        rival_class = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
        rival, own = pair(rival_class(shape[-1]), BatchNorm(), shape, options.device)
        for training in (False, True):  # which moves the statistics, each its own way
            mode = "training" if training else "evaluation"
            rival.train(training)
            own.train(training)
            for work, what in ((forward, FORWARD), (backward, FORWARD_AND_BACKWARD)):
                # Frozen in a network that is trained it has none.
                goal = GOAL if len(shape) == 4 and (training or work is forward) else None
                name = rival_name(values)
                rivals: dict[str, Any] = {name: work(rival, values)}
                if work is forward:
                    rivals["by hand"] = forward(by_hand(rival, training), values)
                    if not training:
                        rivals |= keras_and_neupy("batchnorm", "forward", options, x, own, shape=shape[1:])
                goals = {KERAS: KERAS_GOAL} if KERAS in rivals else {}
                if goal is not None:
                    goals[name] = goal
                yield Question(f"BatchNorm {where}, {mode}, {what}", work(own, x), rivals, goals)
        yield from questions_of_steps(f"BatchNorm {where}", options, own, rival, x, values)
        if shape in (IMAGES[0], ROWS[0]):  # compiling takes its time, and tells nothing new for others
            rival, own = pair(rival_class(shape[-1]), BatchNorm(), shape, options.device)
            yield from compiled_questions(f"BatchNorm {where}", own, rival, x, values)
        if len(shape) == 4:
            rival, own = pair(nn.GroupNorm(N_GROUPS, shape[-1]), GroupNorm(N_GROUPS), shape, options.device)
            for work, what in ((forward, FORWARD), (backward, FORWARD_AND_BACKWARD)):
                rivals = {"nn.GroupNorm, channels_last": work(rival, values)}
                yield Question(f"GroupNorm {where}, {what}", work(own, x), rivals)


def questions_of_steps(
    where: str, options: Options, own: LayerGraph, rival: nn.Module, x: torch.Tensor, values: torch.Tensor
) -> Iterator[Question]:
    """Training steps of two networks that are in training mode."""
    name = rival_name(values)
    apart = keras_and_neupy("batchnorm", "training step", options, x, own, shape=x.shape[1:])
    yield Question(
        f"{where}, {STEP}",
        step(own, own.parameters(), x),
        {name: step(rival, rival.parameters(), values), **apart},
        {KERAS: KERAS_GOAL} | ({name: GOAL} if x.ndim == 4 else {}),
    )
    yield Question(
        f"{where}, {WHOLE_STEP}",
        whole_step(own, x),
        {
            f"{name}, eager": step(rival, rival.parameters(), values),
            f"{name}, as one graph": whole_step(rival, values),
            **apart,
        },
    )


def compiled_questions(
    where: str, own: LayerGraph, rival: nn.Module, x: torch.Tensor, values: torch.Tensor
) -> Iterator[Question]:
    """What a compiler makes of two networks that are new."""
    for training, work, what in ((False, forward, FORWARD), (True, backward, FORWARD_AND_BACKWARD)):
        own.train(training)
        rival.train(training)
        mode = "training" if training else "evaluation"
        yield Question(
            f"{where}, {mode}, compiled, {what}",
            work(compiled(own), x),
            {f"compiled {rival_name(values)}": work(compiled(rival), values)},
        )
