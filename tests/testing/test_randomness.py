"""Torch's generators are seeded and restored, those of CUDA where it is used."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torchneupy.testing.randomness import seeded


@pytest.fixture
def cuda(monkeypatch):
    """CUDA as if it were used, with one generator, whose state is its seed."""
    states = [torch.tensor(5)]

    def set_all(found: Any) -> None:
        states[:] = found

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(states))
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", set_all)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: set_all([torch.tensor(seed)]))
    return states


def test_generators_are_restored(cuda):
    before = torch.get_rng_state()
    with seeded(7):
        assert cuda == [torch.tensor(7)]
        assert torch.initial_seed() == 7
        torch.rand(3)
    assert cuda == [torch.tensor(5)]
    assert torch.equal(torch.get_rng_state(), before)


def test_cuda_is_left_alone_where_nobody_uses_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", None)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", None)
    with seeded(7):
        pass


@pytest.mark.cuda
def test_random_numbers_on_cuda():
    torch.zeros(1, device="cuda")
    found = []
    for _ in range(2):
        with seeded(7):
            found.append(torch.rand(3, device="cuda"))
    assert torch.equal(*found)
