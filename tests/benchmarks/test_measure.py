"""The benchmarks measure what they say."""

from __future__ import annotations

import gc
import time

import pytest
import torch

from benchmarks import measure, report
from benchmarks.measure import Absent, Elsewhere, Options, Question, ask, waiting_for
from tests.benchmarks.works import QUICK, Fixed


def test_ratios_are_taken_within_a_turn():
    """The machine is three times as slow in every other turn; nobody's ratio changes."""
    own, rival = Fixed(10, 10, 30, 30), Fixed(20, 20, 60, 60)  # called to warm up, and then to be timed
    (result,) = ask(Question("work", own, {"rival": rival}, {"rival": 0.6}), QUICK)
    assert (result.lower, result.median, result.upper) == (0.5, 0.5, 0.5)
    assert result.own in (10, 30) and result.other in (20, 60)
    assert result.is_met and result.goal == 0.6
    assert own.calls == rival.calls
    assert result.turns == 5


def test_each_comes_first_in_turn():
    order: list[str] = []

    class Named(Elsewhere):
        def __init__(self, name: str) -> None:
            self.name = name

        def time(self, repetitions: int) -> float:
            order.append(self.name)
            return 1e6

    ask(Question("work", Named("own"), {"a": Named("a"), "b": Named("b")}), QUICK)
    turns = [order[place : place + 3] for place in range(9, len(order), 3)]  # behind three calls each to warm up
    assert turns == [["b", "a", "own"], ["own", "a", "b"]] * 2 + [["b", "a", "own"]]


def test_nobody_pays_for_who_came_before():
    """The first call after that of another is slow, and does not count."""
    last: list[Elsewhere] = []

    class Hindered(Elsewhere):
        def __init__(self, figure: float) -> None:
            self.figure = figure

        def time(self, repetitions: int) -> float:
            extra = 0 if last and last[-1] is self else 100
            last.append(self)
            return self.figure + extra / repetitions

    for figure in (20, 1e6):  # who is so slow as to work once only, too
        own, rival = Hindered(10), Hindered(figure)
        (result,) = ask(Question("work", own, {"rival": rival}), QUICK)
        assert (result.own, result.other) == (10, figure)


def test_work_is_repeated_until_it_can_be_timed():
    calls = []
    (result,) = ask(Question("work", lambda: calls.append(1), {"sleep": lambda: time.sleep(0.002)}), QUICK)
    assert len(calls) > 1000
    assert 2000 < result.other < 4000 and result.own < 100


def test_time_is_that_of_one_repetition():
    assert 2000 < measure.time_once(lambda: time.sleep(0.002), 10, lambda: None) < 10_000


def test_the_device_has_finished_before_and_after(monkeypatch):
    events: list[str] = []
    monkeypatch.setattr(measure, "waiting_for", lambda device: lambda: events.append(f"wait for {device}"))
    ask(
        Question("work", lambda: events.append("own"), {"rival": lambda: events.append("rival")}), Options("cuda", True)
    )
    runs = "".join({"wait for cuda": "|", "own": "o", "rival": "r"}[event] for event in events)
    assert set(runs.strip("|").replace("||", " ").split()) > {"o", "r"}
    assert all(set(run) in ({"o"}, {"r"}) for run in runs.strip("|").split("||"))


def test_what_waits_for_a_device():
    assert waiting_for("cuda") is torch.cuda.synchronize
    waiting_for("cpu")()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_no_garbage_is_collected_within_a_turn(error):
    seen: list[bool] = []

    def figure() -> float:
        seen.append(gc.isenabled())
        if error is not None:
            raise error
        return 1.0

    question = Question("memory", figure, {"rival": lambda: 1.0}, unit="MB")
    if error is None:
        ask(question, QUICK)
    else:
        with pytest.raises(error):
            ask(question, QUICK)
    assert seen and not any(seen)
    assert gc.isenabled()


def test_figures_of_another_unit_are_given_by_the_work():
    (result,) = ask(Question("memory", lambda: 30.0, {"rival": lambda: 20.0}, {"rival": 1.0}, unit="MB"), QUICK)
    assert (result.own, result.other, result.median, result.unit) == (30.0, 20.0, 1.5, "MB")
    assert not result.is_met


def test_long_work_gets_few_turns():
    own = Fixed(5e6)
    ask(Question("work", own, {"rival": Fixed(5e6)}), Options())
    assert own.calls <= 12


def test_who_is_absent_is_named():
    (result,) = ask(Question("work", Fixed(1), {"rival": Absent("not installed")}, {"rival": 0.1}), QUICK)
    assert result.absent == "not installed" and result.is_met
    assert "| work | rival | not measured | not installed |" in report.markdown([result])


class Odd(Exception):
    """An error of nobody's."""


@pytest.mark.parametrize("n_calls", [0, 2, 5])
def test_a_rival_that_fails_is_absent_and_the_others_go_on(n_calls, caplog):
    """While it warms up, and in a turn."""

    class Failing(Fixed):
        def time(self, repetitions: int) -> float:
            if self.calls == n_calls:
                raise Odd("enough\nof it")
            return super().time(repetitions)

    question = Question("work", Fixed(10), {"failing": Failing(1), "rival": Fixed(20)}, {"failing": 0.1, "rival": 0.6})
    failing, rival = ask(question, QUICK)
    assert (failing.absent, failing.goal, failing.is_met) == ("Odd: enough", 0.1, True)
    assert (rival.median, rival.turns) == (0.5, 5)
    assert "work: failing cannot go on" in caplog.text


def test_our_own_failures_are_raised():
    def fail() -> None:
        raise Odd("ours")

    with pytest.raises(Odd, match="ours"):
        ask(Question("work", fail, {"rival": Fixed(1)}), QUICK)
