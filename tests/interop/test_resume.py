"""A run that stops and goes on is, to the last bit, the run that did not stop."""

from contextlib import nullcontext

import pytest
import torch

from tests.interop.networks import ALL, equal_states, every_case_of_all, run_elsewhere, train
from tests.plugin import exact_cuda

OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, amsgrad=True),
}


def random_of(device):
    """Where the state of a device's generator is got and set."""
    return torch.cuda if device == "cuda" else torch


def first_half(case, kind, path, device):
    """Train, and save all that the rest of the run depends on; the network by its state, and in a second file whole."""
    network = case.network().to(device)
    optimizer = OPTIMIZERS[kind](network.parameters())
    torch.manual_seed(11)
    train(case, network, optimizer, steps=3, device=device)
    rest = {"optimizer": optimizer.state_dict(), "rng": random_of(device).get_rng_state()}
    torch.save({"network": network.state_dict(), **rest}, path)
    torch.save({"network": network, **rest}, path.with_suffix(".whole"))
    return network, optimizer


def second_half(case, kind, path, device):
    """Go on from a file, in a network that has other values at first if it is not in there whole."""
    whole = path.suffix == ".whole"
    saved = torch.load(path, map_location="cpu", weights_only=not whole)
    network = (saved["network"] if whole else case.network(seed=9)).to(device)
    if not whole:
        network.load_state_dict(saved["network"])
    optimizer = OPTIMIZERS[kind](network.parameters())
    optimizer.load_state_dict(saved["optimizer"])
    random_of(device).set_rng_state(saved["rng"])
    train(case, network, optimizer, steps=3, device=device)
    return network, optimizer


@every_case_of_all
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_goes_on(case, kind, device, tmp_path):
    network, optimizer = first_half(case, kind, tmp_path / "checkpoint", device)
    train(case, network, optimizer, steps=3, device=device)
    torch.manual_seed(99)
    again, its_optimizer = second_half(case, kind, tmp_path / "checkpoint", device)
    equal_states(again, network)
    equal_states(its_optimizer, optimizer)


def finish(folder, device):
    """In another process, which has its own settings of CUDA."""
    with exact_cuda() if device == "cuda" else nullcontext():
        for name, case in ALL.items():
            for path in (folder / name, folder / f"{name}.whole"):
                network, _ = second_half(case, "AdamW", path, device)
                torch.save(network.state_dict(), f"{path}.finished")


def test_a_run_goes_on_in_another_process(device, tmp_path):
    finished = {}
    for name, case in ALL.items():
        network, optimizer = first_half(case, "AdamW", tmp_path / name, device)
        train(case, network, optimizer, steps=3, device=device)
        finished[name] = network.state_dict()
    run_elsewhere(
        f"""
import torch
from tests.interop.test_resume import finish
torch.set_num_threads({torch.get_num_threads()})
finish(folder, {device!r})
""",
        tmp_path,
    )
    for name, state in finished.items():
        for path in (tmp_path / name, tmp_path / f"{name}.whole"):
            equal_states(torch.load(f"{path}.finished"), state)
