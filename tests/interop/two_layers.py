"""Two dense layers, of which tests change what the weight of the first is, and the weights of any network."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from torchneupy.layers import Input, Relu, Sigmoid


class Half(nn.Module):
    """A user's parametrization: the weight is half of what is learned."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value / 2

    def right_inverse(self, value: torch.Tensor) -> torch.Tensor:
        return value * 2


def half(layer: nn.Module, name: str = "weight") -> None:
    parametrize.register_parametrization(layer, name, Half())


def make_network() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Input(5) >> Relu(5, name="hidden") >> Sigmoid(2, name="last")


def inputs(seed: int = 1) -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))


def expected(network: Any, weight: torch.Tensor) -> torch.Tensor:
    """What the network gives for the inputs if its first layer has a weight."""
    hidden = torch.relu(inputs() @ weight + network["hidden"].bias)
    return torch.sigmoid(hidden @ network["last"].weight + network["last"].bias)


def weights(network: Any) -> list[tuple[Any, str]]:
    """The layers and names of all weights of a network, whichever it is."""
    return [(layer, name) for layer in network for name, _ in layer.named_parameters(recurse=False) if "weight" in name]
