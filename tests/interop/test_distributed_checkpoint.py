"""``torch.distributed.checkpoint``, by one process; and checkpoints of two processes, loaded by one.

The two are on the CPU, with gloo, on every machine.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from tests.interop.loops import calm
from tests.interop.networks import equal_states, every_case, train
from tests.interop.several_processes import SAVED, learn_alone, optimizer_of

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


def load_both(network: Any, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    state: dict[str, Any] = dict(zip(("network", "optimizer"), get_state_dict(network, optimizer), strict=True))
    load(state, checkpoint_id=folder, no_dist=True)
    set_state_dict(network, optimizer, model_state_dict=state["network"], optim_state_dict=state["optimizer"])


@every_case
def test_network_and_optimizer_go_on_from_a_checkpoint(case, device, tmp_path):
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    optimizers = [torch.optim.AdamW(each.parameters(), lr=0.05) for each in (network, twin)]
    train(case, network, optimizers[0], steps=3, device=device)
    values, of_optimizer = get_state_dict(network, optimizers[0])
    assert list(values) == list(network.state_dict())
    save({"network": values, "optimizer": of_optimizer}, checkpoint_id=tmp_path, no_dist=True)
    load_both(twin, optimizers[1], tmp_path)
    equal_states(optimizers[1], optimizers[0])
    for each, optimizer in zip((network, twin), optimizers, strict=True):
        torch.manual_seed(0)
        train(case, each, optimizer, steps=3, device=device)
    equal_states(twin, network)


@every_case
@pytest.mark.parametrize("way", SAVED)
def test_what_two_processes_saved_is_what_one_has_that_did_the_same(two_processes, case, way):
    network, twin = calm(case), calm(case, seed=1)
    optimizers = [optimizer_of(each) for each in (network, twin)]
    learn_alone(case, network, optimizers[0], n_parts=1)
    load_both(twin, optimizers[1], two_processes.folder / f"{case.name}, {way}")
    equal_states(twin, network, rtol=1e-5, atol=1e-6)
    equal_states(optimizers[1], optimizers[0], rtol=1e-5, atol=1e-6)
