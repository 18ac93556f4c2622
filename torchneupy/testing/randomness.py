"""Torch's random numbers under hypothesis's control."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hypothesis import register_random

__all__ = ["TORCH_RANDOM", "seeded"]


class TorchRandom:
    """Torch's generator for the CPU as hypothesis wants it, which seeds it for each example and restores it after."""

    @staticmethod
    def seed(seed: int = 0) -> None:
        # Not torch.manual_seed, which seeds the generators of all devices: nobody would restore those.
        torch.default_generator.manual_seed(seed)

    @staticmethod
    def getstate() -> torch.Tensor:
        return torch.default_generator.get_state()

    @staticmethod
    def setstate(state: torch.Tensor) -> None:
        torch.default_generator.set_state(state)


# Hypothesis keeps no reference.
TORCH_RANDOM = TorchRandom()
register_random(TORCH_RANDOM)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of the CPU from a seed; afterwards the generator goes on where it was."""
    before = TORCH_RANDOM.getstate()
    TORCH_RANDOM.seed(seed)
    try:
        yield
    finally:
        TORCH_RANDOM.setstate(before)
