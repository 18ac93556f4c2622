"""Work that takes no time, for tests of how it is measured."""

from __future__ import annotations

from benchmarks.measure import Options

__all__ = ["QUICK", "Fixed"]

QUICK = Options(quick=True)


class Fixed:
    """Work that takes the time that it says."""

    def __init__(self, *figures: float) -> None:
        self.figures = figures
        self.calls = 0

    def time(self, repetitions: int) -> float:
        self.calls += 1
        return self.figures[self.calls % len(self.figures)]
