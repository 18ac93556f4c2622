"""What the contract does not ask of LSTM and GRU: the two ways to compute, lengths, clipping, torch's own layers."""

import copy
import inspect
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jvp, vmap
from torch.testing import assert_close

from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.init import Normal, Uniform
from torchneupy.layers import GRU, LSTM, Identity, Input, Relu, Tanh, join, parallel, recurrent
from torchneupy.layers.base_recurrent import BaseRNNLayer, for_kernel, in_one_piece, keeps_for_gradient

both = pytest.mark.parametrize("make", [LSTM, GRU])


def kind(layer: Any) -> str:
    """What is unusual of a layer."""
    plain = type(layer)(4).get_params()
    changed = [name for name, value in layer.get_params().items() if repr(value) != repr(plain[name])]
    return "-".join([type(layer).__name__, *(name for name in changed if name != "name")])


KERNELS = {LSTM: "aten::lstm", GRU: "aten::gru"}


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def kernels_of(function: Callable[[], Any]) -> set[str]:
    """The operations that a call consists of."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function()
    return {event.key for event in profile.key_averages()}


def gradients(network: nn.Module, output: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
    return list(torch.autograd.grad((output * weights).sum(), list(network.parameters())))


# The kernel and the loop


@pytest.fixture
def by_loop(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """A copy of a network that computes step by step."""

    def convert(network: Any) -> Any:
        twin = copy.deepcopy(network)
        for layer in twin:
            if isinstance(layer, BaseRNNLayer):
                monkeypatch.setattr(layer, "_fits_kernel", lambda x: False, raising=False)
        return twin

    return convert


@both
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_kernel_and_loop_agree(
    make: Any, backwards: bool, final: bool, with_lengths: bool, by_loop: Callable[[Any], Any]
) -> None:
    initial = {"learn_init": True, "hidden_init": Normal(std=1), "biases": Normal(std=1)}
    layer = make(5, backwards=backwards, only_return_final=final, **initial)
    inputs: list[torch.Tensor] = [normal(4, 6, 3, dtype=torch.float64)]
    if with_lengths:
        inputs.append(torch.tensor([6, 1, 0, 4]))
    network = join(parallel(*[Input((6, 3)), Input(())][: len(inputs)]), layer).double()
    twin = by_loop(network)
    one, other = network(*inputs), twin(*inputs)
    assert_close(one, other, rtol=0, atol=1e-12)
    assert_close(gradients(network, one), gradients(twin, other), rtol=0, atol=1e-12)
    assert KERNELS[make] in kernels_of(lambda: network(*inputs))
    assert KERNELS[make] not in kernels_of(lambda: twin(*inputs))


@both
@pytest.mark.parametrize("with_lengths", [False, True])
def test_states_take_the_type_of_the_weights(make: Any, with_lengths: bool, by_loop: Callable[[Any], Any]) -> None:
    """FSDP2 in mixed precision gives the parameters another type, and leaves buffers as they are."""
    layer = make(3)
    network = parallel(Input((None, 4)), Input(())) >> layer if with_lengths else Input((None, 4)) >> layer
    for parameter in network.parameters():
        parameter.data = parameter.data.bfloat16()
    x, lengths = normal(2, 5, 4, dtype=torch.bfloat16), torch.tensor([0, 3])
    output = network(*([x, lengths] if with_lengths else [x]))
    assert output.dtype == by_loop(network)(*([x, lengths] if with_lengths else [x])).dtype == torch.bfloat16
    assert layer.hidden_init.dtype == torch.float32


@pytest.mark.parametrize(
    "layer",
    [
        LSTM(4),
        LSTM(4, backwards=True, learn_init=True, cell_init=Normal(), only_return_final=False, unroll_scan=True),
        GRU(4),
        GRU(4, backwards=True, learn_init=True, hidden_init=Normal(), only_return_final=False, unroll_scan=True),
    ],
    ids=kind,
)
def test_the_kernel_runs_where_it_can(layer: Any) -> None:
    network = Input((None, 3)) >> copy.deepcopy(layer)
    for mode in (True, False):
        network.train(mode)
        assert KERNELS[type(layer)] in kernels_of(lambda: network(normal(2, 5, 3)))


@pytest.mark.parametrize(
    "layer",
    [
        LSTM(4, peepholes=True),
        LSTM(4, gradient_clipping=1),
        LSTM(4, ingate=torch.tanh),
        LSTM(4, forgetgate=nn.functional.hardsigmoid),
        LSTM(4, outgate=nn.Sigmoid()),
        LSTM(4, cell=torch.sigmoid),
        GRU(4, gradient_clipping=1),
        GRU(4, resetgate=torch.tanh),
        GRU(4, updategate=nn.Sigmoid()),
        GRU(4, hidden_update=torch.sigmoid),
    ],
    ids=kind,
)
def test_the_loop_runs_where_the_kernel_cannot(layer: Any) -> None:
    network = Input((None, 3)) >> copy.deepcopy(layer)
    assert KERNELS[type(layer)] not in kernels_of(lambda: network(normal(2, 5, 3)))


def test_weights_for_cudnn_lie_one_behind_the_other_in_one_storage() -> None:
    given = [normal(8, 3), normal(8, 2).T.contiguous().T, normal(8)[:], torch.zeros(8)]
    leaves = [tensor.clone().requires_grad_() for tensor in given]
    weights = in_one_piece(leaves)
    assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 1
    ends = [0, 24, 40, 48, 56]
    assert [weight.storage_offset() for weight in weights] == ends[:-1]
    assert weights[0].untyped_storage().nbytes() == 4 * ends[-1]
    assert all(weight.is_contiguous() and torch.equal(weight, one) for weight, one in zip(weights, given, strict=True))
    factors = [normal(*weight.shape, seed=2) for weight in weights]
    total = torch.stack([(weight * factor).sum() for weight, factor in zip(weights, factors, strict=True)]).sum()
    assert_close(torch.autograd.grad(total, leaves), tuple(factors), rtol=0, atol=0)


@pytest.mark.parametrize("make", [lambda: LSTM(4), lambda: GRU(4, learn_init=True, hidden_init=Normal())])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_weights_for_cudnn_the_kernel_computes_the_same(
    monkeypatch: pytest.MonkeyPatch, make: Any, dtype: torch.dtype
) -> None:
    network, x = (Input((5, 3)) >> make()).to(dtype), normal(2, 5, 3, dtype=dtype)
    expected = network(x)
    found = gradients(network, expected)
    calls = []

    def pack(input: Any, weights: Any) -> Any:
        calls.append([tuple(weight.shape) for weight in weights])
        return in_one_piece(weights)

    monkeypatch.setattr(recurrent, "for_kernel", pack)
    output = network(x)
    assert_close(output, expected, rtol=0, atol=0)
    assert_close(gradients(network, output), found)
    width = network[1].input_weights.shape[1]
    assert calls == [[(width, 3), (width, 4), (width,), (width,)]]


def test_on_the_cpu_weights_are_not_copied_once_more() -> None:
    weights = [normal(8, 3)]
    assert for_kernel(normal(2, 5, 3), weights) is weights


def test_cudnn_is_told_that_a_gradient_will_be_asked_for() -> None:
    """It refuses the gradient otherwise, whatever mode the layer is in."""
    on_cuda = SimpleNamespace(is_cuda=True)
    assert keeps_for_gradient(on_cuda)
    with torch.no_grad():
        assert not keeps_for_gradient(on_cuda)
    assert not keeps_for_gradient(torch.ones(1))


@pytest.mark.parametrize("keeps", [True, False])
@both
def test_the_kernel_is_told(make: Any, keeps: bool, monkeypatch: Any) -> None:
    told = []

    def spy(kernel: Any) -> Any:
        def run(*arguments: Any) -> Any:
            told.append(arguments[6])  # torch calls it "train"
            return kernel(*arguments)

        return run

    monkeypatch.setattr(recurrent, "keeps_for_gradient", lambda x: keeps)
    for name in ("lstm", "gru"):
        monkeypatch.setattr(torch, name, spy(getattr(torch, name)))
    (Input((5, 3)) >> make(4))(normal(2, 5, 3))
    assert told == [keeps]


@pytest.mark.cuda
@both
def test_gradients_on_cuda_are_those_on_the_cpu(make: Any) -> None:
    network, x = Input((5, 3)) >> make(4), normal(2, 5, 3)
    twin = copy.deepcopy(network).cuda()
    for training in (True, False):
        network.zero_grad()
        twin.zero_grad()
        network.train(training)(x).square().sum().backward()
        twin.train(training)(x.cuda()).square().sum().backward()
        for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
            assert_close(ours.grad, theirs.grad.cpu(), rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.filterwarnings("error:RNN module weights are not part of single contiguous chunk of memory")
@both
def test_cudnn_takes_the_weights_as_they_are(make: Any) -> None:
    network, x = (Input((5, 3)) >> make(4)).cuda(), normal(2, 5, 3).cuda()
    output = network(x)
    expected = copy.deepcopy(network).cpu()(x.cpu())
    assert_close(output.cpu(), expected)
    gradients(network, output.cpu())


def of_torch(layer: Any) -> Any:
    """One of torch's layers with the values of one of ours."""
    n_features, width = layer.input_weights.shape
    own = nn.LSTM if isinstance(layer, LSTM) else nn.GRU
    module: Any = own(n_features, layer.n_units, batch_first=True).double()
    signs = torch.ones(width, dtype=torch.float64)
    if isinstance(layer, GRU):
        signs[layer.n_units : 2 * layer.n_units] = -1  # torch's gate keeps what NeuPy's replaces
    with torch.no_grad():
        module.weight_ih_l0.copy_((layer.input_weights * signs).T)
        module.weight_hh_l0.copy_((layer.hidden_weights * signs).T)
        module.bias_ih_l0.copy_(layer.biases * signs)
        module.bias_hh_l0.zero_()
    return module


