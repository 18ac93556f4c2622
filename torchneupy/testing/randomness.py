"""Torch's random numbers under hypothesis's control: those for the CPU, and those for CUDA once a program uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hypothesis import register_random

__all__ = ["TORCH_RANDOM", "seeded"]


class TorchRandom:
    """Torch's generators as hypothesis wants them, which seeds them for each example and restores them after."""

    @staticmethod
    def seed(seed: int = 0) -> None:
        # Not torch.manual_seed, which seeds the generators of other devices, too: nobody would restore those.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)

    @staticmethod
    def getstate() -> tuple[torch.Tensor, list[torch.Tensor]]:
        # Where CUDA is not used yet, asking would take a second and hundreds of megabytes.
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return torch.default_generator.get_state(), cuda

    @staticmethod
    def setstate(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
        torch.default_generator.set_state(state[0])
        if state[1]:
            torch.cuda.set_rng_state_all(state[1])


# Hypothesis keeps no reference.
TORCH_RANDOM = TorchRandom()
register_random(TORCH_RANDOM)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch from a seed; afterwards the generators go on where they were."""
    before = TORCH_RANDOM.getstate()
    TORCH_RANDOM.seed(seed)
    try:
        yield
    finally:
        TORCH_RANDOM.setstate(before)
