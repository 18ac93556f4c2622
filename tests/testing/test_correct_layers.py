"""Correct layers that are unlike the library's own pass: nobody is told to mend what is right."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchneupy.layers import BaseLayer, Convolution, Elementwise, Identity, Input, Linear, MaxPooling, Relu, join
from torchneupy.testing import check_layer, check_network

SLOW = ["compile", "export"]


class Depth(Identity):
    """Is left out at random, by numbers that are not torch's."""

    def __init__(self, draw: Any, name: str | None = None) -> None:
        super().__init__(name=name)
        self.draw = draw

    def output(self, input: Any, **kwargs: Any) -> Any:
        return 0 * input if kwargs.get("training") and self.draw() < 0.5 else input


class Gain(Identity):
    """Has a parameter that is small and positive."""

    def create_variables(self, input_shape: Any) -> None:
        self.gain = self.variable(value=0.01, name="gain", shape=input_shape[1:])

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input * torch.sqrt(self.gain)


class Teacher(nn.Module):
    """Has parameters that are not trained, one of whole numbers among them."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(4, 4).requires_grad_(False)
        self.order = nn.Parameter(torch.tensor([2, 0, 1, 3]), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            shares = torch.sigmoid(self.teacher(torch.ones_like(x)))
        found: torch.Tensor = x[:, self.order] * shares
        return found


class Head(nn.Module):
    """Has a part that training alone needs."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.more = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.main(x)
        if self.training:
            found = found + self.more(x)
        return found


class Masked(nn.Module):
    """Gives negative infinity above the diagonal, as attention does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.masked_fill(torch.ones_like(x, dtype=torch.bool).triu(1), -torch.inf)


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(4).to_sparse())
        self.matrix: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.sparse.mm(self.matrix, x.t())
        return found.t()


class Weighted:
    """A function with the default repr, which tells where it lies."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + self.weight * x
        return total


class Selected(BaseLayer):
    """Takes what a mask says."""

    def get_output_shape(self, *input_shapes: Any) -> Any:
        return input_shapes[0]

    def output(self, *inputs: Any, **kwargs: Any) -> Any:
        values, mask = inputs
        return torch.where(mask > 0, values, 0)


def draw_by_python() -> float:
    return random.random()


def draw_by_numpy() -> float:
    return float(np.random.mtrand.random())


@pytest.mark.parametrize(
    "make, shape, options",
    [
        (lambda: Depth(draw_by_python), 4, {}),
        (lambda: Depth(draw_by_numpy), 4, {}),
        (Gain, 4, {}),
        (Teacher, 4, {}),
        (Head, 4, {}),
        (Masked, (4, 4), {}),
        (lambda: Elementwise(Weighted(0.3)), [4, 4], {}),
        (Selected, [4, 4], {"prepare": [None, lambda x: x > 0]}),
        (Selected, [4, 4], {"prepare": [None, lambda x: (x > 0).long()]}),
        (lambda: Convolution((7, 7, 4)), (None, None, 3), {}),
        (lambda: nn.Conv2d(3, 4, 17), (3, None, None), {"skip": [*SLOW, "gradients", "unknown_sizes"]}),
    ],
    ids=[
        "random of Python",
        "random of numpy",
        "positive",
        "frozen",
        "in training",
        "infinite",
        "function",
        "mask",
        "mask of numbers",
        "window",
        "window of a module",
    ],
)
def test_layers(make: Any, shape: Any, options: dict[str, Any]) -> None:
    check_layer(make, shape, **{"skip": SLOW, **options})


def test_a_sparse_buffer():
    """Torch has no kernels for it on meta, nor in bfloat16; what it has is asked."""
    check_layer(Sparse, 4, skip=[*SLOW, "shape", "dtypes", "moves", "meta"])


def test_values_of_the_user_stay_as_they_are():
    table, mean = torch.rand(5, 2), torch.zeros(4)

    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", mean)
            self.mean: torch.Tensor

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            centred = x - self.mean
            if self.training:
                with torch.no_grad():
                    self.mean.lerp_(x.mean(dim=0).to(self.mean), 0.5)
            return centred

    before = table.clone()
    # They are where they are, whatever torch's default device is.
    check_layer(lambda: nn.Embedding.from_pretrained(table), 3, skip=[*SLOW, "meta"])
    check_layer(Running, 4, skip=[*SLOW, "pickle", "meta"])
    assert torch.equal(table, before)
    assert not mean.any()


def test_a_wide_network():
    """Rounding adds up in it."""
    check_network(join(Input(512), *[Relu(512) for _ in range(6)], Linear(10)), skip=[*SLOW, "gradients"])


def test_networks_that_want_large_images():
    parts = Convolution((5, 5, 2)), MaxPooling((3, 3)), Convolution((3, 3, 2))
    check_network(join(Input((None, None, 3)), *parts), skip=SLOW)
