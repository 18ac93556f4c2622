"""What the contract does not ask of the layers that normalise: any axes, no copies, frozen layers, torch's own ones.

Expectations are worked out by numpy in float64, taken from torch.nn, or recorded from NeuPy 0.8.2.
"""

import copy
import io
import re
from collections.abc import Callable
from functools import partial
from itertools import combinations, permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradgradcheck
from torch.func import functional_call, vmap
from torch.testing import assert_close

from tests.interop.networks import run_elsewhere
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers import (
    BN,
    GN,
    BatchNorm,
    GroupNorm,
    Input,
    Linear,
    LocalResponseNorm,
    Relu,
    Transpose,
    join,
)

# The first use of something in torch may take long.
UNTIMED = settings(deadline=None)
COPIES = {"aten::copy_", "aten::clone", "aten::contiguous"}


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def channels_first_in_memory(image: torch.Tensor) -> torch.Tensor:
    return image.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)


def built(layer: Any, *shape: int | None, dtype: torch.dtype = torch.float64) -> Any:
    """The layer behind an input, with values that tell its variables apart."""
    network = (Input(shape) >> layer).to(dtype)
    with torch.no_grad():
        for seed, variable in enumerate(layer.variables.values(), start=10):
            variable.copy_(normal(*variable.shape, seed=seed).abs() + 0.5)
    return network


def values_of(layer: Any) -> dict[str, Any]:
    return {name: variable.detach().double().numpy().copy() for name, variable in layer.variables.items()}


