"""How everything here is measured: rivals take turns, and a ratio is taken within a turn.

What else the machine does slows all who take part in one turn alike, so that their ratio says more than their times.
"""

from __future__ import annotations

import gc
import logging
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

__all__ = ["Absent", "Elsewhere", "Options", "Question", "Result", "ask"]

LOGGER = logging.getLogger(__name__)

#: Microseconds that one question may take all who are asked, in a quick run and in a full one, unless few turns need
#: more.
BUDGETS = {True: 2e6, False: 30e6}
FEWEST_TURNS = 5

#: Share of the repetitions that are done before time is taken. Who comes after another process, which has emptied the
#: caches, takes twice as long for the first call, and some more for the two after it.
WARM_UP = 0.1


class Options(NamedTuple):
    """What the command line says."""

    device: str = "cpu"
    quick: bool = False
    threads: int = 1

    @property
    def has_goals(self) -> bool:
        """Whether the goals are for such a run: they are for one thread of a CPU, and few turns are not enough."""
        return self.device == "cpu" and self.threads == 1 and not self.quick


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
    """Us against one rival: the medians, and the median and the quartiles of our ratios to it, turn by turn.

    Attributes
    ----------
    absent : str
        Why there are no figures; empty where there are.
    turns : int
        How many turns they are taken from.
    file : str
        Name of the file of questions.
    """

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
    turns: int = 0
    file: str = ""

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


OWN = "torchneupy"


class Contest:
    """Takes the figures of one question, turn by turn.

    Attributes
    ----------
    works : dict
        Those who take part, and what each does.
    absent : dict
        Those who do not, or no longer, and why.
    n_turns : int
        How many turns each is given.
    """

    def __init__(self, question: Question, options: Options) -> None:
        self.question = question
        self.works: dict[str, Work] = {OWN: question.own}
        self.absent: dict[str, str] = {}
        for name, rival in question.rivals.items():
            if isinstance(rival, Absent):
                self.absent[name] = rival.reason
            else:
                self.works[name] = rival
        self.is_timed = question.unit == "us"
        self.wait = waiting_for(options.device)
        turns, least = (5, 0.01) if options.quick else (41, 0.03)
        if self.is_timed:
            warm = self.take(lambda name: min(time_once(self.works[name], 1, self.wait) for _ in range(3)))
            self.repetitions = {name: max(1, round(least * 1e6 / max(one, 1))) for name, one in warm.items()}
            # If the work of one is long, and nobody repeats it, the caches do not matter.
            share = WARM_UP if max(self.repetitions.values()) > 1 else 0
            self.warm_ups = {name: math.ceil(share * number) for name, number in self.repetitions.items()}
            whole = sum(one * (self.repetitions[name] + self.warm_ups[name]) for name, one in warm.items())
            self.n_turns = min(turns, max(FEWEST_TURNS, int(BUDGETS[options.quick] / max(whole, 1))))
        else:
            self.n_turns = min(turns, 7)

    def take(self, measure: Callable[[str], float], backwards: bool = False) -> dict[str, float]:
        """A figure of each who takes part. A rival that fails is absent from then on, and the others go on."""
        figures = {}
        for name in list(self.works)[:: -1 if backwards else 1]:
            try:
                figures[name] = measure(name)
            except Exception as error:
                if name == OWN:
                    raise
                LOGGER.exception("%s: %s cannot go on", self.question.name, name)
                del self.works[name]
                self.absent[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        return figures

    def figure(self, name: str) -> float:
        work = self.works[name]
        if self.is_timed:
            if self.warm_ups[name]:
                time_once(work, self.warm_ups[name], self.wait)
            return time_once(work, self.repetitions[name], self.wait)
        assert callable(work)
        return float(work())


def ask(question: Question, options: Options) -> list[Result]:
    """Let all take turns, each for about the same time, and compare them within each turn."""
    contest = Contest(question, options)
    turns: list[dict[str, float]] = []
    gc.collect()
    gc.disable()
    try:
        for number in range(contest.n_turns):
            # Who comes first changes, as what one leaves behind may help or hinder the next.
            turns.append(contest.take(contest.figure, backwards=number % 2 == 0))
            gc.collect()
    finally:
        gc.enable()
    return [compare(question, name, contest.absent.get(name, ""), turns) for name in question.rivals]


def compare(question: Question, rival: str, absent: str, turns: Sequence[Mapping[str, float]]) -> Result:
    goal = question.goals.get(rival)
    if absent:
        return Result(question.name, rival, unit=question.unit, goal=goal, absent=absent)
    own, other = ([turn[name] for turn in turns] for name in (OWN, rival))
    lower, median, upper = statistics.quantiles([one / two for one, two in zip(own, other, strict=True)], n=4)
    medians = statistics.median(own), statistics.median(other)
    return Result(question.name, rival, *medians, question.unit, lower, median, upper, goal, turns=len(turns))
