"""``torch.device("meta")``: a network without memory, given some by ``to_empty`` or by ``assign=True``."""

import pytest
import torch
from torch.testing import assert_close

from tests.interop.networks import equal_states, every_case, step


@every_case
def test_nothing_is_drawn_and_shapes_come_out(case):
    before = torch.get_rng_state()
    with torch.device("meta"):
        network = case.build()
    assert torch.equal(torch.get_rng_state(), before)
    assert network.is_built and all(tensor.is_meta for tensor in network.state_dict().values())
    expected = case.network()
    for training in (True, False):
        outputs = network.train(training)(*case.inputs(batch=7, device="meta"))
        wanted = expected(*case.inputs(batch=7))
        for output, other in zip(
            *(each if isinstance(each, tuple) else (each,) for each in (outputs, wanted)), strict=True
        ):
            assert output.is_meta and output.shape == other.shape


@every_case
@pytest.mark.parametrize("assign", [True, False], ids=["assign", "to_empty"])
def test_a_state_is_loaded_into_a_network_without_memory(case, assign, device):
    network = case.network().to(device)
    with torch.device("meta"):
        twin = case.build()
    if not assign:
        twin.to_empty(device=device)
    twin.load_state_dict({key: value.clone() for key, value in network.state_dict().items()}, assign=assign)
    equal_states(twin, network)
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in network.parameters()]
    inputs = case.inputs(device=device)
    assert_close(twin.eval()(*inputs), network.eval()(*inputs))
    for each in (network, twin):
        step(case, each, torch.optim.SGD(each.parameters(), lr=0.1), device=device)
    equal_states(twin, network)
