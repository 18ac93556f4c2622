"""Networks without memory, as Accelerate, FSDP2 and ``torch.device("meta")`` make them, and their first values."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from tests.interop.networks import Case, equal_states, every_case


def draw(module: nn.Module) -> None:
    """What torch's users do once there is memory."""
    for part in module.modules():
        reset: Any = getattr(part, "reset_parameters", None)
        if reset is not None:
            reset()


@every_case
@pytest.mark.parametrize("include_buffers", [False, True], ids=["parameters", "buffers too"])
def test_accelerate_makes_a_network_without_memory(case: Case, include_buffers: bool) -> None:
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
    with accelerate.init_empty_weights(include_buffers=include_buffers):
        network: Any = case.build()
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in network.buffers()} <= {"meta" if include_buffers else "cpu"}
    expected = case.network()
    assert list(network.state_dict()) == list(expected.state_dict())
    network.to_empty(device="cpu").load_state_dict(expected.state_dict())
    equal_states(network, expected)