@both
@given(batch=st.integers(1, 4), steps=st.integers(1, 6), n_features=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_as_the_layer_of_torch(make: Any, batch: int, steps: int, n_features: int, seed: int) -> None:
    network = Input((None, n_features)) >> make(3, only_return_final=False, biases=Uniform(-1, 1))
    x = normal(batch, steps, n_features, seed=seed, dtype=torch.float64)
    states, _ = of_torch(network.double().layers[1])(x)
    assert_close(network(x), states)


@both
def test_unrolling_changes_nothing(make: Any) -> None:
    x = normal(2, 5, 3)
    network, unrolled = (Input((None, 3)) >> make(4, unroll_scan=flag) for flag in (False, True))
    unrolled.load_state_dict(network.state_dict())
    assert_close(network(x), unrolled(x), rtol=0, atol=0)


# Sequences of no steps, of different lengths


@both
@pytest.mark.parametrize("final", [False, True])
def test_no_steps(make: Any, final: bool) -> None:
    layer = make(4, only_return_final=final, hidden_init=Normal())
    network = Input((None, 3)) >> layer
    assert network(torch.empty(2, 0, 3)).shape == ((2, 4) if final else (2, 0, 4))
    if final:
        assert_close(network(torch.empty(2, 0, 3)), layer.hidden_init.expand(2, -1))
    with_lengths = (Input((None, 3)) | Input(())) >> layer
    assert_close(with_lengths(torch.empty(2, 0, 3), torch.zeros(2)), network(torch.empty(2, 0, 3)))


@both
@given(data=st.data(), backwards=st.booleans(), final=st.booleans())
@settings(max_examples=20)
def test_padding_does_not_count(make: Any, data: Any, backwards: bool, final: bool) -> None:
    """Each sequence comes out as it does alone, without its padding; padding comes out as zero."""
    lengths = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    layer = make(3, backwards=backwards, only_return_final=final, hidden_init=Normal(std=1)).double()
    network, alone = (Input((None, 2)) | Input(())) >> layer, Input((None, 2)) >> layer
    network.double()
    x = normal(len(lengths), 5, 2, dtype=torch.float64)
    output = network(x, torch.tensor(lengths))
    for sequence, length, found in zip(x, lengths, output, strict=True):
        expected = alone(sequence[None, :length])[0]
        if final:
            assert_close(found, expected)
        else:
            assert_close(found[:length], expected)
            assert not found[length:].any()


@both
def test_no_gradient_reaches_padding(make: Any) -> None:
    network = (Input((None, 2)) | Input(())) >> make(3, backwards=True, only_return_final=False)
    x = normal(2, 5, 2).requires_grad_()
    network(x, torch.tensor([3, 5])).sum().backward()
    assert x.grad is not None
    assert not x.grad[0, 3:].any() and x.grad[0, :3].all() and x.grad[1].all()


@both
def test_lengths_of_any_type_and_from_arrays(make: Any) -> None:
    network = (Input((None, 2), name="x") | Input((), name="n")) >> make(3)
    x, lengths = normal(3, 5, 2), [1, 4, 5]
    expected = network(x, torch.tensor(lengths))
    for given_lengths in (lengths, np.array(lengths), np.array(lengths, np.float32), torch.tensor(lengths).float()):
        assert_close(network(x, given_lengths), expected, rtol=0, atol=0)
    assert_close(network({"n": lengths, "x": x}), expected, rtol=0, atol=0)
    # Whole numbers above 256 are not all in bfloat16, which must not become theirs.
    long = (Input((None, 2)) | Input(())) >> make(3, only_return_final=False)
    output = long.bfloat16()(torch.ones(1, 300, 2).bfloat16(), np.array([299]))
    assert output[0, 298].any() and not output[0, 299].any()


@both
@pytest.mark.parametrize("lengths", [[6, 1], [-1, 2]])
def test_impossible_lengths(make: Any, lengths: list[int]) -> None:
    network = (Input((None, 2)) | Input(())) >> make(3, name="recurrent")
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match=rf"`recurrent` got lengths from {min(lengths)} to {max(lengths)}.* 5 steps"):
        network(normal(2, 5, 2), torch.tensor(lengths))
    assert_close(network.state_dict(), before)


