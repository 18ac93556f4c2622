"""The device ``meta``: a network without memory, given some by ``to_empty`` or by ``assign=True``."""

import pytest
import torch
from torch.testing import assert_close

from tests.interop.networks import Case, copied_state, equal_states, every_case_of_all, parts, step

in_both_ways = pytest.mark.parametrize("moved", [False, True], ids=["built there", "moved there"])


def on_meta(case: Case, moved: bool):
    if moved:
        return case.network().to("meta")
    with torch.device("meta"):
        return case.build()


@every_case_of_all
@in_both_ways
def test_shapes_come_out(case, moved):
    network, expected = on_meta(case, moved), case.network()
    assert network.is_built and all(tensor.is_meta for tensor in network.state_dict().values())
    ours, theirs = ({key: t.shape for key, t in each.state_dict().items()} for each in (network, expected))
    assert list(ours.items()) == list(theirs.items())
    for training in (True, False):
        outputs = network.train(training)(*case.inputs(batch=7, device="meta"))
        wanted = expected.train(training)(*case.inputs(batch=7))
        for output, other in zip(parts(outputs), parts(wanted), strict=True):
            assert output.is_meta and output.shape == other.shape


@every_case_of_all
def test_nothing_is_drawn(case):
    before = torch.get_rng_state()
    on_meta(case, moved=False)
    assert torch.equal(torch.get_rng_state(), before)


@every_case_of_all
@in_both_ways
@pytest.mark.parametrize("assign", [True, False], ids=["assign", "to_empty"])
def test_a_state_is_loaded_into_a_network_without_memory(case, moved, assign, device):
    network, twin = case.network().to(device), on_meta(case, moved)
    if not assign:
        twin.to_empty(device=device)
    twin.load_state_dict(copied_state(network), assign=assign)
    equal_states(twin, network)
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in network.parameters()]
    inputs = case.inputs(device=device)
    assert_close(twin.eval()(*inputs), case.reference(network.state_dict(), *inputs))
    network.eval()
    for each in (network, twin):
        step(case, each, torch.optim.SGD(each.parameters(), lr=0.1), device=device)
    equal_states(twin, network)
