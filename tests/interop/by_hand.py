"""What the networks of networks.py compute in evaluation, from their ``state_dict``, written with torch alone.

And the order in which they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

State = Mapping[str, torch.Tensor]

#: The children of each network in the order in which they run.
ORDER = {
    "dense": ["in", "hidden", "dropout", "out"],
    "convolution": [
        *("image", "first", "norm", "relu"),
        *("skip", "inner", "inner-norm", "last"),
        *("sum", "after", "pool", "out"),
    ],
    "sequence": ["words", "embedding", "lstm", "out"],
    "two in two out": ["left", "right", "tanh", "both", "hidden", "kind", "number"],
    "chain": ["input-1", "relu-1", "dropout-1", "softmax-1"],
    "residual": ["input-1", "identity-1", "tanh-1", "linear-1", "elementwise-1"],
    "branches": ["input-1", "input-2", "concatenate-1", "elu-1", "softmax-1", "linear-1", "dropout-1"],
    "custom": ["input-1", "shifted-1", "linear-1", "p-relu-1"],
}


def affine(state: State, key: str, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, state[f"{key}.weight"].T, state[f"{key}.bias"])


def convolve(state: State, key: str, image: torch.Tensor) -> torch.Tensor:
    """With an odd size of the filters, a stride of one, and padding that keeps height and width."""
    weight = state[f"{key}.weight"].permute(3, 2, 0, 1)
    found = functional.conv2d(image.permute(0, 3, 1, 2), weight, state.get(f"{key}.bias"), padding="same")
    return found.permute(0, 2, 3, 1)


def normalise(state: State, key: str, x: torch.Tensor) -> torch.Tensor:
    centred = (x - state[f"{key}.running_mean"]) * state[f"{key}.running_inv_std"]
    return centred * state[f"{key}.gamma"] + state[f"{key}.beta"]


def dense(state: State, x: torch.Tensor) -> Any:
    return torch.softmax(affine(state, "out", torch.relu(affine(state, "hidden", x))), dim=1)


def convolution(state: State, image: torch.Tensor) -> Any:
    skip = torch.relu(normalise(state, "norm", convolve(state, "first", image)))
    branch = convolve(state, "last", normalise(state, "inner-norm", convolve(state, "inner", skip)))
    return affine(state, "out", torch.relu(skip + branch).mean(dim=(1, 2)))


def sequence(state: State, words: torch.Tensor) -> Any:
    hidden, cell = (state[f"lstm.{name}_init"].expand(len(words), -1) for name in ("hidden", "cell"))
    for step in state["embedding.weight"][words].unbind(dim=1):
        arguments = step @ state["lstm.input_weights"] + hidden @ state["lstm.hidden_weights"] + state["lstm.biases"]
        ingate, forgetgate, entering, outgate = arguments.chunk(4, dim=1)
        cell = torch.sigmoid(forgetgate) * cell + torch.sigmoid(ingate) * torch.tanh(entering)
        hidden = torch.sigmoid(outgate) * torch.tanh(cell)
    return affine(state, "out", hidden)


def two_in_two_out(state: State, left: torch.Tensor, right: torch.Tensor) -> Any:
    both = torch.cat([left, torch.tanh(affine(state, "tanh", right))], dim=1)
    hidden = torch.relu(affine(state, "hidden", both))
    return torch.softmax(affine(state, "kind", hidden), dim=1), affine(state, "number", hidden)


def chain(state: State, x: torch.Tensor) -> Any:
    return torch.softmax(affine(state, "softmax-1", torch.relu(affine(state, "relu-1", x))), dim=1)


def residual(state: State, x: torch.Tensor) -> Any:
    return x + affine(state, "linear-1", torch.tanh(affine(state, "tanh-1", x)))


def branches(state: State, x: torch.Tensor, y: torch.Tensor) -> Any:
    hidden = functional.elu(affine(state, "elu-1", torch.cat([x, y], dim=1)))
    return torch.softmax(affine(state, "softmax-1", hidden), dim=1), affine(state, "linear-1", hidden)


def custom(state: State, x: torch.Tensor) -> Any:
    x = x * state["shifted-1.scale"] + state["shifted-1.shift"]
    x = state["shifted-1.sign"] * functional.linear(x, state["shifted-1.inner.weight"], state["shifted-1.inner.bias"])
    x = functional.linear(x, state["linear-1.module.weight"], state["linear-1.module.bias"])
    return functional.prelu(affine(state, "p-relu-1", x), state["p-relu-1.alpha"])