@both
def test_shapes_with_lengths(make: Any) -> None:
    assert make(3).get_output_shape((None, 5, 2), (7,)) == TensorShape((7, 3))
    assert make(3, only_return_final=False).get_output_shape(None, (7,)) == TensorShape((7, None, 3))
    with pytest.raises(LayerConnectionError, match=r"\(4, 5, 2\).*another batch, \(7,\).*name='one'"):
        make(3, name="one").get_output_shape((4, 5, 2), (7,))


# Gradients


@pytest.mark.parametrize("n_steps", [1, 4])
def test_clipping_of_lstm(n_steps: int) -> None:
    """Against the gradients worked out step by step with the clipping written out."""
    limit, x = 0.02, normal(2, n_steps, 3, dtype=torch.float64)
    network = (Input((None, 3)) >> LSTM(4, gradient_clipping=limit, biases=Uniform(-1, 1))).double()
    layer: Any = network.layers[1]
    output = network(x)
    found = dict(zip(["w", "u", "b"], gradients(network, output), strict=True))

    w, u, b = layer.input_weights, layer.hidden_weights, layer.biases
    hidden = cell = torch.zeros(2, 4, dtype=torch.float64)
    arguments, states = [], []
    for step in x.unbind(1):
        before = (step @ w + b + hidden @ u).detach().requires_grad_()
        cell_before = cell.detach().requires_grad_()
        i, f, g, o = before.chunk(4, dim=1)
        cell = f.sigmoid() * cell_before + i.sigmoid() * g.tanh()
        states.append((hidden, cell_before, before, cell, o.sigmoid() * cell.tanh()))
        arguments.append(step)
        hidden = states[-1][4].detach()
    assert_close(output, hidden)
    g_hidden = torch.linspace(-1, 2, output.numel(), dtype=torch.float64).view_as(output)
    g_cell = torch.zeros_like(g_hidden)
    expected = {"w": torch.zeros_like(w), "u": torch.zeros_like(u), "b": torch.zeros_like(b)}
    for step, (hidden, cell_before, before, cell, out) in zip(reversed(arguments), reversed(states), strict=True):
        to_arguments, to_cell = torch.autograd.grad((out, cell), (before, cell_before), (g_hidden, g_cell))
        clipped = to_arguments.clamp(-limit, limit)
        expected["w"] += step.T @ clipped
        expected["u"] += hidden.T @ clipped
        expected["b"] += clipped.sum(0)
        g_hidden, g_cell = clipped @ u.T, to_cell
    assert_close(found, {name: value.detach() for name, value in expected.items()})