def copies_of_activations(function: Callable[[], Any], size: int) -> list[str]:
    """The copies that are made of something as large as an input."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
        function()
    copies = [event for event in profile.events() if event.name in COPIES]
    return [event.name for event in copies if event.input_shapes and np.prod(event.input_shapes[0]) >= size]


def test_short_names() -> None:
    assert BN is BatchNorm and GN is GroupNorm
    assert BN().name == "batch-norm-1" and GN(1).name == "group-norm-1"


# BatchNorm, what it computes


def all_axes() -> list[tuple[int, tuple[int, ...]]]:
    """Every choice of axes for two to five dimensions."""
    return [
        (ndims, axes)
        for ndims in range(2, 6)
        for number in range(ndims)
        for axes in ((0, *others) for others in combinations(range(1, ndims), number))
    ]


@pytest.mark.parametrize("ndims, axes", all_axes())
@pytest.mark.parametrize("reverse", [False, True])
def test_any_axes(ndims: int, axes: tuple[int, ...], reverse: bool) -> None:
    given_axes = [axis - ndims for axis in reversed(axes)] if reverse else axes
    layer = BatchNorm(axes=given_axes, alpha=0.25, epsilon=0.1)
    x = normal(6, 2, 3, 4, 5, dtype=torch.float64).flatten(ndims - 1)
    network = built(layer, *x.shape[1:])
    before, array = values_of(layer), x.numpy()
    evaluated = before["gamma"] * (array - before["running_mean"]) * before["running_inv_std"] + before["beta"]
    assert_close(network.eval()(x).detach().numpy(), evaluated)
    with torch.no_grad():
        assert_close(network(x).numpy(), evaluated)
    mean, inverse = array.mean(axes, keepdims=True), 1 / np.sqrt(array.var(axes, keepdims=True) + 0.1)
    output = network.train()(x).detach().numpy()
    assert_close(output, before["gamma"] * (array - mean) * inverse + before["beta"])
    after = values_of(layer)
    assert_close(after["running_mean"], 0.75 * before["running_mean"] + 0.25 * mean)
    assert_close(after["running_inv_std"], 0.75 * before["running_inv_std"] + 0.25 * inverse)


def test_the_batch_may_be_on_another_axis() -> None:
    layer = BatchNorm(axes=(1, 2))
    network = (Input((3, 4)) >> Transpose((1, 0, 2)) >> layer).double()
    assert layer.gamma.shape == (3, 1, 1)
    x = normal(5, 3, 4, dtype=torch.float64)
    moved = x.numpy().transpose(1, 0, 2)
    wanted = (moved - moved.mean((1, 2), keepdims=True)) / np.sqrt(moved.var((1, 2), keepdims=True) + 1e-5)
    assert_close(network(x).detach().numpy(), wanted)


@pytest.mark.parametrize("shape", [(7, 4), (5, 3, 4), (5, 3, 2, 4), (3, 2, 3, 2, 4), (2, 2, 1, 2, 2, 4)])
@pytest.mark.parametrize("alpha", [0, 0.1, 1])
def test_as_in_torch(shape: tuple[int, ...], alpha: float) -> None:
    layer = BatchNorm(alpha=alpha)
    network = built(layer, *shape[1:])
    rival: Any = nn.BatchNorm1d(4, momentum=alpha).double()
    with torch.no_grad():
        rival.weight.copy_(layer.gamma.flatten())
        rival.bias.copy_(layer.beta.flatten())
        rival.running_mean.copy_(layer.running_mean.flatten())
    x = normal(*shape, dtype=torch.float64).requires_grad_()
    one, other = network(x), rival(x.reshape(-1, 4)).view(shape)
    assert_close(one, other)
    weights = normal(*shape, seed=2, dtype=torch.float64)
    ours = torch.autograd.grad((one * weights).sum(), [x, layer.gamma, layer.beta])
    theirs = torch.autograd.grad((other * weights).sum(), [x, rival.weight, rival.bias])
    for our, their in zip(ours, theirs, strict=True):
        assert_close(our.flatten(), their.flatten())
    assert_close(layer.running_mean.flatten(), rival.running_mean)


def test_batch_norm_recorded_from_neupy() -> None:
    layer = BatchNorm(alpha=0.25)
    network = Input(2) >> layer
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    assert network.eval()(x).tolist() == x.tolist()
    assert_close(network.train()(x), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), rtol=0, atol=1e-5)
    assert_close(layer.running_mean, torch.tensor([[0.5, 5.0]]))
    assert_close(layer.running_inv_std, torch.tensor([[1.0, 0.775]]), rtol=0, atol=1e-3)
    assert layer.axes is None


def test_second_derivatives() -> None:
    layer = BatchNorm(axes=(0, 2), epsilon=0.1)
    network = built(layer, 2, 3, 2)

    def compute(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> Any:
        return functional_call(layer, {"gamma": gamma, "beta": beta}, (x,))

    inputs = [normal(3, 2, 3, 2, dtype=torch.float64), layer.gamma.detach(), layer.beta.detach()]
    for training in (True, False):
        network.train(training)
        assert gradgradcheck(compute, [x.clone().requires_grad_() for x in inputs], fast_mode=True)


def test_epsilon_is_for_training_only() -> None:
    x, outputs = normal(4, 3), []
    for epsilon in (0, 5):
        network = Input(3) >> BatchNorm(epsilon=epsilon)
        outputs.append((network.eval()(x), network.train()(x)))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert (outputs[0][1].abs() > 1.5 * outputs[1][1].abs()).all()


@pytest.mark.parametrize("shape", [(1, 3), (1, 4, 3), (1, 2, 2, 3)])
def test_a_batch_of_one(shape: tuple[int, ...]) -> None:
    layer = BatchNorm(alpha=1)
    network = Input(shape[1:]) >> layer
    x = normal(*shape)
    rows = x.reshape(-1, 3)
    assert_close(network(x).reshape(-1, 3), (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt())
    assert_close(layer.running_mean.flatten(), rows.mean(0))


@pytest.mark.parametrize("shape", [(0, 3), (0, 2, 2, 3), (2, 0, 2, 3)])
def test_an_empty_batch_is_refused_in_training_only(shape: tuple[int, ...]) -> None:
    layer = BatchNorm(name="norm")
    network = Input((None,) * (len(shape) - 2) + (3,)) >> layer
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match=rf"`norm`.*empty batch.*{re.escape(str(shape))}"):
        network(torch.empty(shape))
    assert_close(layer.state_dict(), before, rtol=0, atol=0)
    for wants_gradients in (True, False):
        with torch.set_grad_enabled(wants_gradients):
            assert network.eval()(torch.empty(shape)).shape == shape


# BatchNorm, its buffers


def test_a_frozen_layer_stays_frozen_in_a_network_that_trains() -> None:
    frozen, other = BatchNorm(), BatchNorm()
    network = join(Input(3), Linear(4), frozen, Relu(), other)
    network.train()
    frozen.eval()
    before = copy.deepcopy(frozen.state_dict())
    network(normal(5, 3)).sum().backward()
    assert_close(frozen.state_dict(), before, rtol=0, atol=0)
    assert frozen.gamma.grad is not None and other.running_mean.any()
    frozen.train()
    network(normal(5, 3))
    assert frozen.running_mean.any()


def test_two_calls_before_the_gradient() -> None:
    network = join(Input(3), Linear(4), BatchNorm())
    (network(normal(5, 3)).square().mean() + network(normal(5, 3, seed=2)).square().mean()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_averages_may_be_given_as_what_wants_gradients() -> None:
    layer = BatchNorm(alpha=1)
    network, x = Input(3) >> layer, normal(5, 3)
    averages = {"running_mean": torch.zeros(1, 3, requires_grad=True)}
    functional_call(layer, averages, (x,))
    assert_close(averages["running_mean"].detach(), x.mean(0, keepdim=True))
    assert not layer.running_mean.any() and network.training


def test_averages_are_buffers_from_the_start() -> None:
    layer = BatchNorm()
    assert layer.running_mean is layer.running_inv_std is None
    assert list(layer._buffers) == ["running_mean", "running_inv_std"]
    assert list(layer._parameters) == ["beta", "gamma"]
    Input(3) >> layer
    assert [name for name, _ in layer.named_buffers()] == ["running_mean", "running_inv_std"]
    layer.running_mean = torch.ones(1, 3)
    assert layer.running_mean is layer._buffers["running_mean"]


def test_one_layer_for_images_of_several_sizes() -> None:
    layer = BatchNorm(name="norm")
    small, large = Input((2, 2, 3)) >> layer, Input((9, 5, 3)) >> layer
    small(normal(4, 2, 2, 3))
    assert large.eval()(normal(1, 9, 5, 3)).shape == (1, 9, 5, 3)
    with pytest.raises(LayerConnectionError, match=r"`norm`.*\(\?, 2, 2, 4\)"):
        Input((2, 2, 4)) >> layer
    with pytest.raises(LayerConnectionError, match=r"`norm`.*\(\?, 3\)"):
        Input(3) >> layer


@pytest.mark.parametrize("axes, axis", [(None, 2), ((0, 2), 1), ((1, 2), 0)])
def test_sizes_that_are_kept_have_to_be_known(axes: Any, axis: int) -> None:
    layer = BatchNorm(axes=axes, name="norm")
    network = Input((None, None)) >> layer
    assert not layer.is_built
    with pytest.raises(WeightInitializationError, match=rf"`norm`.*unknown dimension #{axis}"):
        network(torch.ones(2, 3, 4))


def test_axes_stay_as_they_are_once_connected() -> None:
    layer = BatchNorm(axes=(0,), name="norm")
    Input((2, 3)) >> layer
    with pytest.raises(ValueError, match=r"`axes` from \(0,\) to \(0, 1\).*'norm'"):
        layer.set_params(axes=(0, 1))
    assert layer.set_params(axes=(0,), alpha=0.5).alpha == 0.5


# BatchNorm, layouts and types


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wants_gradients", [True, False])
@pytest.mark.parametrize(
    "axes, shape",
    [
        (None, (64, 8)),
        (None, (16, 4, 8)),
        (None, (4, 5, 6, 8)),
        (None, (4, 2, 3, 2, 8)),
        ((0,), (8, 3, 5)),
        ((0, 1), (4, 5, 6, 8)),
        ((0, 2), (4, 5, 6)),
        ((0, 2, 3), (4, 5, 6, 8)),
        ((0, 1, 2), (4, 5, 6)),
    ],
)
def test_batch_norm_copies_nothing(axes: Any, shape: tuple[int, ...], training: bool, wants_gradients: bool) -> None:
    network = Input(shape[1:]) >> BatchNorm(axes=axes)
    inputs = [normal(*shape)]
    if axes is None and len(shape) == 4:
        inputs.append(channels_first_in_memory(inputs[0]))
    for x in inputs:
        with torch.set_grad_enabled(wants_gradients):
            output = network.train(training)(x)
            assert copies_of_activations(partial(network, x), size=x.numel()) == []
        assert output.stride() == x.stride()


@pytest.mark.parametrize(
    "axes, shape",
    [
        (None, (2, 128, 128, 3)),
        (None, (40_000, 2, 1)),
        (None, (64, 2, 3, 70, 4)),
        (None, (1, 1, 20_000, 4)),
        (None, (300, 300, 1)),
        ((0, 1, 2, 3), (2, 128, 128, 3)),
        (None, (128, 16, 32)),
        (None, (70_000, 4)),
        ((0, 1), (8, 64, 32, 4)),
        ((0, 1, 2), (64, 64, 16)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_values_in_few_channels(axes: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Those that are not trained go another way where that is faster."""
    layer = BatchNorm(axes=axes)
    network = Input(shape[1:]) >> layer
    for number, tensor in enumerate((layer.gamma, layer.beta, layer.running_mean, layer.running_inv_std)):
        tensor.data.copy_(normal(*tensor.shape, seed=number).abs())
    network.eval().to(dtype)
    x = normal(*shape).to(dtype)
    with torch.no_grad():
        output = network(x)
    twin = copy.deepcopy(network).double()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert_close(output.double(), twin(x.double()).detach(), rtol=tolerance, atol=tolerance)


