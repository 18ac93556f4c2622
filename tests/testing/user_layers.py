"""Layers as users write them: two that are right, and others with one bug each."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from torchneupy import init
from torchneupy.layers import BaseLayer, BatchNorm, Convolution, Identity

__all__ = [
    "AlwaysNoisy",
    "Centring",
    "Closed",
    "Compiled",
    "Counting",
    "Detached",
    "DetachedInTraining",
    "Drawing",
    "Forgetful",
    "Gapless",
    "Hasty",
    "Hidden",
    "HiddenInTraining",
    "InPlace",
    "Noisy",
    "Normalizing",
    "OffByOne",
    "OnTheCpu",
    "OneType",
    "PaddedOnOneSide",
    "Plain",
    "Projection",
    "Raising",
    "Renamed",
    "Rounding",
    "Running",
    "SelfWilled",
    "Shared",
    "SingleParameter",
    "Stale",
    "Stepping",
    "Strided",
    "Undecided",
    "Unpicklable",
    "Unsaved",
    "Waking",
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


class Undecided(Identity):
    """Leaves open what is known."""

    def get_output_shape(self, input_shape: Any) -> Any:
        return (None, None)


class Drawing(Identity):
    """Draws random numbers for nothing."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        torch.rand_like(input)
        return input


class Counting(Identity):
    """Counts its calls in both modes."""

    def create_variables(self, input_shape: Any) -> None:
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.int64))

    def output(self, input: Any, **kwargs: Any) -> Any:
        self.n_calls += 1
        return input * 1


class Gapless(Identity):
    """Takes for granted that its input has no gaps in memory."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        closest = min(input.stride())
        return torch.as_strided(input, input.shape, [stride // closest for stride in input.stride()])


class Normalizing(Projection):
    """Changes its own parameter."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            self.weight /= self.weight.abs().sum()
        return input @ self.weight


class DetachedInTraining(Projection):
    def output(self, input: Any, **kwargs: Any) -> Any:
        return input @ (self.weight.detach() if kwargs.get("training") else self.weight)


class HiddenInTraining(Hidden):
    """Keeps where nobody finds it what matters in training alone."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return super().output(input, **kwargs) if kwargs.get("training") else input


class Unsaved(Identity):
    """Leaves its variable, which begins with the same value in each, out of what is saved."""

    def create_variables(self, input_shape: Any) -> None:
        self.scale = self.variable(value=1, name="scale", shape=input_shape[1:])

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input * self.scale

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Save nothing."""

    def _load_from_state_dict(self, *args: Any) -> None:
        """Load nothing."""


class Renamed(Identity):
    """A copy has another name."""

    def __deepcopy__(self, memo: Any) -> Any:
        return type(self)(name=f"copy of {self.name}")


class Waking(Identity):
    """A copy begins in training mode."""

    def __deepcopy__(self, memo: Any) -> Any:
        return type(self)(name=self.name)


class Plain(Identity):
    """Keeps a constant as a plain attribute, and converts it at each call."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.constant = torch.ones(())

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input * self.constant.to(input)


class SingleParameter(Projection):
    """Makes its parameter of one type."""

    def create_variables(self, input_shape: Any) -> None:
        values = torch.full((input_shape[1], self.n_outputs), 0.5, dtype=torch.float32)
        self.register_parameter("weight", torch.nn.Parameter(values))


class Rounding(Projection):
    """Computes in lower precision, whatever the types of input and output are."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return (input.float() @ self.weight.float()).to(input.dtype)


class Stepping(Identity):
    """A correct layer that takes steps."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return torch.round(100 * input)


class Closed(Identity):
    """Gives another shape where there are no values."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input[:, :1] if input.is_meta else input


class Compiled(Projection):
    """Lets no gradient through where it is compiled."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input @ (self.weight.detach() if torch.compiler.is_compiling() else self.weight)


class Centring(Identity):
    """Takes the mean of the batch in evaluation mode, too."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input - input.mean(dim=0)
