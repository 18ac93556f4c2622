"""``torch.compile``: one graph, the same numbers in both modes, nothing twice. With ``aot_eager`` unless said."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from tests.interop.networks import (
    CASES,
    Case,
    copied_state,
    equal_states,
    every_case,
    make_convolution,
    step,
)
from torchneupy.layers import Convolution, Input

in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])

# What torch says of how it compiles functions with gradients of their own.
pytestmark = pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def counter() -> Any:
    return CompileCounterWithBackend("aot_eager")


@every_case
@in_both_modes
@pytest.mark.parametrize(
    "dynamic, batches", [(None, [4, 4]), (True, [15, 2, 13])], ids=["steps", "batch sizes of 2 and more"]
)  # 15 is the size of nothing else: torch takes equal sizes in the first call for one and the same size
def test_a_network_is_compiled_once_and_computes_the_same(case, training, dynamic, batches, counter, device):
    """Outputs, gradients and statistics, with what Dropout draws, from step to step and for other batch sizes."""
    network = case.network().train(training).to(device)
    twin = copy.deepcopy(network)
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter, dynamic=dynamic)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (network, twin)]
    n_graphs = 0
    for seed, batch in enumerate(batches):
        losses = []
        for each, optimizer in zip((compiled, twin), optimizers, strict=True):
            torch.manual_seed(seed)
            with torch._dynamo.config.patch(error_on_recompile=bool(seed)):
                losses.append(step(case, each, optimizer, batch, seed, device=device))
        assert_close(*losses)
        equal_states(network, twin, rtol=1e-5, atol=1e-6)
        n_graphs = n_graphs or counter.frame_count
    # Torch itself calls the backend twice at the first call where a probability of dropout is dynamic too.
    assert counter.frame_count == n_graphs <= 2


@pytest.mark.full
def test_images_of_other_sizes_are_not_compiled_again(device):
    network = make_convolution((None, None, 3)).to(device)
    compiled: Any = torch.compile(network, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for shape in [(15, 11, 13, 3), (5, 8, 6, 3), (2, 19, 7, 3)]:
            compiled(torch.ones(shape, device=device)).sum().backward()


@pytest.mark.parametrize(
    "make, shape",
    [(lambda: Input((8, 9, 3)) >> Convolution((3, 3, 4)), (8, 9, 3)), (lambda: nn.Conv2d(3, 4, 3), (3, 8, 9))],
    ids=["Convolution", "nn.Conv2d"],
)
def test_torch_has_one_graph_of_a_convolution_below_16_images_and_one_above(make, shape, counter):
    """On the CPU, whose kernels for few images are others."""
    compiled: Any = torch.compile(make(), fullgraph=True, backend=counter, dynamic=True)
    found = []
    for batch in (15, 2, 16, 40, 3):
        compiled(torch.ones(batch, *shape))
        found.append(counter.frame_count)
    assert found == [1, 1, 2, 2, 2]


def test_there_is_one_graph_for_each_mode(counter, device):
    """Dropout, and the statistics of BatchNorm, follow the mode."""
    case: Case = CASES["convolution"]
    network = case.network().to(device)
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter)
    for training in (True, False, True, False):
        before = copied_state(network)
        compiled.train(training)(*case.inputs(device=device))
        assert torch.equal(before["norm.running_mean"], network["norm"].running_mean) != training
    assert counter.frame_count == 2


# The other networks in the full run: what inductor compiles takes long.
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.full] * (case.name != "dense"), id=case.name) for case in CASES.values()],
)
# Inductor itself uses what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_inductor_trains_a_network(case, device):
    network = case.network().to(device)
    if case.name == "dense":
        network["dropout"].eval()  # inductor draws other numbers
    twin = copy.deepcopy(network)
    compiled: Any = torch.compile(network, fullgraph=True, dynamic=True)
    for each in (compiled, twin):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        for batch in (17, 13):
            step(case, each, optimizer, batch, device=device)
    equal_states(network, twin, rtol=1e-4, atol=1e-5)
    compiled.eval()
    inputs = case.inputs(device=device)
    assert_close(compiled(*inputs), twin.eval()(*inputs), rtol=1e-4, atol=1e-5)


# Inductor itself uses what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_inductor_drops_out_anew_at_each_call(device):
    case: Case = CASES["dense"]
    compiled: Any = torch.compile(case.network().to(device), fullgraph=True)
    first, second = (compiled(*case.inputs(32, device=device)) for _ in range(2))
    assert not torch.equal(first, second)