@both
def test_clipping_that_never_bites_changes_nothing(make: Any) -> None:
    x = normal(2, 5, 3, dtype=torch.float64)
    plain = (Input((None, 3)) >> make(4, biases=Uniform(-1, 1))).double()
    clipped = (Input((None, 3)) >> make(4, gradient_clipping=1e6)).double()
    clipped.load_state_dict(plain.state_dict())
    assert_close(plain(x), clipped(x))
    assert_close(gradients(plain, plain(x)), gradients(clipped, clipped(x)))


@both
def test_clipping_bounds_the_gradient_of_the_biases(make: Any) -> None:
    network = Input((None, 3)) >> make(4, gradient_clipping=0.01)
    (1000 * network(normal(2, 5, 3))).sum().backward()
    assert network.layers[1].biases.grad.abs().max() <= 2 * 5 * 0.01 + 1e-6  # of 2 samples and 5 steps


@both
def test_second_derivatives(make: Any) -> None:
    network = (Input((None, 2)) >> make(3)).double()
    assert torch.autograd.gradgradcheck(network, normal(2, 3, 2, dtype=torch.float64).requires_grad_())


# Other tools


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's forward derivatives use it
@pytest.mark.parametrize("layer", [LSTM(4), LSTM(4, peepholes=True), GRU(4), GRU(4, gradient_clipping=0.1)], ids=kind)
def test_functional_transforms(layer: Any) -> None:
    network = Input((None, 3)) >> copy.deepcopy(layer)
    x = normal(2, 5, 3)
    states = {key: torch.stack([v, v + 0.1]) for key, v in network.state_dict().items()}
    outputs = vmap(lambda values: functional_call(network, values, (x,)))(states)
    for index in range(2):
        one = {key: value[index] for key, value in states.items()}
        assert_close(outputs[index], functional_call(network, one, (x,)))
    results: Any = jvp(network, (x,), (torch.ones_like(x),))
    output, tangent = results
    assert_close(output, network(x))
    assert_close(tangent, (network(x + 1e-2) - network(x - 1e-2)) / 2e-2, rtol=1e-2, atol=1e-2)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@both
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_without_gradients_the_kernel_runs(make: Any) -> None:
    network = Input((None, 3)) >> make(4)
    compiled: Any = torch.compile(network, fullgraph=True, backend="aot_eager")
    x = normal(2, 5, 3)
    with torch.no_grad():
        assert_close(compiled(x), network(x))
        operations = kernels_of(lambda: compiled(x))
    if make is LSTM:  # GRU has been taken apart into its steps by then
        assert "aten::mkldnn_rnn_layer" in operations or "aten::lstm" in operations


