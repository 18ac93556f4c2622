"""How much memory do a forward pass and a training step take at their peak? ``python -m benchmarks --only memory``.

What torch's allocator holds beyond what it held before: on the CPU as the profiler sees it, on CUDA as torch counts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks import convolution, dense, recurrent, residual
from benchmarks.measure import Options, Question
from benchmarks.training import step
from torchneupy.layers import GRU, LSTM, Embedding, Input

__all__ = ["peak", "questions"]


def peak(work: Callable[[], Any], device: str, prepare: Callable[[], Any] = lambda: None) -> float:
    """KiB that some work takes at its peak, what ``prepare`` gives back before not counted."""
    prepare()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1024
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
        prepare()
        begin = time.time_ns()  # what was held before shows only if the profiler has seen it being taken
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = before = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        if event.start_ns() < begin:
            before = highest = held
        highest = max(highest, held)
    return (highest - before) / 1024


class Subject(NamedTuple):
    """A network, the same in torch.nn, and an input for each."""

    rival: nn.Module
    own: nn.Module
    rival_input: torch.Tensor
    own_input: torch.Tensor
    goal: float = 1.01


def subjects() -> Iterator[tuple[str, Subject]]:
    x = torch.randn(512, dense.WIDTH)
    yield "dense, batch 512", Subject(dense.sequential(), dense.ours(), x, x)
    blocks = nn.Sequential(*[residual.Block() for _ in range(residual.N_BLOCKS)])
    yield "residual, batch 512", Subject(blocks, residual.ours(), x, x)
    for size, batch in convolution.IMAGES.items():
        images = torch.randn(batch, size, size, 3)
        rival = convolution.in_channels_last(convolution.sequential())
        own = convolution.ours(size)
        yield f"convolutions {size}x{size}", Subject(rival, own, images.permute(0, 3, 1, 2), images)
    x = torch.randn(recurrent.BATCH, recurrent.N_STEPS, recurrent.N_FEATURES)
    kinds: list[tuple[Any, Any]] = [(LSTM, nn.LSTM), (GRU, nn.GRU)]
    for layer_class, rival_class in kinds:
        rival = recurrent.LastStep(rival_class(recurrent.N_FEATURES, recurrent.N_UNITS, batch_first=True))
        own = Input((recurrent.N_STEPS, recurrent.N_FEATURES)) >> layer_class(recurrent.N_UNITS)
        yield layer_class.__name__, Subject(rival, own, x, x, goal=1.05)
    words = torch.randint(10_000, (32, 50))
    yield "embedding", Subject(nn.Embedding(10_000, 64), Input(50) >> Embedding(10_000, 64), words, words)


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    device = options.device
    for name, subject in subjects():
        own, rival = subject.own.to(device), subject.rival.to(device)
        sides = (own, subject.own_input.to(device)), (rival, subject.rival_input.to(device))
        for what, work in (("a forward pass", forward_to_train), ("a training step", train)):
            works = [work(network, x) for network, x in sides]
            for one in works:
                one()  # the optimizer's first step makes what stays
            # Gradients of the step before would hide what they are as large as.
            ours, theirs = (
                partial(peak, one, device, network.zero_grad) for one, (network, _) in zip(works, sides, strict=True)
            )
            goals = {"torch.nn": subject.goal}
            yield Question(f"{name}, peak of {what}", ours, {"torch.nn": theirs}, goals, unit="KiB")


def forward_to_train(network: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    """A forward pass in training mode, with all that backward would need."""
    return lambda: network.train()(x)


def train(network: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    return step(network.train(), network.parameters(), x)
