"""How everything here is measured: rivals take turns, and a ratio is taken within a turn.

What else the machine does slows all rivals of one turn alike, so that their ratio says more than their times.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Options", "Question", "Result", "ask"]

Work = Callable[[], Any]


class Options(NamedTuple):
    """What the command line says."""

    device: str = "cpu"
    quick: bool = False


class Question(NamedTuple):
    """How long some work takes, done by several rivals.

    Attributes
    ----------
    name : str
        What the work is.
    rivals : dict
        Name to what does the work once; the first one is what the others are compared with.
    goal : float or None
        The largest ratio of "torchneupy" that the project allows itself.
    unit : str
        ``"us"`` for work that is timed here; for other units each rival returns its own figure.
    """

    name: str
    rivals: dict[str, Work]
    goal: float | None = None
    unit: str = "us"


class Result(NamedTuple):
    """What a rival needed: the best figure, and quartiles of the ratios to the first rival."""

    question: str
    rival: str
    best: float
    unit: str
    lower: float
    median: float
    upper: float
    goal: float | None

    @property
    def is_met(self) -> bool:
        return self.goal is None or self.median <= self.goal


def time_once(work: Work, repetitions: int, wait: Callable[[], None]) -> float:
    wait()
    begin = time.perf_counter()
    for _ in range(repetitions):
        work()
    wait()
    return (time.perf_counter() - begin) / repetitions * 1e6


def waiting_for(device: str) -> Callable[[], None]:
    """What makes sure that a device has finished; a CPU always has."""
    if device == "cpu":
        return lambda: None
    import torch

    return torch.cuda.synchronize


def ask(question: Question, options: Options) -> list[Result]:
    """Let the rivals take turns, each for about the same time, and compare them within each turn."""
    rounds, turn = (5, 0.01) if options.quick else (41, 0.03)
    wait = waiting_for(options.device)
    figures: dict[str, list[float]] = {name: [] for name in question.rivals}
    repetitions = {}
    for name, work in question.rivals.items():
        warm = min(time_once(work, 1, wait) for _ in range(3)) if question.unit == "us" else 0.0
        repetitions[name] = max(1, round(turn * 1e6 / max(warm, 1)))
    if question.unit != "us":
        rounds = min(rounds, 7)
    gc.collect()
    gc.disable()
    try:
        for turn_number in range(rounds):
            names = list(question.rivals)
            # Who comes first changes, as what a rival leaves behind may help or hinder the next.
            for name in names if turn_number % 2 else names[::-1]:
                work = question.rivals[name]
                figures[name].append(time_once(work, repetitions[name], wait) if question.unit == "us" else work())
            gc.collect()
    finally:
        gc.enable()
    return [summarise(question, name, figures) for name in question.rivals]


def summarise(question: Question, name: str, figures: dict[str, list[float]]) -> Result:
    reference = figures[next(iter(figures))]
    ratios = [own / other for own, other in zip(figures[name], reference, strict=True)]
    lower, median, upper = statistics.quantiles(ratios, n=4)
    goal = question.goal if name == "torchneupy" else None
    return Result(question.name, name, min(figures[name]), question.unit, lower, median, upper, goal)
