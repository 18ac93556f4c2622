"""The memory that work takes at its peak, by what torch's allocator holds beyond what it held before.

On the CPU that is what the profiler sees, on CUDA what torch counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["peak"]


def peak(work: Callable[[], Any], device: str, prepare: Callable[[], Any] = lambda: None) -> float:
    """KiB that some work takes at its peak, what ``prepare`` gives back before not counted."""

    def clear() -> None:
        prepare()
        gc.collect()  # networks that refer to themselves leave what they have computed until then

    work()  # the first time makes what stays
    clear()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1024
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
        clear()
        time.sleep(1e-3)
        begin = time.time_ns()  # what was held before shows only if the profiler has seen it being taken
        time.sleep(1e-3)  # its clock and ours may differ
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = before = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        if event.start_ns() < begin:
            before = highest = held
        highest = max(highest, held)
    return (highest - before) / 1024
