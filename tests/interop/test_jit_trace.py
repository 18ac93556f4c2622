"""``torch.jit.trace``: of networks, and of a child of one. torch alone warns, of itself: it has deprecated it."""

import pytest
import torch
from torch.testing import assert_close

from tests.interop.networks import SMALL, Case, every_small_case

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated")


@every_small_case
def test_a_network_is_traced_without_a_warning_of_its_own(case, device):
    network = case.network().eval().to(device)
    traced = torch.jit.trace(network, case.inputs(device=device))
    inputs = case.inputs(7, device=device)
    assert_close(traced(*inputs), case.reference(network.state_dict(), *inputs))
    assert traced.state_dict().keys() == network.state_dict().keys()


def test_a_traced_child_is_the_one_that_runs(device):
    case: Case = SMALL["chain"]
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    expected = case.reference(network.state_dict(), *inputs)
    network.set_submodule("relu-1", torch.jit.trace(network.get_submodule("relu-1"), inputs))
    assert_close(network(*inputs), expected)
    assert_close(network.output(*inputs), expected)