@both
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_with_lengths(make: Any) -> None:
    network = (Input((None, 3)) | Input(())) >> make(4, backwards=True, only_return_final=False)
    compiled: Any = torch.compile(network, fullgraph=True, backend="aot_eager")
    inputs = normal(3, 5, 3), torch.tensor([5, 0, 2])
    one, other = compiled(*inputs), network(*inputs)
    assert_close(one, other)
    assert_close(gradients(network, one), gradients(network, other))


@both
def test_traced_by_fx_it_stays_one_module(make: Any) -> None:
    network = Input((None, 3)) >> Tanh() >> make(4, name="recurrent")
    traced: Any = torch.fx.symbolic_trace(network)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["recurrent"]
    assert traced.recurrent.input_weights is network.layers[2].input_weights
    for steps in (1, 6):
        assert_close(traced(normal(2, steps, 3)), network(normal(2, steps, 3)))


# Variables


@both
def test_variables_wait_for_the_number_of_features(make: Any) -> None:
    layer = make(4, name="one")
    network = Input((5, None)) >> layer
    assert not network.is_built and not layer.variables
    assert network.output_shape == (None, 4)
    with pytest.raises(WeightInitializationError, match=r"`one`.*number of input features is unknown"):
        network(normal(2, 5, 3))
    again = Input((None, 3)) >> layer
    assert again.is_built and layer.input_shape == (None, None, 3)
    Input((7, 3)) >> layer  # another number of steps is fine
    with pytest.raises(LayerConnectionError, match=r"`one`.*\(\?, 5, 2\)"):
        Input((5, 2)) >> layer


def test_states_are_buffers_unless_they_are_learned() -> None:
    fixed, learned = LSTM(4, hidden_init=0.5), LSTM(4, learn_init=True)
    assert [name for name, _ in (Input((None, 3)) >> fixed).layers[1].named_buffers()] == ["cell_init", "hidden_init"]
    assert [name for name, _ in (Input((None, 3)) >> learned).layers[1].named_buffers()] == []
    assert isinstance(learned.cell_init, nn.Parameter) and not isinstance(fixed.cell_init, nn.Parameter)
    assert_close(fixed.hidden_init, torch.full((1, 4), 0.5))
    assert fixed.double().hidden_init.dtype is torch.float64


