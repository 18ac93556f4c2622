"""``torch.amp.GradScaler``: loops that scale the loss."""

import torch

from tests.interop.networks import copied_state, equal_states, every_case_of_all, step


def scaled_step(case, network, optimizer, scaler, device, factor=1.0, max_norm=None):
    optimizer.zero_grad()
    scaler.scale(case.loss(network(*case.inputs(device=device))) * factor).backward()
    if max_norm is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm)
    scaler.step(optimizer)
    scaler.update()


def make(case, device):
    network = case.network().eval().to(device)
    return network, torch.optim.SGD(network.parameters(), lr=0.1)


@every_case_of_all
def test_steps_of_scaled_losses_are_those_of_the_losses(case, device):
    """Powers of two scale without rounding."""
    scaler = torch.amp.GradScaler(device, init_scale=1024.0, growth_interval=2)
    (network, optimizer), (twin, plain) = make(case, device), make(case, device)
    for _ in range(3):
        scaled_step(case, network, optimizer, scaler, device)
        step(case, twin, plain, device=device)
    equal_states(network, twin, rtol=1.3e-6, atol=1e-6)
    assert scaler.get_scale() == 2048


@every_case_of_all
def test_gradients_are_clipped_after_they_are_unscaled(case, device):
    scaler = torch.amp.GradScaler(device, init_scale=1024.0)
    (network, optimizer), (twin, plain) = make(case, device), make(case, device)
    scaled_step(case, network, optimizer, scaler, device, max_norm=0.01)
    case.loss(twin(*case.inputs(device=device))).backward()
    assert torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.01) > 0.01
    plain.step()
    equal_states(network, twin, rtol=1e-5, atol=1e-6)


@every_case_of_all
def test_a_step_whose_gradients_overflow_is_left_out(case, device):
    scaler = torch.amp.GradScaler(device, init_scale=1024.0)
    network, optimizer = make(case, device)
    before = copied_state(network)
    scaled_step(case, network, optimizer, scaler, device, factor=float("inf"))
    equal_states(network, before)
    assert scaler.get_scale() == 512
    scaled_step(case, network, optimizer, scaler, device)
    assert any(not torch.equal(before[name], parameter) for name, parameter in network.named_parameters())
