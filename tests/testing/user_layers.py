"""Layers as users write them: two that are right, and others with one bug each."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from torchneupy import init
from torchneupy.layers import BaseLayer, BatchNorm, Convolution, Identity

__all__ = [
    "AlwaysNoisy",
    "Detached",
    "Forgetful",
    "Hasty",
    "Hidden",
    "InPlace",
    "Noisy",
    "OffByOne",
    "OnTheCpu",
    "OneType",
    "PaddedOnOneSide",
    "Projection",
    "Raising",
    "Running",
    "SelfWilled",
    "Shared",
    "Stale",
    "Strided",
    "Unpicklable",
    "WithoutShape",
]


class Projection(BaseLayer):
    """A correct layer with a variable."""

    def __init__(self, n_outputs: int, name: str | None = None) -> None:
        self.n_outputs = n_outputs
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.n_outputs)

    def create_variables(self, input_shape: Any) -> None:
        shape = (input_shape[1], self.n_outputs)
        self.weight = self.variable(value=init.XavierNormal(), name="weight", shape=shape)

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input @ self.weight


class Noisy(Identity):
    """A correct layer that is random while training."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input + torch.randn_like(input) if kwargs.get("training") else input


class Running(Identity):
    """A correct layer with a mean that it keeps."""

    def create_variables(self, input_shape: Any) -> None:
        self.mean = self.variable(value=0, name="mean", shape=input_shape[1:], trainable=False)

    def output(self, input: Any, **kwargs: Any) -> Any:
        centred = input - self.mean
        if kwargs.get("training"):
            with torch.no_grad():
                self.mean.lerp_(input.mean(dim=0).to(self.mean), 0.5)
        return centred


class OffByOne(Projection):
    def get_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.n_outputs + 1)


class WithoutShape(Projection):
    def get_output_shape(self, input_shape: Any) -> Any:
        return None


class Raising(Projection):
    """Calculates with a size that may be unknown."""

    def get_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 2 * input_shape[1] // input_shape[1] * self.n_outputs // 2)


class PaddedOnOneSide(Convolution):
    """Pads below and to the right what should come on all sides, and more than it declares."""

    def transform(self, image: Any) -> Any:
        return super().transform(functional.pad(image, (0, 1, 0, 1)))


class AlwaysNoisy(Identity):
    """Forgets that there are two modes."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return functional.dropout(input, 0.5)


class SelfWilled(Identity):
    """Takes the mode from itself, whatever it is told."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return functional.dropout(input, 0.5, training=self.training)


class Stale(Running):
    """Keeps the tensor that the buffer was when it was made."""

    def create_variables(self, input_shape: Any) -> None:
        super().create_variables(input_shape)
        self.kept = [self.mean]

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input - self.kept[0]


class Hidden(Running):
    """Keeps the mean where nobody finds it."""

    def create_variables(self, input_shape: Any) -> None:
        self.register_buffer("mean", torch.zeros(tuple(input_shape[1:])), persistent=False)


class Forgetful(Identity):
    """Keeps the mean as a plain attribute."""

    mean: Any = None

    def output(self, input: Any, **kwargs: Any) -> Any:
        centred = input if self.mean is None else input - self.mean
        if kwargs.get("training"):
            self.mean = input.detach().mean(dim=0)
        return centred


class Detached(Projection):
    def output(self, input: Any, **kwargs: Any) -> Any:
        return input @ self.weight.detach()


class Strided(Identity):
    """Takes for granted how its input lies in memory."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return torch.as_strided(input, input.shape, (*input.shape[1:], 1))


class Hasty(Projection):
    """Makes its variable of any size while nobody knows the right one."""

    def create_variables(self, input_shape: Any) -> None:
        shape = (input_shape[1] or 1, self.n_outputs)
        self.weight = self.variable(value=init.XavierNormal(), name="weight", shape=shape)


class InPlace(Identity):
    def output(self, input: Any, **kwargs: Any) -> Any:
        return input.mul_(2) if not input.requires_grad else input * 2


class OneType(Identity):
    def output(self, input: Any, **kwargs: Any) -> Any:
        return (input.float() * 2).to(torch.promote_types(input.dtype, torch.float32))


class OnTheCpu(Identity):
    def output(self, input: Any, **kwargs: Any) -> Any:
        return input + torch.ones(input.shape[1:], device="cpu", dtype=input.dtype)


class Unpicklable(Identity):
    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.function = lambda x: 2 * x

    def output(self, input: Any, **kwargs: Any) -> Any:
        return self.function(input)


class Shared(BatchNorm):
    """A copy shares the variables."""

    def __deepcopy__(self, memo: Any) -> Any:
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self))
        return twin
