"""What is asked of arguments before anything is drawn."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import torch

__all__ = ["Range", "read_range", "warm_up"]

#: A number, or the least and the largest one.
Range: TypeAlias = int | tuple[int, int]


def read_range(name: str, value: Range) -> tuple[int, int]:
    """The least and the largest number.

    Raises
    ------
    TypeError
        If it is neither a whole number nor two of them.
    ValueError
        If they are less than 1, or the least is more than the largest.
    """
    numbers: Any = value if isinstance(value, tuple) else (value, value)
    if len(numbers) != 2 or any(type(number) is not int for number in numbers):
        raise TypeError(
            f"`{name}` should be a whole number, or a tuple of the least and the largest one, got {value!r}"
        )
    least, most = numbers
    if not 1 <= least <= most:
        raise ValueError(f"`{name}` should be a number from 1 on, or the least and the largest one, got {value!r}")
    return least, most


@cache
def warm_up() -> None:
    """Let torch import what its first operation on ``meta`` needs: it takes a second, which no example should."""
    torch.tanh(torch.empty(0, device="meta"))
