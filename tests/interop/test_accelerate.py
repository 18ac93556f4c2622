"""A loop that Accelerate has prepared."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.interop.loops import EPOCHS, RATE, calm, learn, load, loss_of
from tests.interop.networks import Case, equal_states, every_case

pytest.importorskip("accelerate", reason="Accelerate is not installed")


@pytest.fixture(autouse=True)
def fresh_state():
    """Of the process, which Accelerate keeps for good."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(case: Case, device: str, **options: Any) -> tuple[Any, Any]:
    """The accelerator and the network that it trained."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device == "cpu", **options)
    network = calm(case)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    network, optimizer, loader = accelerator.prepare(network, optimizer, load(case))
    for _ in range(EPOCHS):
        for batch in loader:
            with accelerator.accumulate(network):
                optimizer.zero_grad()
                accelerator.backward(loss_of(case, network, batch))
                accelerator.clip_grad_norm_(network.parameters(), 1000)
                optimizer.step()
    return accelerator, network


@every_case
def test_a_network_is_trained_stored_and_loaded(case, device, tmp_path):
    accelerator, network = train(case, device)
    expected = learn(case, calm(case), device)
    equal_states(accelerator.unwrap_model(network), expected)
    accelerator.save_state(tmp_path)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    accelerator.load_state(tmp_path)
    equal_states(accelerator.unwrap_model(network), expected)


@every_case
def test_a_network_is_trained_in_mixed_precision(case, device):
    accelerator, network = train(case, device, mixed_precision="bf16")
    expected = learn(case, calm(case), device)
    equal_states(accelerator.unwrap_model(network), expected, rtol=0.1, atol=0.02)
