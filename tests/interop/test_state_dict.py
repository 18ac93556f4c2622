"""``state_dict``, ``load_state_dict`` and ``torch.save``: the same keys everywhere, and every way to load."""

import json
from pickle import UnpicklingError

import pytest
import torch
from torch.testing import assert_close

from tests.interop.networks import CASES, copied_state, equal_states, every_case_of_all, run_elsewhere, step
from torchneupy.layers import BatchNorm, Dropout, Input, Relu, Softmax, join

AUTOMATIC = ["relu-1", "batch-norm-1", "dropout-1", "relu-2", "softmax-1"]


def make_with_automatic_names():
    return join(Input(6), Relu(5) >> BatchNorm() >> Dropout(0.5), Relu(5), Softmax(3))


def keys_of_all():
    networks = {name: case.network() for name, case in CASES.items()} | {"automatic": make_with_automatic_names()}
    return {name: list(network.state_dict()) for name, network in networks.items()}


def test_keys_do_not_depend_on_what_was_built_before(tmp_path):
    script = """
import json
from tests.interop.networks import CASES
from tests.interop.test_state_dict import keys_of_all, make_with_automatic_names
before = [make_with_automatic_names() for _ in range(3)]
[case.network() for case in CASES.values()]
assert before[-1].layers[1].name != "relu-1"
(folder / "keys.json").write_text(json.dumps(keys_of_all()))
"""
    run_elsewhere(script, tmp_path)
    keys = keys_of_all()
    assert json.loads((tmp_path / "keys.json").read_text()) == keys
    assert list(dict.fromkeys(key.split(".")[0] for key in keys["automatic"])) == [
        name for name in AUTOMATIC if not name.startswith("dropout")
    ]


@every_case_of_all
def test_strict_loading_takes_all_or_says_what_does_not_fit(case, device):
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    state = copied_state(network)
    assert str(twin.load_state_dict(state)) == "<All keys matched successfully>"
    equal_states(twin, network)
    last = list(state)[-1]
    wrong = {key: value for key, value in state.items() if key != last} | {"stranger": torch.ones(1)}
    with pytest.raises(RuntimeError, match="Missing key") as caught:
        twin.load_state_dict(wrong)
    assert f'"{last}"' in str(caught.value) and 'Unexpected key(s) in state_dict: "stranger"' in str(caught.value)
    with pytest.raises(RuntimeError, match=f"size mismatch for {last}"):
        twin.load_state_dict({**state, last: torch.ones(99)})


@every_case_of_all
def test_loading_that_is_not_strict_takes_what_fits(case, device):
    network, twin, before = (case.network(seed).to(device) for seed in (0, 1, 1))
    state = copied_state(network)
    left_out = list(state)[-2]
    del state[left_out]
    found = twin.load_state_dict({**state, "stranger": torch.ones(1)}, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == ([left_out], ["stranger"])
    equal_states(twin, {key: state.get(key, value) for key, value in before.state_dict().items()})


@every_case_of_all
def test_assigned_tensors_are_the_ones_that_compute_and_learn(case, device):
    network, twin = (case.network(seed).eval().to(device) for seed in (0, 1))
    inputs = case.inputs(device=device)
    state = copied_state(network)
    twin.load_state_dict(state, assign=True)
    places = {key: tensor.data_ptr() for key, tensor in twin.state_dict().items()}
    assert places == {key: tensor.data_ptr() for key, tensor in state.items()}
    assert_close(twin(*inputs), case.reference(state, *inputs))
    registered = {id(tensor) for tensor in [*twin.parameters(), *twin.buffers()]}
    assert registered == {id(variable) for variable in twin.variables.values()}
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in network.parameters()]
    for each in (network, twin):
        step(case, each, torch.optim.SGD(each.parameters(), lr=0.1), device=device)
    equal_states(twin, network)


@every_case_of_all
@pytest.mark.parametrize("options", [{}, {"mmap": True}], ids=["read", "mapped"])
def test_a_saved_state_holds_nothing_but_tensors(case, options, device, tmp_path):
    """And what was saved on CUDA is loaded where there is none."""
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    torch.save(network.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True, **options)
    assert {tensor.device.type for tensor in state.values()} == {"cpu"}
    assert any(not torch.equal(*pair) for pair in zip(network.parameters(), twin.parameters(), strict=True))
    twin.load_state_dict(state)
    equal_states(twin, network)
    inputs = case.inputs(device=device)
    assert_close(twin.eval()(*inputs), case.reference(network.state_dict(), *inputs))


@every_case_of_all
def test_a_saved_network_is_loaded_and_goes_on(case, device, tmp_path):
    network = case.network().to(device)
    step(case, network, torch.optim.SGD(network.parameters(), lr=0.1), device=device)
    torch.save(network, tmp_path / "network.pt")
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        torch.load(tmp_path / "network.pt", weights_only=True)
    twin = torch.load(tmp_path / "network.pt", weights_only=False)
    assert [layer.name for layer in twin] == [layer.name for layer in network]
    equal_states(twin, network)
    for each in (network, twin):
        torch.manual_seed(0)
        step(case, each, torch.optim.SGD(each.parameters(), lr=0.1), device=device)
    equal_states(twin, network)
    inputs = case.inputs(device=device)
    assert_close(twin.eval()(*inputs), network.eval()(*inputs), rtol=0, atol=0)