def test_few_channels_leave_the_batch_open_without_gradients() -> None:
    network = (Input((28, 28, 16)) >> BatchNorm()).eval()
    few, many = normal(2, 28, 28, 16), normal(9, 28, 28, 16)
    with torch.no_grad():
        program = torch.export.export(network, (few,), dynamic_shapes=network.dynamic_shapes()).module()
        for x in (few, many):
            assert_close(program(x), network(x))


def in_order(values: torch.Tensor, order: tuple[int, ...], lone: int) -> torch.Tensor:
    """The values with their axes in some order in memory, and a stride for those of one element, where any will do."""
    strides, step = [lone] * values.ndim, 1
    for axis in reversed(order):
        if values.shape[axis] > 1:
            strides[axis] = step
            step *= values.shape[axis]
    return torch.empty(values.numel()).to(values).as_strided(values.shape, strides).copy_(values)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(2, 2, 1, 2), (2, 1, 2, 2), (1, 2, 2, 2), (2, 2, 2, 1), (1, 1, 2, 2)], ids=str)
def test_gradients_whatever_the_strides_of_lone_elements(shape: tuple[int, ...], training: bool) -> None:
    """Torch's kernel takes them for a sign of how the rest lies in memory, and gradients for what they are not."""
    network = (Input(shape[1:]) >> BatchNorm()).double().train(training)
    values, gradient = torch.randn(2, *shape, dtype=torch.float64)
    wanted = None
    for (order, lone), (other, another) in product(product(permutations(range(4)), (1, 5)), repeat=2):
        x = in_order(values, order, lone).requires_grad_()
        network(x).backward(in_order(gradient, other, another))
        assert x.grad is not None
        wanted = x.grad if wanted is None else wanted
        assert_close(x.grad, wanted)


