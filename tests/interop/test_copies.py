"""Copies of networks: ``deepcopy``, ``pickle``, ``torch.save``, here and in another process."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.interop.networks import SMALL, copied_state, descend, every_small_case, run_elsewhere, total
from torchneupy.layers import Dropout, Input, Relu, Softmax, join


def by_pickle(network):
    return pickle.loads(pickle.dumps(network))


def by_file(network):
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


copied = pytest.mark.parametrize("make_copy", [copy.deepcopy, by_pickle, by_file])


@every_small_case
@copied
def test_a_copy_is_equal_and_independent(case, make_copy):
    network = case.network()
    twin = make_copy(network)
    assert type(twin) is type(network) and twin.training
    assert repr(list(twin)) == repr(list(network))
    assert twin.layer_names_only() == network.layer_names_only()
    assert list(twin.state_dict()) == list(network.state_dict())
    assert_close(dict(twin.state_dict()), dict(network.state_dict()), rtol=0, atol=0)
    places = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert places.isdisjoint(tensor.data_ptr() for tensor in twin.state_dict().values())
    before = copied_state(network)
    descend(twin, torch.optim.SGD(twin.parameters(), lr=0.1), case.inputs(), steps=1)
    assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert any(not torch.equal(before[key], value) for key, value in twin.state_dict().items())


@every_small_case
@copied
def test_a_copy_can_be_copied_connected_and_run_as_the_first(case, make_copy):
    network = case.network().eval()
    again = make_copy(make_copy(network))
    assert not again.training
    assert_close(again(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))
    assert_close(again.output(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))
    longer = again.end(again.output_layers[0]) >> Relu(2)
    assert longer.output_shape == (None, 2) and longer.is_built


@copied
def test_a_shared_parameter_is_shared_in_the_copy(make_copy):
    weight = nn.Parameter(torch.eye(4))
    network = Input(4) >> Relu(4, weight=weight) >> Dropout(0.1) >> Relu(4, weight=weight)
    assert network[1].weight is network[3].weight is weight
    twin = make_copy(network)
    assert twin[1].weight is twin[3].weight
    assert twin[1].weight is not weight
    assert len(list(twin.parameters())) == 3


@copied
def test_frozen_parts_modes_and_buffers_are_copied(make_copy):
    network = SMALL["custom"].network()
    network.get_submodule("p-relu-1").requires_grad_(False).eval()
    network.get_submodule("shifted-1").shift.fill_(7)
    twin = make_copy(network)
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in network.parameters()]
    assert [m.training for m in twin.modules()] == [m.training for m in network.modules()]
    assert twin.get_submodule("shifted-1").shift.tolist() == [7.0] * 6
    assert "shift" not in dict(twin.get_submodule("shifted-1").named_parameters())


def test_states_and_networks_are_read_in_another_process(tmp_path):
    """There, other networks were built before, so layers have other names."""
    for name, case in SMALL.items():
        network = case.network(seed=5)
        torch.save(network.state_dict(), tmp_path / f"{name}.state")
        torch.save(network, tmp_path / f"{name}.network")
        torch.save(network.eval()(*case.inputs()), tmp_path / f"{name}.expected")
    run_elsewhere(
        """
import torch
from tests.interop.networks import SMALL
for name, case in SMALL.items():
    [case.network() for _ in range(3)]
    expected = torch.load(folder / f"{name}.expected")
    built = case.network(seed=1)
    built.load_state_dict(torch.load(folder / f"{name}.state"), strict=True)
    read = torch.load(folder / f"{name}.network", weights_only=False)
    assert [layer.name for layer in built] != [layer.name for layer in read], name
    for network in (built, read):
        torch.testing.assert_close(network.eval()(*case.inputs()), expected)
""",
        tmp_path,
    )


def test_a_thousand_layers_are_trained_copied_pickled_and_printed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = join(Input(6), *[Relu(6) for _ in range(998)], Softmax(3))
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    before = copied_state(network)
    descend(network, torch.optim.SGD(network.parameters(), lr=0.1), (x,), steps=1)
    # So many rectifiers leave next to nothing of the input: the last layer's bias learns for certain.
    assert not torch.equal(before["softmax-1.bias"], network.state_dict()["softmax-1.bias"])
    total(network(x)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    for twin in (copy.deepcopy(network), by_pickle(network), by_file(network), copy.copy(network)):
        assert repr(twin) == "(?, 6) -> [... 1000 layers ...] -> (?, 3)"
        assert len(list(twin.parameters())) == 1998
        assert_close(twin(x), network(x), rtol=0, atol=0)
    assert str(network.summary()).count("\n") == 1003
