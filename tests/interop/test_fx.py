"""``torch.fx.symbolic_trace``: a graph with the network's own parameters, in either mode."""

import copy

import pytest
import torch
from torch.testing import assert_close

from tests.interop.networks import equal_states, every_case, make_convolution, train


@every_case
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_traced_network_computes_the_same_for_any_batch(case, training, device):
    network = case.network().train(training).to(device)
    twin = copy.deepcopy(network)
    traced = torch.fx.symbolic_trace(network)
    traced.graph.lint()
    for batch in (4, 2, 9):
        outputs = []
        for each in (traced, twin):
            torch.manual_seed(batch)
            outputs.append(each(*case.inputs(batch, device=device)))
        assert_close(*outputs)
    assert_close(dict(network.state_dict()), dict(twin.state_dict()))


@every_case
def test_a_traced_network_trains_the_network(case, device):
    network, twin = (case.network().to(device) for _ in range(2))
    traced = torch.fx.symbolic_trace(network)
    assert {id(p) for p in traced.parameters()} == {id(p) for p in network.parameters()}
    for each in (traced, twin):
        torch.manual_seed(0)
        train(case, each, torch.optim.SGD(each.parameters(), lr=0.1), steps=2, device=device)
    equal_states(network, twin, rtol=1e-5, atol=1e-6)


def test_a_traced_network_takes_images_of_any_size(device):
    network = make_convolution((None, None, 3)).eval().to(device)
    traced = torch.fx.symbolic_trace(network)
    for shape in [(1, 8, 9, 3), (3, 5, 12, 3)]:
        images = torch.rand(shape, device=device)
        assert_close(traced(images), network(images))