def test_axes_that_are_kept_are_brought_together_by_a_copy() -> None:
    network, x = Input((5, 6, 8)) >> BatchNorm(axes=(0, 2)), normal(4, 5, 6, 8)
    assert copies_of_activations(lambda: network(x), size=x.numel())


def test_the_gradient_copies_nothing_either() -> None:
    network, x = Input((5, 6, 8)) >> BatchNorm(), normal(4, 5, 6, 8).requires_grad_()
    gradient = normal(4, 5, 6, 8, seed=2)
    assert copies_of_activations(lambda: network(x).backward(gradient), size=x.numel()) == []
    assert x.grad is not None and x.grad.is_contiguous()


@pytest.mark.parametrize("layer", [BatchNorm(), GroupNorm(1)], ids=["BatchNorm", "GroupNorm"])
def test_half_an_input_and_precise_statistics(layer: Any) -> None:
    network = Input((4, 4, 3)) >> layer
    x = normal(2, 4, 4, 3) + 5
    precise = network(x)
    assert network.train()(x.bfloat16()).dtype is torch.bfloat16
    assert all(variable.dtype is torch.float32 for variable in layer.variables.values())
    assert_close(network(x.bfloat16()).float(), precise, rtol=0.05, atol=0.05)
    for wants_gradients in (True, False):
        with torch.set_grad_enabled(wants_gradients):
            assert network.eval()(x.bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize("wants_gradients", [True, False])
def test_a_mean_far_from_zero_in_few_digits(wants_gradients: bool) -> None:
    layer = BatchNorm(running_mean=10, gamma=1.3)
    network = (Input(3) >> layer).bfloat16().eval()
    x = (normal(500, 3) + 10).bfloat16()
    wanted = layer.gamma.detach().float() * (x.float() - 10)
    with torch.set_grad_enabled(wants_gradients):
        error = (network(x).detach().float() - wanted).abs()
    assert (error <= wanted.abs() / 64 + 1e-3).all()  # as an offset and a scale in bfloat16 it would be 0.06


# GroupNorm


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 1, 1, 6), (1, 1, 3, 6), (0, 4, 5, 6)])
@pytest.mark.parametrize("n_groups", [1, 2, 6])
@pytest.mark.parametrize("given_input", [True, False])
def test_group_norm_as_in_torch(shape: tuple[int, ...], n_groups: int, given_input: bool) -> None:
    layer = GroupNorm(n_groups, epsilon=0.1)
    network = built(layer, *shape[1:])
    x = normal(*shape, dtype=torch.float64).requires_grad_(not given_input)
    image: Any = x.detach().permute(0, 3, 1, 2).contiguous().requires_grad_(not given_input)  # in torch's usual layout
    weight, bias = (v.detach().flatten().requires_grad_() for v in (layer.gamma, layer.beta))
    one = network(x)
    other = torch.group_norm(image.flatten(2), n_groups, weight, bias, 0.1).view(image.shape).permute(0, 2, 3, 1)
    assert_close(one, other)
    one.square().sum().backward()
    other.square().sum().backward()
    assert_close(layer.gamma.grad.flatten(), weight.grad)
    assert_close(layer.beta.grad.flatten(), bias.grad)
    if not given_input:
        assert_close(x.grad, image.grad.permute(0, 2, 3, 1))


