"""A network as a graph of torch: ``torch.export``, ``torch.fx`` and ``torch.jit.trace``."""

import copy
import io

import pytest
import torch
from torch.export import Dim
from torch.testing import assert_close

from tests.manners.networks import CASES, Case, every_case


def export(case: Case, network: torch.nn.Module, strict: bool) -> torch.export.ExportedProgram:
    batch = Dim("batch", min=2)
    shapes = (tuple({0: batch} for _ in case.widths),)
    return torch.export.export(network, case.inputs(), dynamic_shapes=shapes, strict=strict)


@every_case
@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_network_takes_any_batch(case, strict):
    network = case.network().eval()
    program = export(case, network, strict)
    for batch in (2, 3, 9):
        inputs = case.inputs(batch)
        assert_close(program.module()(*inputs), case.reference(network.state_dict(), *inputs))
    assert program.state_dict.keys() == network.state_dict().keys()


@every_case
@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_network_is_saved_and_loaded(case, strict):
    network = case.network().eval()
    file = io.BytesIO()
    torch.export.save(export(case, network, strict), file)
    file.seek(0)
    inputs = case.inputs(5)
    assert_close(torch.export.load(file).module()(*inputs), case.reference(network.state_dict(), *inputs))


def test_exporting_leaves_the_network_as_it_was():
    case = CASES["chain"]
    network = case.network().eval()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    export(case, network, strict=True)
    assert not network.training
    assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert type(network(*case.inputs())) is torch.Tensor


@every_case
def test_fx_traces_a_network(case):
    network = case.network().eval()
    traced = torch.fx.symbolic_trace(network)
    for batch in (1, 4, 9):
        inputs = case.inputs(batch)
        assert_close(traced(*inputs), case.reference(network.state_dict(), *inputs))
    shared = dict(network.named_parameters())
    assert {name: id(p) for name, p in traced.named_parameters()} == {name: id(p) for name, p in shared.items()}


def test_fx_leaves_dropout_in_as_the_network_has_it():
    case = CASES["chain"]
    network = case.network().train()
    traced = torch.fx.symbolic_trace(network)
    torch.manual_seed(0)
    expected = network(*case.inputs())
    torch.manual_seed(0)
    assert_close(traced(*case.inputs()), expected)
    assert not torch.equal(expected, case.reference(network.state_dict(), *case.inputs()))


@every_case
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated")
def test_jit_traces_a_network_without_a_warning_of_its_own(case):
    network = case.network().eval()
    traced = torch.jit.trace(network, case.inputs())
    inputs = case.inputs(7)
    assert_close(traced(*inputs), case.reference(network.state_dict(), *inputs))
    assert traced.state_dict().keys() == network.state_dict().keys()


def test_a_traced_graph_is_independent_of_later_copies():
    case = CASES["residual"]
    network = case.network().eval()
    traced = copy.deepcopy(torch.fx.symbolic_trace(network))
    expected = case.reference(network.state_dict(), *case.inputs()).detach()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert_close(traced(*case.inputs()), expected)
