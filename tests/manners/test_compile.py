"""``torch.compile``: one graph, the same numbers, nothing compiled twice. Backend ``aot_eager`` unless said."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from tests.manners.networks import CASES, Case, copied_state, every_case, gradients, total, train
from torchneupy import init
from torchneupy.layers import GRU, LSTM, BaseLayer, BatchNorm, Input, Linear, join

in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


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
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_network_is_one_graph_with_the_same_outputs_and_gradients(case, training, dynamic):
    network = case.network().train(training)
    twin = copy.deepcopy(network)
    compiled: Any = torch.compile(network, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for step in range(2):
        torch.manual_seed(step)
        outputs = compiled(*case.inputs())
        torch.manual_seed(step)
        expected = twin(*case.inputs())
        assert_close(outputs, expected)
        total(outputs).backward()
        total(expected).backward()
        assert_close(gradients(network), gradients(twin))


@every_case
@pytest.mark.parametrize(
    "dynamic, batches", [(False, [4, 4, 4]), (True, [9, 2, 17, 13])], ids=["steps", "batch sizes of 2 and more"]
)  # 9 is the width of nothing here: torch takes equal sizes in the first call for one and the same size
def test_training_does_not_compile_again(case, dynamic, batches, counter):
    network = case.network()
    before = copied_state(network)
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter, dynamic=dynamic)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with torch._dynamo.config.patch(error_on_recompile=True):
        train(compiled, optimizer, case.inputs(batches[0]), steps=1)
        n_graphs = counter.frame_count
        for batch in batches[1:]:
            train(compiled, optimizer, case.inputs(batch), steps=1)
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


def test_there_is_one_graph_for_each_mode(counter):
    case = CASES["chain"]
    network = case.network()
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter)
    for training in (True, False, True, False):
        compiled.train(training)
        compiled(*case.inputs())
    assert counter.frame_count == 2
    assert_close(compiled(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))


def test_a_frozen_child_keeps_its_mode(counter):
    case = CASES["chain"]
    network = case.network().train()
    network.get_submodule("dropout-1").eval()
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter)
    assert_close(compiled(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))


@every_case
@in_both_modes
def test_output_with_an_explicit_flag_is_one_graph(case, training, counter):
    network = case.network()
    compiled: Any = torch.compile(network.output, fullgraph=True, backend=counter)
    torch.manual_seed(0)
    outputs = compiled(*case.inputs(), training=training)
    torch.manual_seed(0)
    assert_close(outputs, network.output(*case.inputs(), training=training))
    assert counter.frame_count == 1


@every_case
def test_compiled_in_place_a_network_keeps_its_keys(case, counter):
    network = case.network().eval()
    expected, keys = network(*case.inputs()), list(network.state_dict())
    network.compile(fullgraph=True, backend=counter)
    assert_close(network(*case.inputs()), expected)
    assert counter.frame_count == 1
    assert list(network.state_dict()) == keys


@pytest.mark.parametrize("in_place", [True, False], ids=["child.compile()", "torch.compile(child)"])
def test_a_compiled_child_is_the_one_that_runs(in_place, counter):
    case = CASES["chain"]
    network = case.network().eval()
    expected = network(*case.inputs())
    child = network.get_submodule("relu-1")
    if in_place:
        child.compile(fullgraph=True, backend=counter)
    else:
        setattr(network, "relu-1", torch.compile(child, fullgraph=True, backend=counter))
    assert_close(network(*case.inputs()), expected)
    assert counter.frame_count == 1


def test_hooks_of_layers_are_compiled_in(counter):
    case = CASES["chain"]
    network = case.network().eval()
    network.get_submodule("relu-1").register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 3,))
    network.get_submodule("softmax-1").register_forward_hook(lambda layer, inputs, output: output + 1)
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter)
    (x,) = case.inputs()
    assert_close(compiled(x), case.reference(network.state_dict(), x * 3) + 1)
    assert counter.frame_count == 1


@every_case
def test_a_network_is_compiled_within_another_module(case, counter):
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = case.network().eval()

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return total(self.body(*inputs)) * 2

    model = Doubling()
    compiled: Any = torch.compile(model, fullgraph=True, backend=counter)
    expected = total(case.reference(model.body.state_dict(), *case.inputs())) * 2
    assert_close(compiled(*case.inputs()), expected)
    assert counter.frame_count == 1


def test_a_training_step_with_its_loss_is_one_graph(counter):
    case: Case = CASES["residual"]
    network, twin = case.network(), case.network()

    @torch.compile(fullgraph=True, backend=counter)
    def loss(*inputs: torch.Tensor) -> torch.Tensor:
        return total(network(*inputs))

    loss(*case.inputs()).backward()
    total(twin(*case.inputs())).backward()
    assert_close(gradients(network), gradients(twin))
    assert counter.frame_count == 1


# Inductor itself uses what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_inductor_compiles_a_network():
    case = CASES["residual"]
    network = case.network().eval()
    compiled: Any = torch.compile(network, fullgraph=True)
    outputs = compiled(*case.inputs())
    assert_close(outputs, case.reference(network.state_dict(), *case.inputs()))
