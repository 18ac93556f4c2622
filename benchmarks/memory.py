"""How much memory does a training step take at its peak? ``python -m benchmarks --only memory``.

What torch's allocator holds beyond what it held before: on the CPU as the profiler sees it, on CUDA as torch counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks import dense, residual
from benchmarks.measure import Options, Question
from benchmarks.training import step

__all__ = ["peak", "questions"]


def peak(work: Callable[[], Any], device: str) -> float:
    """KiB that some work takes at its peak."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1024
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest / 1024


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    device = options.device
    rivals = {
        "dense": (dense.sequential(), dense.ours(), dense.WIDTH),
        "residual": (
            torch.nn.Sequential(*[residual.Block() for _ in range(residual.N_BLOCKS)]),
            residual.ours(),
            residual.WIDTH,
        ),
    }
    for name, (rival, own, width) in rivals.items():
        x = torch.randn(512, width, device=device)
        works = {
            "torch.nn": step(rival.to(device), rival.parameters(), x),
            "torchneupy": step(own.to(device), own.parameters(), x),
        }
        for work in works.values():
            work()  # the optimizer's first step makes what stays
        yield Question(
            f"{name}, batch 512, peak of a training step",
            {rival_name: partial(peak, work, device) for rival_name, work in works.items()},
            goal=1.01,
            unit="KiB",
        )
