"""Optimizers, clipping, accumulation, averaged weights."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing import assert_close

from tests.manners.networks import CASES, copied_state, every_case, gradients, total, train
from torchneupy.layers import Input, Linear, Relu, Softmax


@every_case
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}], ids=["foreach", "fused"])
def test_foreach_and_fused_optimizers_learn_what_the_plain_one_learns(case, kind, options):
    network = case.network().eval()
    twin = copy.deepcopy(network)
    train(network, kind(network.parameters(), lr=0.01, **options), case.inputs(), steps=3)
    train(twin, kind(twin.parameters(), lr=0.01, foreach=False), case.inputs(), steps=3)
    assert_close(copied_state(network), copied_state(twin))
    assert any(not torch.equal(a, b) for a, b in zip(network.parameters(), case.network().parameters(), strict=True))


def test_a_step_of_gradient_descent_is_the_one_by_hand():
    case = CASES["residual"]
    network = case.network()
    before = copied_state(network)
    state: dict[str, Any] = {key: value.clone().requires_grad_() for key, value in before.items()}
    total(case.reference(state, *case.inputs())).backward()
    train(network, torch.optim.SGD(network.parameters(), lr=0.1), case.inputs(), steps=1)
    assert_close(copied_state(network), {key: before[key] - 0.1 * state[key].grad for key in before})


def test_an_optimizer_made_before_the_first_call_gets_every_parameter():
    network = Input(6) >> Relu(5) >> Softmax(3)
    optimizer = torch.optim.Adam(network.parameters())
    assert [tuple(p.shape) for p in optimizer.param_groups[0]["params"]] == [(6, 5), (5,), (5, 3), (3,)]


def test_groups_of_parameters_are_made_from_names():
    network = CASES["custom"].network()
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


@every_case
@pytest.mark.parametrize("foreach", [False, True])
def test_clipping_the_norm_of_the_gradients(case, foreach):
    network = case.network().eval()
    total(network(*case.inputs())).backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
    before = gradients(network)
    found = nn.utils.clip_grad_norm_(network.parameters(), max_norm=0.5, foreach=foreach)
    assert_close(found, norm)
    assert_close(gradients(network), {name: each * 0.5 / (norm + 1e-6) for name, each in before.items()})


@every_case
def test_gradients_of_parts_of_a_batch_add_up(case):
    network, twin = case.network().eval(), case.network().eval()
    inputs = case.inputs(batch=6)

    def loss(outputs):
        parts = outputs if isinstance(outputs, tuple) else (outputs,)
        return sum(part.square().sum() for part in parts)

    for start in (0, 2, 4):
        loss(network(*[x[start : start + 2] for x in inputs])).backward()
    loss(twin(*inputs)).backward()
    assert_close(gradients(network), gradients(twin))
    network.zero_grad()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_lbfgs_with_a_closure_reduces_the_loss():
    case = CASES["residual"]
    network = case.network()
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=10)

    def closure():
        optimizer.zero_grad()
        loss = network(*case.inputs()).square().mean()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert closure() < first * 0.1


@every_case
def test_averaged_weights_follow_the_exponential_mean(case):
    network = case.network()
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    expected = None
    for _ in range(3):
        train(network, optimizer, case.inputs(), steps=1)
        averaged.update_parameters(network)
        state = copied_state(network)
        expected = state if expected is None else {key: 0.9 * expected[key] + 0.1 * state[key] for key in state}
    assert_close(copied_state(averaged.module), expected)
    assert_close(averaged.eval()(*case.inputs()), case.reference(expected, *case.inputs()))


def test_a_schedule_and_weight_averaging_work_on_a_network():
    case = CASES["chain"]
    network = case.network()
    averaged = AveragedModel(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    states = []
    for _ in range(4):
        train(network, optimizer, case.inputs(), steps=1)
        averaged.update_parameters(network)
        schedule.step()
        states.append(copied_state(network))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)
    mean = {key: torch.stack([state[key] for state in states]).mean(dim=0) for key in states[0]}
    assert_close(copied_state(averaged.module), mean)


def test_a_frozen_child_does_not_learn_and_the_others_do():
    network = CASES["chain"].network()
    network.get_submodule("relu-1").requires_grad_(False)
    before = copied_state(network)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert len(trained) == 2
    train(network, torch.optim.SGD(trained, lr=0.1), CASES["chain"].inputs(), steps=2)
    assert network.get_submodule("relu-1").weight.grad is None
    changed = {key for key, value in network.state_dict().items() if not torch.equal(before[key], value)}
    assert changed == {"softmax-1.weight", "softmax-1.bias"}


@every_case
@pytest.mark.parametrize("gradient_scaling", [1024.0])
def test_scaled_losses_give_the_same_step(case, gradient_scaling):
    network, twin = case.network().eval(), case.network().eval()
    scaler = torch.amp.GradScaler("cpu", init_scale=gradient_scaling)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    scaler.scale(total(network(*case.inputs()))).backward()
    scaler.step(optimizer)
    scaler.update()
    train(twin, torch.optim.SGD(twin.parameters(), lr=0.01), case.inputs(), steps=1)
    assert_close(copied_state(network), copied_state(twin))


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
