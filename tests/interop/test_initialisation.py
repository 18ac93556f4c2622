"""Networks without memory, as Accelerate, FSDP2 and ``torch.device("meta")`` make them, and their first values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.testing import assert_close

from tests.interop.networks import CASES, Case, equal_states, every_case


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


def without_memory(case: Case, way: str) -> Any:
    if way == "accelerate":
        accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
        with accelerate.init_empty_weights():
            return case.build()
    with torch.device("meta"):
        return case.build()


def full_state(network: nn.Module) -> dict[str, torch.Tensor]:
    state = network.state_dict()
    return {key: value.full_tensor() if isinstance(value, DTensor) else value for key, value in state.items()}


def drawn(case: Case) -> Any:
    """A network that always had memory, with first values of its layers in their order."""
    network = case.network()
    torch.manual_seed(0)
    draw(network)
    return network


def test_values_are_those_that_building_gave() -> None:
    for name, case in CASES.items():
        if name != "convolution":  # of which a part is joined, and built, before the layers that come first
            assert_close(full_state(drawn(case)), full_state(case.network(seed=0)), rtol=0, atol=0)


@every_case
@pytest.mark.parametrize("way", ["accelerate", "meta"])
def test_a_network_that_gets_memory_gets_its_first_values(case: Case, way: str) -> None:
    network = without_memory(case, way).to_empty(device="cpu")
    torch.manual_seed(0)
    draw(network)
    assert_close(full_state(network), full_state(drawn(case)), rtol=0, atol=0)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """One process as a group."""
    if not distributed.is_available():
        pytest.skip("torch is without distributed")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@every_case
def test_a_network_that_fsdp_has_divided_gets_its_first_values(case: Case, alone: None) -> None:
    network = without_memory(case, "meta")
    fully_shard(network, mesh=init_device_mesh("cpu", (1,)))
    network.to_empty(device="cpu")
    torch.manual_seed(0)
    draw(network)
    assert all(isinstance(parameter, DTensor) for parameter in network.parameters())
    expected = drawn(case)
    assert_close(full_state(network), full_state(expected), rtol=0, atol=0)
    assert_close(network.eval()(*case.inputs()), expected.eval()(*case.inputs()))