def test_peepholes_are_drawn_one_by_one_and_copied_with_the_layer() -> None:
    layer = LSTM(4, peepholes=True, cell_weights=Normal(std=1))
    network = Input((None, 3)) >> layer
    drawn = [layer.weight_cell_to_ingate, layer.weight_cell_to_forgetgate, layer.weight_cell_to_outgate]
    assert len({tuple(value.tolist()) for value in drawn}) == 3
    for twin in (copy.copy(layer), copy.deepcopy(layer)):
        assert_close(dict(twin.variables), dict(layer.variables))
        x = normal(2, 5, 3)
        assert_close((Input((None, 3)) >> twin)(x), network(x))


def test_peepholes_without_use_are_ignored() -> None:
    layer = LSTM(4, cell_weights=np.ones(7))
    network = Input((None, 3)) >> layer
    assert network.is_built and "weight_cell_to_ingate" not in layer.variables
    assert layer.set_params(**layer.get_params()) is layer


@both
def test_options_that_shape_the_layer_are_fixed_once_it_is_built(make: Any) -> None:
    layer = make(4)
    Input((None, 3)) >> layer
    for name, value in {"n_units": 5, "only_return_final": False, "learn_init": True}.items():
        with pytest.raises(ValueError, match=f"Cannot change `{name}`"):
            setattr(layer, name, value)
    layer.backwards = True
    assert layer.backwards is True


@both
def test_activations_that_are_modules_are_children(make: Any) -> None:
    gate = {LSTM: "outgate", GRU: "resetgate"}[make]
    module = nn.PReLU()
    layer = make(4, **{gate: module})
    network = Input((None, 3)) >> layer
    assert getattr(layer, gate) is module and f"{gate}.weight" in layer.state_dict()
    network(normal(2, 5, 3)).sum().backward()
    assert module.weight.grad is not None


def test_arguments_are_those_of_neupy() -> None:
    assert list(inspect.signature(LSTM).parameters) == [
        "n_units", "only_return_final", "input_weights", "hidden_weights", "cell_weights", "biases", "ingate",
        "forgetgate", "outgate", "cell", "cell_init", "hidden_init", "learn_init", "unroll_scan", "backwards",
        "peepholes", "gradient_clipping", "name",
    ]  # fmt: skip
    assert list(inspect.signature(GRU).parameters) == [
        "n_units", "only_return_final", "input_weights", "hidden_weights", "biases", "resetgate", "updategate",
        "hidden_update", "hidden_init", "learn_init", "unroll_scan", "backwards", "gradient_clipping", "name",
    ]  # fmt: skip


def test_repr_shows_functions_by_name() -> None:
    assert repr(GRU(3, resetgate=lambda x: x)) == (
        "GRU(n_units=3, only_return_final=True, input_weights=HeNormal(gain=1.0), hidden_weights=HeNormal(gain=1.0), "
        "biases=Constant(0), resetgate=<function <lambda>>, updategate=<function sigmoid>, "
        "hidden_update=<function tanh>, hidden_init=Constant(0), learn_init=False, unroll_scan=False, "
        "backwards=False, gradient_clipping=0, name='gru-1')"
    )


@both
def test_a_wrong_width_names_the_layer(make: Any) -> None:
    layer = make(4, name="one")
    network = Input((None, 3)) >> Identity() >> layer
    with pytest.raises(ValueError, match=r"\(2, 5, 9\).*input-1"):
        network(normal(2, 5, 9))
    for shape in ((2, 5, 9), (2, 3), (2, 5, 3, 1)):
        with pytest.raises(ValueError, match=rf"`one` got an input of shape {re.escape(str(shape))}.*, 3\)"):
            join(Relu(), layer)(normal(*shape))


@both
@pytest.mark.parametrize("lengths", [[1], [1, 2, 3], [[1], [2]], 3, []], ids=str)
def test_lengths_of_another_batch(make: Any, lengths: Any) -> None:
    layer = make(3, name="recurrent")
    Input((None, 2)) >> layer
    with pytest.raises(ValueError, match=r"`recurrent` got lengths of shape .* expected one for each: \(2,\)"):
        layer(normal(2, 5, 2), torch.tensor(lengths))


@both
def test_the_explicit_flag_reaches_activations_that_are_modules(make: Any) -> None:
    gate = {LSTM: "cell", GRU: "hidden_update"}[make]
    network, x = Input((None, 2)) >> make(20, **{gate: nn.Dropout(0.5)}), normal(2, 5, 2)
    assert torch.equal(network.train().output(x, training=False), network.output(x, training=False))
    assert not torch.equal(network.eval().output(x, training=True), network.output(x, training=True))
    assert not any(module.training for module in network.modules())
