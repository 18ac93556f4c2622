"""``torch.distributed.checkpoint``, by one process."""

from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from tests.interop.networks import equal_states, every_case, train

# What torch says of one process.
pytestmark = pytest.mark.filterwarnings(
    "ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning"
)


@every_case
def test_a_state_is_saved_and_loaded_in_place(case, device, tmp_path):
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    save({"network": network.state_dict()}, checkpoint_id=tmp_path, no_dist=True)
    load({"network": twin.state_dict()}, checkpoint_id=tmp_path, no_dist=True)
    equal_states(twin, network)


@every_case
def test_network_and_optimizer_go_on_from_a_checkpoint(case, device, tmp_path):
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    optimizers = [torch.optim.AdamW(each.parameters(), lr=0.05) for each in (network, twin)]
    train(case, network, optimizers[0], steps=3, device=device)
    values, of_optimizer = get_state_dict(network, optimizers[0])
    assert list(values) == list(network.state_dict())
    save({"network": values, "optimizer": of_optimizer}, checkpoint_id=tmp_path, no_dist=True)
    state: dict[str, Any] = dict(zip(("network", "optimizer"), get_state_dict(twin, optimizers[1]), strict=True))
    load(state, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(twin, optimizers[1], model_state_dict=state["network"], optim_state_dict=state["optimizer"])
    equal_states(optimizers[1], optimizers[0])
    for each, optimizer in zip((network, twin), optimizers, strict=True):
        torch.manual_seed(0)
        train(case, each, optimizer, steps=3, device=device)
    equal_states(twin, network)
