"""A loop that Accelerate has prepared."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.interop.loops import EPOCHS, RATE, calm, learn, load, loss_of
from tests.interop.networks import Case, copied_state, dtypes_of_layers, equal_states, every_case

pytest.importorskip("accelerate", reason="Accelerate is not installed")


@pytest.fixture(autouse=True)
def fresh_state():
    """Of the process, which Accelerate keeps for good."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(case: Case, device: str, **options: Any) -> tuple[Any, Any, set[torch.dtype]]:
    """The accelerator, the network that it trained, and the dtypes in which layers computed."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device == "cpu", **options)
    network = calm(case)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    network, optimizer, loader = accelerator.prepare(network, optimizer, load(case))
    with dtypes_of_layers(network) as dtypes:
        for _ in range(EPOCHS):
            for batch in loader:
                with accelerator.accumulate(network):
                    optimizer.zero_grad()
                    accelerator.backward(loss_of(case, network, batch))
                    accelerator.clip_grad_norm_(network.parameters(), 1000)
                    optimizer.step()
    return accelerator, network, {*dtypes.values()}


@every_case
def test_a_network_is_trained_stored_and_loaded(case, device, tmp_path):
    accelerator, network, dtypes = train(case, device)
    assert dtypes == {torch.float32}
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
    """By steps that are those of float32, to some percent of what they change."""
    accelerator, network, dtypes = train(case, device, mixed_precision="bf16")
    assert torch.bfloat16 in dtypes
    begun = copied_state(calm(case).to(device))
    ours, expected = copied_state(accelerator.unwrap_model(network)), copied_state(learn(case, calm(case), device))
    assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
    for name, before in begun.items():
        way = expected[name] - before
        assert (ours[name] - expected[name]).norm() <= 0.1 * way.norm(), name
