"""``torch.compile``: one graph, the same numbers in both modes, nothing twice. With ``aot_eager`` unless said."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.interop.networks import (
    ALL,
    CASES,
    SMALL,
    Case,
    copied_state,
    equal_states,
    every_case_of_all,
    gradients,
    make_convolution,
    parts,
    step,
)
from torchneupy import init
from torchneupy.layers import GRU, LSTM, BaseLayer, BatchNorm, Convolution, Input, Linear, join

in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    # What torch says of how it compiles functions with gradients of their own.
    pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning"),
]


@every_case_of_all
@in_both_modes
@pytest.mark.parametrize(
    "dynamic, batches",
    [(None, [4, 4, 4]), (False, [4, 4, 4]), (True, [15, 2, 13, 17])],
    ids=["steps", "steps of one size only", "batch sizes of 2 and more"],
)  # 15 is the size of nothing else: torch takes equal sizes in the first call for one and the same size
def test_a_network_is_compiled_once_and_computes_the_same(case, training, dynamic, batches, counter, device):
    """Outputs, gradients and statistics, with what Dropout draws, from step to step and for other batch sizes."""
    network = case.network().train(training).to(device)
    before, twin = copied_state(network), copy.deepcopy(network)
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter, dynamic=dynamic)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (network, twin)]
    n_graphs = 0
    if case.name == "convolution":  # of which there is another graph for 16 images and more, see below
        batches = [batch for batch in batches if batch < 16]
    for seed, batch in enumerate(batches):
        found = []
        for each, optimizer in zip((compiled, twin), optimizers, strict=True):
            optimizer.zero_grad()
            torch.manual_seed(seed)
            with torch._dynamo.config.patch(error_on_recompile=bool(seed)):
                outputs = parts(each(*case.inputs(batch, seed, device=device)))
                loss = case.loss(outputs, case.targets(batch, seed))
                loss.backward()
            optimizer.step()
            found.append([*outputs, loss])
        assert_close(*found)
        assert_close(gradients(network), gradients(twin))
        equal_states(network, twin, rtol=1e-5, atol=1e-6)
        n_graphs = n_graphs or counter.frame_count
    # Torch itself calls the backend twice at the first call where a probability of dropout is dynamic too.
    assert counter.frame_count == n_graphs <= 2
    assert any(not torch.equal(before[key], value) for key, value in network.state_dict().items())


class Shift(BaseLayer):
    """A user's layer with buffers, of which one has an attribute of another name."""

    def get_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def create_variables(self, input_shape: Any) -> None:
        self.variable(init.Normal(), "scale", shape=input_shape[1:], trainable=False)
        self.by = self.variable(init.Normal(), "shift", shape=input_shape[1:], trainable=False)

    def output(self, input: Any) -> Any:
        return input * self.scale + self.by


@pytest.mark.parametrize(
    "layers",
    [[LSTM(8)], [LSTM(8, learn_init=True, peepholes=True)], [GRU(8)], [LSTM(8), BatchNorm()], [GRU(8), Shift()]],
    ids=["LSTM", "LSTM that learns its states", "GRU", "BatchNorm", "custom"],
)
@in_both_modes
def test_a_batch_as_large_as_a_layer_is_wide_is_not_taken_for_its_width(layers, training, counter):
    network = join(Input((3, 5)), *map(copy.copy, layers), Linear(2)).train(training)
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter, dynamic=True)
    compiled(torch.randn(8, 3, 5))
    n_graphs = counter.frame_count
    for batch in (11, 4):
        assert compiled(torch.randn(batch, 3, 5)).shape == (batch, 2)
    # Torch itself calls the backend twice at the first call where a number, the share of BatchNorm, is dynamic too.
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


@pytest.mark.parametrize("name", ["convolution", "chain"])
def test_there_is_one_graph_for_each_mode(name, counter, device):
    """Dropout, and the statistics of BatchNorm, follow the mode."""
    case: Case = ALL[name]
    network = case.network().to(device)
    inputs = case.inputs(device=device)
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter)
    for training in (True, False, True, False):
        before = copied_state(network)
        compiled.train(training)(*inputs)
        if name == "convolution":
            assert torch.equal(before["norm.running_mean"], network["norm"].running_mean) != training
    assert counter.frame_count == 2
    assert_close(compiled(*inputs), case.reference(network.state_dict(), *inputs))


# Inductor


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
def test_inductor_compiles_a_network_for_one_size(device):
    case: Case = SMALL["residual"]
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    compiled: Any = torch.compile(network, fullgraph=True)
    assert_close(compiled(*inputs), case.reference(network.state_dict(), *inputs))


# Inductor itself uses what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_inductor_drops_out_anew_at_each_call(device):
    case: Case = CASES["dense"]
    compiled: Any = torch.compile(case.network().to(device), fullgraph=True)
    first, second = (compiled(*case.inputs(32, device=device)) for _ in range(2))
    assert not torch.equal(first, second)