def test_a_group_of_one_value_is_its_own_mean() -> None:
    network = Input((1, 1, 4)) >> GroupNorm(4, beta=3)
    assert_close(network(normal(2, 1, 1, 4)), torch.full((2, 1, 1, 4), 3.0))


GRADIENTS = """
import torch
from torchneupy.layers import *

def check(network, shape, wanted, part):
    x = torch.randn(shape, requires_grad=part)
    loss = network(x).square().sum()
    given = torch.autograd.grad(loss, wanted) if part else [loss.backward(), *(p.grad for p in wanted)][1:]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in given)

for shape in ((4, 5, 5, 8), (4, 1, 1, 8), (4, 5, 5, 1), (1, 1, 1, 1), (4, 1, 5, 8)):
    for part in (False, True):
        first = GroupNorm(1)
        check(Input(shape[1:]) >> first, shape, list(first.parameters()), part)
        check(Input(shape[1:]) >> first, shape, [first.beta], part)
        later = GroupNorm(2)
        check(Input(shape[1:]) >> Conv((1, 1, 4)) >> later, shape, list(later.parameters()), part)
"""


def test_gradients_of_a_part_do_not_end_the_process(tmp_path: Path) -> None:
    run_elsewhere(GRADIENTS, tmp_path)


@pytest.mark.parametrize("training", [True, False])
def test_group_norm_copies_nothing(training: bool) -> None:
    network = (Input((5, 6, 8)) >> GroupNorm(2)).train(training)
    x, gradient = normal(4, 5, 6, 8), normal(4, 5, 6, 8, seed=2)
    leaf = x.clone().requires_grad_()
    assert copies_of_activations(lambda: network(leaf).backward(gradient), size=x.numel()) == []
    assert leaf.grad is not None and leaf.grad.is_contiguous()
    for wants_gradients in (True, False):
        with torch.set_grad_enabled(wants_gradients):
            assert network(x).is_contiguous()
            assert copies_of_activations(lambda: network(x), size=x.numel()) == []


def test_group_norm_by_vmap_and_by_second_derivatives() -> None:
    layer = GroupNorm(2)
    network = built(layer, 3, 2, 4)
    batches = normal(3, 2, 3, 2, 4, dtype=torch.float64)
    wanted = torch.stack([network(x) for x in batches])
    assert_close(vmap(network)(batches), wanted)
    with torch.no_grad():
        assert_close(vmap(network)(batches), wanted.detach())
    x = batches[0].clone().requires_grad_()
    assert gradgradcheck(network, [x])


def test_groups_of_a_training_network() -> None:
    # NeuPy's layer knows no mode, and a network with it cannot be trained.
    network, x = Input((2, 2, 2)) >> GroupNorm(1), normal(3, 2, 2, 2)
    assert torch.equal(network.output(x, training=True), network.output(x, training=False))


# LocalResponseNorm


@UNTIMED
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9)),
    radius=st.integers(0, 4).map(lambda n: 2 * n + 1),
    alpha=st.floats(0, 2),
    beta=st.floats(0, 2),
    k=st.floats(0.1, 3),
)
@example(shape=(2, 1, 1, 2), radius=9, alpha=1.0, beta=0.75, k=2.0)
def test_neighbours(shape: tuple[int, ...], radius: int, alpha: float, beta: float, k: float) -> None:
    layer = LocalResponseNorm(alpha=alpha, beta=beta, k=k, depth_radius=radius)
    x = normal(*shape, dtype=torch.float64)
    places = np.arange(shape[-1])
    near = np.abs(places[:, None] - places) <= radius
    wanted = x.numpy() / (k + alpha * x.numpy() ** 2 @ near) ** beta
    assert_close(layer.output(x).numpy(), wanted)


