"""``torch.optim``: foreach and fused, clipping, accumulation, averaged weights."""

import copy
from typing import Any

import pytest
import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.testing import assert_close

from tests.interop.networks import CASES, Case, copied_state, equal_states, every_case, gradients, step, train

KINDS = {
    "SGD": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "Adam": (torch.optim.Adam, {"lr": 0.01}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.01, "amsgrad": True}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.01}),
}


@every_case
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
    assert_close(*states, rtol=1e-4, atol=1e-5)


@every_case
def test_every_parameter_is_in_the_optimizer_and_learns(case, device):
    network = case.network().to(device)
    before = copied_state(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in network.parameters()}
    train(case, network, optimizer, steps=3, batch=16, device=device)
    learned = {name for name, parameter in network.named_parameters() if not torch.equal(before[name], parameter)}
    assert learned == {name for name, _ in network.named_parameters()}


@every_case
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


@every_case
@pytest.mark.parametrize("foreach", [False, True])
def test_the_norm_of_the_gradients_is_clipped(case, foreach, device):
    network = case.network().to(device)
    case.loss(network(*case.inputs(device=device))).backward()
    before = gradients(network)
    norm = torch.cat([gradient.flatten() for gradient in before.values()]).norm()
    assert_close(clip_grad_norm_(network.parameters(), max_norm=norm / 4, foreach=foreach), norm)
    assert_close(gradients(network), {name: gradient / 4 for name, gradient in before.items()}, rtol=1e-4, atol=1e-6)


@every_case
def test_averaged_parameters_follow_the_exponential_mean(case, device):
    network = case.network().to(device)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    expected = copied_state(network)
    for seed in range(3):
        step(case, network, optimizer, seed=seed, device=device)
        averaged.update_parameters(network)
        state = copied_state(network)
        expected = {key: 0.9 * expected[key] + 0.1 * state[key] for key in state} if seed else state
    equal_states(averaged.module, expected, rtol=1e-5, atol=1e-6)
    twin, inputs = case.network(seed=1).to(device), case.inputs(device=device)
    twin.load_state_dict(averaged.module.state_dict())
    assert_close(averaged.eval()(*inputs), twin.eval()(*inputs))


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
