"""The axis of filters in ``parametrizations`` and ``prune``: the last one here, the first one in torch's own layers."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.testing import assert_close

from torchneupy.layers import Convolution, Input, Linear


def spectral_norm(layer: nn.Module, axis: int) -> None:
    # So many steps that where they begin, which is drawn, makes no difference.
    parametrizations.spectral_norm(layer, n_power_iterations=100, dim=axis)


def weight_norm(layer: Any, axis: int) -> None:
    # It takes -1 for None, which is one norm of the whole weight.
    parametrizations.weight_norm(layer, dim=axis % layer.weight.ndim)


def prune_filters(layer: nn.Module, axis: int) -> None:
    prune.ln_structured(layer, "weight", amount=2, n=2, dim=axis)


#: A layer with its input's shape, torch's own, and the axes of the first one's weight in the order of the other's.
SAME: dict[str, Any] = {
    "Linear": (lambda: Linear(10), (6,), lambda: nn.Linear(6, 10), (1, 0)),
    "Convolution": (lambda: Convolution((3, 2, 5)), (8, 9, 4), lambda: nn.Conv2d(4, 5, (3, 2)), (3, 2, 0, 1)),
}


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("apply", [spectral_norm, weight_norm, prune_filters])
def test_filters_are_normalised_and_pruned_as_those_of_torch(kind, apply, device):
    torch.manual_seed(0)  # of some weights the largest singular value stands out more than of others
    make, shape, make_other, axes = SAME[kind]
    layer, other = make(), make_other().to(device)
    network = (Input(shape) >> layer).to(device)
    with torch.no_grad():
        other.weight.copy_(layer.weight.permute(axes))
        other.bias.copy_(layer.bias)
    apply(layer, -1)
    apply(other, 0)
    x = torch.randn(7, *shape, device=device)
    for _ in range(2):
        outputs = network(x), other(x.movedim(-1, 1)).movedim(1, -1)
        assert_close(*outputs)
        for model, output in zip((network, other), outputs, strict=True):
            optimizer = torch.optim.SGD(model.parameters(), lr=1)
            optimizer.zero_grad()
            output.square().mean().backward()
            optimizer.step()
        assert_close(layer.weight.permute(axes), other.weight)
