"""A run that stops and goes on is, to the last bit, the run that did not stop."""

import pytest
import torch

from tests.interop.networks import CASES, equal_states, every_case, run_elsewhere, train

OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, amsgrad=True),
}


def first_half(case, kind, path):
    """Train, and save all that the rest of the run depends on."""
    network = case.network()
    optimizer = OPTIMIZERS[kind](network.parameters())
    torch.manual_seed(11)
    train(case, network, optimizer, steps=3)
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    torch.save(state, path)
    return network, optimizer


def second_half(case, kind, path):
    """Go on from a file, in a network that has other values at first."""
    saved = torch.load(path, weights_only=True)
    network = case.network(seed=9)
    network.load_state_dict(saved["network"])
    optimizer = OPTIMIZERS[kind](network.parameters())
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["rng"])
    train(case, network, optimizer, steps=3)
    return network, optimizer


@every_case
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_goes_on(case, kind, tmp_path):
    network, optimizer = first_half(case, kind, tmp_path / "checkpoint")
    train(case, network, optimizer, steps=3)
    torch.manual_seed(99)
    again, its_optimizer = second_half(case, kind, tmp_path / "checkpoint")
    equal_states(again, network)
    equal_states(its_optimizer, optimizer)


def test_a_run_goes_on_in_another_process(tmp_path):
    finished = {}
    for name, case in CASES.items():
        network, optimizer = first_half(case, "AdamW", tmp_path / name)
        train(case, network, optimizer, steps=3)
        finished[name] = network.state_dict()
    run_elsewhere(
        f"""
import torch
from tests.interop.networks import CASES
from tests.interop.test_resume import second_half
torch.set_num_threads({torch.get_num_threads()})
for name, case in CASES.items():
    network, _ = second_half(case, "AdamW", folder / name)
    torch.save(network.state_dict(), folder / (name + ".finished"))
""",
        tmp_path,
    )
    for name, state in finished.items():
        equal_states(torch.load(tmp_path / f"{name}.finished"), state)
