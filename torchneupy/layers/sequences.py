"""Operations on sequences, ``(batch, steps, features)``, of which each may have its own length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torchneupy.layers.base import BaseLayer

__all__ = ["clip_gradient", "fail_if_too_long", "final_state", "keep_steps", "reverse", "stack_states"]


def reverse(sequence: Any, lengths: Any) -> Any:
    """The steps of each sequence from its last to its first; what pads it stays where it is."""
    if lengths is None:
        return sequence.flip(1)
    steps = torch.arange(sequence.shape[1], device=sequence.device)
    mirrored = lengths[:, None] - 1 - steps
    return take_steps(sequence, torch.where(mirrored >= 0, mirrored, steps))


def take_steps(sequence: Any, steps: Any) -> Any:
    """Steps of each sequence, ``(batch, features)`` for each of ``steps``, ``(batch, number)``."""
    return sequence.gather(1, steps[..., None].expand(-1, -1, sequence.shape[2]))


def final_state(states: Any, lengths: Any, initial: Any) -> Any:
    """The state after the last step of each sequence; the initial one, ``(1, units)``, where it has no steps."""
    if states.shape[1] == 0:
        return initial.expand(states.shape[0], -1)
    last = take_steps(states, (lengths - 1).clamp(min=0)[:, None])[:, 0]
    return torch.where(lengths[:, None] > 0, last, initial.to(last.dtype))


def keep_steps(states: Any, lengths: Any) -> Any:
    """The states, and zero at the steps that only pad a sequence."""
    steps = torch.arange(states.shape[1], device=states.device)
    return states.masked_fill((steps >= lengths[:, None])[..., None], 0)


def stack_states(states: Sequence[Any], initial: Any) -> Any:
    """States after each step, ``(batch, steps, units)``, also where there was none."""
    return torch.stack(tuple(states), dim=1) if states else initial[:, None][:, :0]


def fail_if_too_long(layer: BaseLayer, lengths: Any, steps: int) -> None:
    """Raise ValueError if a length is not one that sequences of so many steps can have.

    Only where it can be told without waiting for a device.
    """
    if lengths.device.type != "cpu" or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return
    if lengths.numel() and not 0 <= lengths.min() <= lengths.max() <= steps:
        raise ValueError(
            f"Layer `{layer.name}` got lengths from {int(lengths.min())} to {int(lengths.max())} of sequences that "
            f"have {steps} steps. Layer: {layer}"
        )


class ClippedGradient(torch.autograd.Function):
    """The identity, whose gradient is clipped."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: torch.Tensor, limit: float) -> torch.Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.limit = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient.clamp(-ctx.limit, ctx.limit), None


class ClippedGradientWithTangent(ClippedGradient):
    """The same for derivatives taken forward as well, which are not clipped; torch.compile takes no such functions."""

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, limit: None) -> torch.Tensor:
        return tangent.view_as(tangent)


def clip_gradient(value: Any, limit: float) -> Any:
    """The value, whose gradient is clipped to an absolute value on its way back; 0 leaves it."""
    function = ClippedGradient if torch.compiler.is_compiling() else ClippedGradientWithTangent
    apply: Any = function.apply
    return apply(value, limit) if limit else value