def test_local_response_norm_as_in_torch() -> None:
    x = normal(2, 3, 4, 12, dtype=torch.float64)
    rival = nn.LocalResponseNorm(7, alpha=7 * 0.2, beta=0.6, k=1.5)
    wanted = rival(x.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)
    assert_close(LocalResponseNorm(alpha=0.2, beta=0.6, k=1.5, depth_radius=3).output(x), wanted)


def test_a_loud_channel_does_not_drown_quiet_ones_far_away() -> None:
    x = torch.tensor([1e4, 0.0, 0.0, 0.0, 1e-3, 0.0]).view(1, 1, 1, 6)
    output = LocalResponseNorm(alpha=1, beta=1, k=0, depth_radius=1).output(x).flatten()
    assert_close(output[[0, 4]], torch.tensor([1e-4, 1e3]))


def test_local_response_norm_recorded_from_neupy() -> None:
    layer = LocalResponseNorm(alpha=1, beta=1, k=0, depth_radius=1)
    assert_close(layer.output(torch.ones(1, 1, 1, 5)).flatten(), torch.tensor([1 / 2, 1 / 3, 1 / 3, 1 / 3, 1 / 2]))


@pytest.mark.parametrize("radius", [-3, -1, 0, 2, 10])
def test_only_odd_radii(radius: int) -> None:
    with pytest.raises(ValueError, match=rf"depth_radius.*got {radius} \(option of LocalResponseNorm\)"):
        LocalResponseNorm(depth_radius=radius)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 4, 4, 5), (2, 4, 4, 2), (2, 4, 4, 1), (2, 3), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_batch_norm_refuses_other_shapes_before_the_kernel_reads_beyond_its_variables(
    shape: tuple[int, ...], training: bool
) -> None:
    layer = BatchNorm(name="bn").train(training)
    Input((4, 4, 3)) >> layer
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    for gradients in (True, False):
        words = r"`bn` got an input of shape .*\?, 3\)"
        with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match=words):
            layer(torch.ones(shape))
    torch.testing.assert_close(layer.state_dict(), before)


def test_batch_norm_in_both_modes_before_one_backward() -> None:
    network, x = Input((4, 4, 3)) >> BatchNorm(), torch.rand(2, 4, 4, 3, requires_grad=True)
    fixed = network.eval()(x)
    (fixed.square().sum() + network.train()(x).sum()).backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_group_norm_keeps_the_layout_of_one_image() -> None:
    network = Input((8, 8, 4)) >> GroupNorm(2)
    assert network(torch.rand(1, 8, 8, 4)).is_contiguous()


# All of them


@pytest.mark.parametrize(
    "layer", [BatchNorm(), BatchNorm(axes=(0, 1)), BatchNorm(axes=(0,)), GroupNorm(2), LocalResponseNorm()], ids=repr
)
@pytest.mark.parametrize("with_gradients", [True, False])
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_traced_and_stored_by_jit(layer: Any, with_gradients: bool) -> None:
    """Torch traces twice, the second time without gradients, and refuses what differs."""
    network = (Input((5, 6, 4)) >> copy.deepcopy(layer)).eval()
    x, file = normal(3, 5, 6, 4), io.BytesIO()
    with torch.set_grad_enabled(with_gradients):
        traced: Any = torch.jit.trace(network, (x,))
        torch.jit.save(traced, file)
    file.seek(0)
    assert_close(torch.jit.load(file)(x[:2]), network(x[:2]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("with_gradients", [True, False])
def test_statistics_may_be_of_another_type_than_the_parameters(training, with_gradients):
    """FSDP2 in mixed precision gives the parameters another type, and leaves buffers as they are."""
    network = (Input(4) >> BatchNorm(running_mean=0.5)).train(training)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    expected = network.output(x, training=training)
    network = (Input(4) >> BatchNorm(running_mean=0.5)).train(training)
    for parameter in network.parameters():
        parameter.data = parameter.data.bfloat16()
    with torch.set_grad_enabled(with_gradients):
        output = network(x.bfloat16())
    assert output.dtype == torch.bfloat16
    assert_close(output.float(), expected, rtol=2e-2, atol=2e-2)
    assert network[1].running_mean.dtype == torch.float32
