"""The benchmarks measure what they say."""

from __future__ import annotations

import time

from benchmarks import report
from benchmarks.measure import Absent, Options, Question, ask
from tests.benchmarks.works import QUICK, Fixed


def test_ratios_are_taken_within_a_turn():
    """The machine is three times as slow in every other turn; nobody's ratio changes."""
    own, rival = Fixed(10, 30), Fixed(20, 60)
    (result,) = ask(Question("work", own, {"rival": rival}, {"rival": 0.6}), QUICK)
    assert (result.lower, result.median, result.upper) == (0.5, 0.5, 0.5)
    assert result.own in (10, 30) and result.other in (20, 60)
    assert result.is_met and result.goal == 0.6
    assert own.calls == rival.calls


def test_work_is_repeated_until_it_can_be_timed():
    calls = []
    (result,) = ask(Question("work", lambda: calls.append(1), {"sleep": lambda: time.sleep(0.002)}), QUICK)
    assert len(calls) > 1000
    assert result.other > 2000 > result.own


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
