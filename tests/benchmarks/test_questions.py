"""Rivals that are written here do the same work as we."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.resnet import in_torch
from benchmarks.training import step, whole_step
from torchneupy.architectures import resnet50
from torchneupy.layers import BatchNorm, Input, Linear, Relu, join


def test_resnet_in_torch_is_ours():
    torch.manual_seed(0)
    own, rival = resnet50((64, 64, 3)), in_torch()
    names = ["conv1"]
    for number, letters in ((2, "abc"), (3, "abcd"), (4, "abcdef"), (5, "abc")):
        for letter in letters:
            branches = ("branch2a", "branch2b", "branch2c") + (("branch1",) if letter == "a" else ())
            names += [f"res{number}{letter}_{branch}" for branch in branches]
    kernels = [module.weight for module in rival.modules() if isinstance(module, torch.nn.Conv2d)]
    (last,) = (module for module in rival.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        for name, kernel in zip(names, kernels, strict=True):
            own[name].weight.copy_(kernel.permute(2, 3, 1, 0))
        own["fc1000"].weight.copy_(last.weight.T)
        own["fc1000"].bias.copy_(last.bias)
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in rival.parameters())
    images = torch.randn(2, 64, 64, 3)
    own.double(), rival.double()
    for training in (False, True):
        output, wanted = (
            own.train(training)(images.double()),
            rival.train(training)(images.permute(0, 3, 1, 2).double()),
        )
        # Running deviations begin with 1 here, variances there, to which torch adds its epsilon.
        torch.testing.assert_close(output, wanted, rtol=1e-6 if training else 1e-3, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_whole_step_is_a_step():
    network = join(Input(4), Relu(5), BatchNorm(), Linear(2))
    twin = copy.deepcopy(network)
    x = torch.randn(6, network.input_shape[1])
    whole, apart = whole_step(network, x), step(twin, twin.parameters(), x)
    for _ in range(3):
        torch.testing.assert_close(whole(), apart())
    torch.testing.assert_close(network.state_dict(), twin.state_dict())
