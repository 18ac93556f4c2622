"""``torch.optim``: foreach and fused, groups, clipping, accumulation, schedules, averaged weights."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.testing import assert_close

from tests.interop.networks import (
    CASES,
    SMALL,
    Case,
    copied_state,
    descend,
    equal_states,
    every_case_of_all,
    gradients,
    step,
    total,
    train,
)
from torchneupy.layers import Input, Linear, Relu, Softmax

KINDS = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "SGD with momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "Adam": (torch.optim.Adam, {"lr": 0.01}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.01}),
    "AdamW with amsgrad": (torch.optim.AdamW, {"lr": 0.01, "amsgrad": True}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.01}),
}


@every_case_of_all
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["foreach", "fused"])
def test_foreach_and_fused_learn_what_the_plain_loop_learns(case, kind, way, device):
    make, options = KINDS[kind]
    states = []
    for how in ({way: True}, {"foreach": False}):
        network = case.network().to(device)
        torch.manual_seed(0)
        train(case, network, make(network.parameters(), **options, **how), steps=3, device=device)
        states.append(copied_state(network))
    # On CUDA the kernels of the ways round each in its own manner.
    assert_close(*states, rtol=1.3e-6 if device == "cpu" else 1e-4, atol=1e-5)
    begun = dict(case.network().to(device).named_parameters())
    assert any(not torch.equal(states[0][name], parameter) for name, parameter in begun.items())


def test_a_step_of_gradient_descent_is_the_one_by_hand(device):
    case: Case = SMALL["residual"]
    network, inputs = case.network().to(device), case.inputs(device=device)
    before = copied_state(network)
    state: dict[str, Any] = {key: value.clone().requires_grad_() for key, value in before.items()}
    total(case.reference(state, *inputs)).backward()
    descend(network, torch.optim.SGD(network.parameters(), lr=0.1), inputs, steps=1)
    assert_close(copied_state(network), {key: before[key] - 0.1 * state[key].grad for key in before})


@every_case_of_all
def test_every_parameter_is_in_the_optimizer_and_learns(case, device):
    network = case.network().to(device)
    before = copied_state(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in network.parameters()}
    train(case, network, optimizer, steps=3, batch=16, device=device)
    learned = {name for name, parameter in network.named_parameters() if not torch.equal(before[name], parameter)}
    assert learned == {name for name, _ in network.named_parameters()}


def test_an_optimizer_made_before_the_first_call_gets_every_parameter():
    network = Input(6) >> Relu(5) >> Softmax(3)
    optimizer = torch.optim.Adam(network.parameters())
    assert [tuple(p.shape) for p in optimizer.param_groups[0]["params"]] == [(6, 5), (5,), (5, 3), (3,)]


def test_groups_of_parameters_are_made_from_names():
    network = SMALL["custom"].network()
    named = dict(network.named_parameters())
    groups = [
        {"params": [p for name, p in named.items() if name.endswith("weight")], "weight_decay": 0.1},
        {"params": [p for name, p in named.items() if not name.endswith("weight")], "weight_decay": 0.0},
    ]
    before = copied_state(network)
    optimizer = torch.optim.SGD(groups, lr=0.5)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        assert_close(parameter.detach(), before[name] * (0.95 if name.endswith("weight") else 1))


def test_lbfgs_with_a_closure_reduces_the_loss(device):
    case: Case = SMALL["residual"]
    network, inputs = case.network().to(device), case.inputs(device=device)
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=10)

    def closure():
        optimizer.zero_grad()
        loss = network(*inputs).square().mean()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert closure() < first * 0.1


def test_a_frozen_child_does_not_learn_and_the_others_do(device):
    case: Case = SMALL["chain"]
    network = case.network().to(device)
    network.get_submodule("relu-1").requires_grad_(False)
    before = copied_state(network)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert len(trained) == 2
    descend(network, torch.optim.SGD(trained, lr=0.1), case.inputs(device=device), steps=2)
    assert network.get_submodule("relu-1").weight.grad is None
    changed = {key for key, value in network.state_dict().items() if not torch.equal(before[key], value)}
    assert changed == {"softmax-1.weight", "softmax-1.bias"}


def test_training_learns_a_function_that_it_can_learn():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=generator)
    target = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 3
    network = Input(3) >> Linear(1, weight=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x), target).backward()
        optimizer.step()
    assert_close(network[1].weight.detach(), torch.tensor([[1.0], [-2.0], [0.5]]), rtol=1e-3, atol=1e-3)
    assert_close(network[1].bias.detach(), torch.tensor([3.0]), rtol=1e-3, atol=1e-3)


# Gradients


@every_case_of_all
def test_gradients_of_parts_of_a_batch_add_up(case, device):
    """In evaluation mode: in training, BatchNorm has the statistics of each part, and Dropout draws for each."""
    network, twin = (case.network().eval().to(device) for _ in range(2))
    inputs, targets = case.inputs(batch=6, device=device), case.targets(batch=6, device=device)
    for start in (0, 2, 4):
        part = slice(start, start + 2)
        loss = case.loss(network(*[x[part] for x in inputs]), tuple(y[part] for y in targets))
        (loss / 3).backward()
    case.loss(twin(*inputs), targets).backward()
    assert_close(gradients(network), gradients(twin))
    network.zero_grad()
    assert all(parameter.grad is None for parameter in network.parameters())


@every_case_of_all
@pytest.mark.parametrize("foreach", [False, True])
def test_the_norm_of_the_gradients_is_clipped(case, foreach, device):
    network = case.network().to(device)
    case.loss(network(*case.inputs(device=device))).backward()
    before = gradients(network)
    norm = torch.cat([gradient.flatten() for gradient in before.values()]).norm()
    greatest = norm.item() / 4
    assert_close(clip_grad_norm_(network.parameters(), max_norm=greatest, foreach=foreach), norm)
    expected = {name: gradient * greatest / (norm + 1e-6) for name, gradient in before.items()}
    assert_close(gradients(network), expected, rtol=1.3e-6, atol=1e-6)


# Averages


@every_case_of_all
@pytest.mark.parametrize("use_buffers", [True, False], ids=["with buffers", "without"])
def test_averaged_parameters_follow_the_exponential_mean(case, use_buffers, device):
    """Without, the buffers are the newest ones."""
    network = case.network().to(device)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    chosen = set(network.state_dict()) if use_buffers else {name for name, _ in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    expected = copied_state(network)
    for seed in range(3):
        step(case, network, optimizer, seed=seed, device=device)
        averaged.update_parameters(network)
        state = copied_state(network)
        means = {key: 0.9 * expected[key] + 0.1 * state[key] for key in chosen}
        expected = {**state, **means} if seed else state
    equal_states(averaged.module, expected, rtol=1.3e-6, atol=1e-6)
    inputs = case.inputs(device=device)
    assert_close(averaged.eval()(*inputs), case.reference(expected, *inputs))


def test_a_schedule_and_weight_averaging_work_on_a_network(device):
    case: Case = SMALL["chain"]
    network = case.network().to(device)
    averaged = AveragedModel(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    states = []
    for _ in range(4):
        descend(network, optimizer, case.inputs(device=device), steps=1)
        averaged.update_parameters(network)
        schedule.step()
        states.append(copied_state(network))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)
    mean = {key: torch.stack([state[key] for state in states]).mean(dim=0) for key in states[0]}
    assert_close(copied_state(averaged.module), mean)


def test_statistics_are_averaged_with_use_buffers_or_learned_in_training_mode(device):
    """``update_bn`` looks for torch's own classes, and leaves a network as it is: some calls do what it would."""
    case: Case = CASES["convolution"]
    network = case.network().to(device)
    train(case, network, torch.optim.SGD(network.parameters(), lr=0.1), steps=2, device=device)
    averaged: Any = AveragedModel(copy.deepcopy(network))
    batches = [case.inputs(seed=seed, device=device) for seed in range(5)]
    before = copied_state(averaged)
    update_bn([x for (x,) in batches], averaged)
    equal_states(averaged.state_dict(), before)
    norm: Any = averaged.module["norm"]
    mean, inverse = norm.running_mean.flatten().double(), norm.running_inv_std.flatten().double()
    with torch.no_grad():
        for (x,) in batches:
            averaged.train()(x)
            given = network["first"](x).flatten(0, 2).double()
            mean = (1 - norm.alpha) * mean + norm.alpha * given.mean(dim=0)
            of_batch = (given.var(dim=0, correction=0) + norm.epsilon).rsqrt()
            inverse = (1 - norm.alpha) * inverse + norm.alpha * of_batch
    assert_close(norm.running_mean.flatten().double(), mean, rtol=1e-5, atol=1e-6)
    assert_close(norm.running_inv_std.flatten().double(), inverse, rtol=1e-5, atol=1e-6)
