"""What the parts of the contract are, and what their checks have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.testing import assert_close

from torchneupy.testing.subject import Subject

__all__ = [
    "Part",
    "Parts",
    "are_equal",
    "described",
    "ensure",
    "go_back",
    "have_equal_values",
    "mode_of",
]

Check: TypeAlias = Callable[[Subject], None]


@dataclass(frozen=True)
class Part:
    """One promise.

    Attributes
    ----------
    check : callable
        Takes a Subject.
    remedy : str
        How a layer that breaks the promise is mended.
    layers_only : bool
        Whether only a layer that is newly made can be asked.
    """

    check: Check
    remedy: str
    layers_only: bool = False


class Parts(dict[str, Part]):
    """Parts by name, in the order in which they are asked."""

    def add(self, name: str, remedy: str, layers_only: bool = False) -> Callable[[Check], Check]:
        """Put a check into the table."""

        def decorate(check: Check) -> Check:
            self[name] = Part(check, remedy, layers_only)
            return check

        return decorate


def ensure(condition: object, message: str) -> None:
    """Raise AssertionError with a message where a condition is false."""
    if not condition:
        raise AssertionError(message)


def described(tensors: Sequence[torch.Tensor]) -> str:
    """The shapes of tensors."""
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)


def mode_of(training: bool) -> str:
    """What a mode is called in a message."""
    return "training mode" if training else "evaluation mode"


def are_equal(found: Sequence[Any], wanted: Sequence[Any], what: str, tolerance: float = 0) -> None:
    """Raise AssertionError with a text that begins with ``what`` if tensors differ.

    What is tolerated are ten times the tolerance of each value, and once the tolerance of the largest, or of 1.
    """
    for one, other in zip(found, wanted, strict=True):
        assert_close(
            one.detach(),
            other.detach(),
            rtol=10 * tolerance,
            atol=tolerance * largest_of(other) if tolerance else 0,
            equal_nan=True,
            msg=lambda text: f"{what}. {text}",
        )


def largest_of(tensor: torch.Tensor) -> float:
    """The largest absolute value that is a finite number, or 1 if that is more."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 1.0
    values = tensor.detach().abs()
    return max(1.0, float(values[values.isfinite()].amax())) if values.isfinite().any() else 1.0


def have_equal_values(
    found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], what: str, tolerance: float = 0
) -> None:
    """Raise AssertionError if two states have other keys or values; it names the key."""
    ensure(list(found) == list(wanted), f"{what}: there are {list(found)}, not {list(wanted)}")
    for key, value in found.items():
        are_equal([value], [wanted[key]], f"{what}: `{key}` differs", tolerance)


def go_back(outputs: Sequence[Any]) -> None:
    """Take the gradient of one number that depends on all outputs, if there is any."""
    parts = [output.abs().square().sum() for output in outputs if output.requires_grad]  # of complex numbers, too
    if parts:
        torch.stack(parts).sum().backward()
