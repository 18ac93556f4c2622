"""safetensors' own functions for torch; those of ``torchneupy.storage`` have their tests in tests/storage."""

import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file, save_model

from tests.interop.networks import equal_states, every_case, step


@every_case
def test_a_state_goes_through_a_file(case, device, tmp_path):
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    step(case, network, torch.optim.SGD(network.parameters(), lr=0.1), device=device)
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    with safe_open(tmp_path / "network.safetensors", "pt") as file:
        assert set(file.keys()) == set(network.state_dict())
    twin.load_state_dict(load_file(tmp_path / "network.safetensors", device=device))
    equal_states(twin, network)


@every_case
def test_a_network_is_a_model_to_safetensors(case, device, tmp_path):
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    save_model(network, str(tmp_path / "network.safetensors"))
    missing, unexpected = load_model(twin, tmp_path / "network.safetensors", device=device)
    assert not missing and not unexpected
    equal_states(twin, network)
