"""How everything here is measured: rivals take turns, and a ratio is taken within a turn.

What else the machine does slows all who take part in one turn alike, so that their ratio says more than their times.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

__all__ = ["Absent", "Elsewhere", "Options", "Question", "Result", "ask"]

#: Microseconds that one question may take all who are asked, in a quick run and in a full one, unless few turns need
#: more.
BUDGETS = {True: 2e6, False: 40e6}
FEWEST_TURNS = 5


class Options(NamedTuple):
    """What the command line says."""

    device: str = "cpu"
    quick: bool = False
    threads: int = 1


@runtime_checkable
class Elsewhere(Protocol):
    """Work that is timed where it is done, in another process."""

    def time(self, repetitions: int) -> float:
        """Microseconds that it takes once, as a mean."""


@dataclass(frozen=True)
class Absent:
    """A rival that is not there, or cannot do the work, and why."""

    reason: str


Work: TypeAlias = Callable[[], Any] | Elsewhere


@dataclass(frozen=True)
class Question:
    """How long some work takes us, as against our rivals.

    Attributes
    ----------
    name : str
        What the work is.
    own : callable or Elsewhere
        Does it once, by torchneupy.
    rivals : mapping
        Name to what does the same, or to Absent.
    goals : mapping
        Name of a rival to the largest ratio to it that the project allows itself.
    unit : str
        ``"us"`` for work that is timed here; for other units each returns its own figure.
    """

    name: str
    own: Work
    rivals: Mapping[str, Work | Absent]
    goals: Mapping[str, float] = field(default_factory=dict)
    unit: str = "us"


class Result(NamedTuple):
    """Us against one rival: the medians, and the median and the quartiles of our ratios to it, turn by turn."""

    question: str
    rival: str
    own: float = math.nan
    other: float = math.nan
    unit: str = "us"
    lower: float = math.nan
    median: float = math.nan
    upper: float = math.nan
    goal: float | None = None
    absent: str = ""

    @property
    def is_met(self) -> bool:
        return bool(self.absent) or self.goal is None or self.median <= self.goal


def time_once(work: Work, repetitions: int, wait: Callable[[], None]) -> float:
    if isinstance(work, Elsewhere):
        return work.time(repetitions)
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


class Timer:
    """Takes the figures of one question.

    Attributes
    ----------
    turns : int
        How many turns each is given.
    """

    def __init__(self, question: Question, works: Mapping[str, Work], options: Options) -> None:
        turns, least = (5, 0.01) if options.quick else (41, 0.03)
        self.works = works
        self.is_timed = question.unit == "us"
        self.wait = waiting_for(options.device)
        self.repetitions = dict.fromkeys(works, 1)
        if self.is_timed:
            warm = {name: min(time_once(work, 1, self.wait) for _ in range(3)) for name, work in works.items()}
            self.repetitions = {name: max(1, round(least * 1e6 / max(one, 1))) for name, one in warm.items()}
            whole = sum(warm[name] * self.repetitions[name] for name in works)
            self.turns = min(turns, max(FEWEST_TURNS, int(BUDGETS[options.quick] / max(whole, 1))))
        else:
            self.turns = min(turns, 7)

    def figure(self, name: str) -> float:
        work = self.works[name]
        if self.is_timed:
            return time_once(work, self.repetitions[name], self.wait)
        assert callable(work)
        return float(work())


OWN = "torchneupy"


def ask(question: Question, options: Options) -> list[Result]:
    """Let all take turns, each for about the same time, and compare them within each turn."""
    works: dict[str, Work] = {OWN: question.own}
    works |= {name: work for name, work in question.rivals.items() if not isinstance(work, Absent)}
    timer = Timer(question, works, options)
    figures: dict[str, list[float]] = {name: [] for name in works}
    gc.collect()
    gc.disable()
    try:
        for turn in range(timer.turns):
            # Who comes first changes, as what one leaves behind may help or hinder the next.
            for name in list(works) if turn % 2 else list(works)[::-1]:
                figures[name].append(timer.figure(name))
            gc.collect()
    finally:
        gc.enable()
    return [compare(question, name, figures) for name in question.rivals]


def compare(question: Question, rival: str, figures: Mapping[str, list[float]]) -> Result:
    goal = question.goals.get(rival)
    found = question.rivals[rival]
    if isinstance(found, Absent):
        return Result(question.name, rival, unit=question.unit, goal=goal, absent=found.reason)
    own, other = figures[OWN], figures[rival]
    lower, median, upper = statistics.quantiles([one / two for one, two in zip(own, other, strict=True)], n=4)
    medians = statistics.median(own), statistics.median(other)
    return Result(question.name, rival, *medians, question.unit, lower, median, upper, goal)
