"""``torch.fx.symbolic_trace``: a graph with the network's own parameters, in either mode."""

import copy

import pytest
import torch
from torch.testing import assert_close

from tests.interop.networks import SMALL, Case, equal_states, every_case_of_all, make_convolution, train


@every_case_of_all
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_traced_network_computes_the_same_for_any_batch(case, training, device):
    network = case.network().train(training).to(device)
    twin = copy.deepcopy(network)
    traced = torch.fx.symbolic_trace(network)
    traced.graph.lint()
    for batch in (4, 2, 9, 1):
        outputs, inputs = [], case.inputs(batch, device=device)
        for each in (traced, twin):
            torch.manual_seed(batch)
            outputs.append(each(*inputs))
        assert_close(*outputs)
        if not training:
            assert_close(outputs[0], case.reference(network.state_dict(), *inputs))
    assert_close(dict(network.state_dict()), dict(twin.state_dict()))


@every_case_of_all
def test_a_traced_network_trains_the_network(case, device):
    network, twin = (case.network().to(device) for _ in range(2))
    traced = torch.fx.symbolic_trace(network)
    ours, theirs = ({name: id(p) for name, p in each.named_parameters()} for each in (network, traced))
    assert theirs == ours
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


def test_dropout_stays_in_a_network_that_was_traced_in_training(device):
    case: Case = SMALL["chain"]
    network, inputs = case.network().to(device), case.inputs(device=device)
    outputs = torch.fx.symbolic_trace(network)(*inputs)
    assert not torch.equal(outputs, case.reference(network.state_dict(), *inputs))


def test_a_copy_of_a_traced_network_has_parameters_of_its_own(device):
    case: Case = SMALL["residual"]
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    traced = copy.deepcopy(torch.fx.symbolic_trace(network))
    expected = case.reference(network.state_dict(), *inputs).detach()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert_close(traced(*inputs), expected)
