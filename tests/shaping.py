"""Shapes that come out of layers, worked out on tuples, for those whose output has another shape than their input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["SHAPES", "gated_shape", "smoothed"]

Shape: TypeAlias = "tuple[int | None, ...] | None"
Options: TypeAlias = Mapping[str, Any]


def image(function: Callable[[Options, int, int], int], channels: Callable[[Options], int | None]) -> Any:
    """The shape of an image, of which each side becomes what the function of options, axis and side says."""

    def shape(options: Options, before: Shape) -> Shape:
        batch, *sides, count = (None,) * 4 if before is None else before
        new = [None if side is None else function(options, axis, side) for axis, side in enumerate(sides)]
        made = channels(options)
        return (batch, *new, count if made is None else made)

    return shape


# Convolutions and pooling


def convolved(options: Options, axis: int, side: int) -> int:
    kernel = (options["size"][axis] - 1) * options["dilation"][axis] + 1
    stride: int = options["stride"][axis]
    padding = options["padding"]
    if padding == "SAME":
        return math.ceil(side / stride)
    added = 0 if padding == "VALID" else 2 * padding[axis]
    return len(range(0, side + added - kernel + 1, stride))


def deconvolved(options: Options, axis: int, side: int) -> int:
    kernel: int = options["size"][axis]
    stride: int = options["stride"][axis]
    added = 0 if options["padding"] == "SAME" else max(kernel - stride, 0)
    return side * stride + added


def pooled(options: Options, axis: int, side: int) -> int:
    stride: int = (options["stride"] or options["size"])[axis]
    if options["padding"] == "same":
        return math.ceil(side / stride)
    return len(range(0, side - options["size"][axis] + 1, stride))


# Any number of axes


def kept(options: Options, before: Shape) -> Shape:
    return before


def kept_image(options: Options, before: Shape) -> Shape:
    return (None,) * 4 if before is None else before


def pooled_globally(options: Options, before: Shape) -> Shape:
    return (None, None) if before is None else (before[0], before[-1])


def reshaped(options: Options, before: Shape) -> Shape:
    target = options["shape"]
    batch = None if before is None else before[0]
    if -1 not in target:
        return (batch, *target)
    known = None if before is None or None in before[1:] else math.prod(size or 0 for size in before[1:])
    fixed = math.prod(size for size in target if size != -1)
    return (batch, *((None if known is None else known // fixed) if size == -1 else size for size in target))


def transposed(options: Options, before: Shape) -> Shape:
    return tuple((None if before is None else before[axis]) for axis in options["perm"])


# Sequences


def scanned(options: Options, before: Shape) -> Shape:
    batch, steps = (None, None) if before is None else before[:2]
    whole = not options["only_return_final"]
    return (batch, steps, options["n_units"]) if whole else (batch, options["n_units"])


def embedded(options: Options, before: Shape) -> Shape:
    return None if before is None else (*before, options["output_size"])


# Several inputs


def gated_shape(shapes: Sequence[Shape], place: int) -> Shape:
    """The shape of GatedAverage, whose gate is the input of this place: what its other inputs know together."""
    others = list(shapes)
    others.pop(place)
    known = [shape for shape in others if shape is not None]
    if not known:
        return None
    return tuple(next((size for size in sizes if size is not None), None) for sizes in zip(*known, strict=True))


#: Class to a function of the options and the input's shape, which is known or None, that gives the output's shape.
SHAPES: dict[str, Callable[[Options, Shape], Shape]] = {
    "Convolution": image(convolved, lambda options: options["size"][2]),
    "Deconvolution": image(deconvolved, lambda options: options["size"][2]),
    "MaxPooling": image(pooled, lambda options: None),
    "AveragePooling": image(pooled, lambda options: None),
    "Upscale": image(lambda options, axis, side: side * options["scale"][axis], lambda _: None),
    "GroupNorm": kept_image,
    "LocalResponseNorm": kept_image,
    "GlobalPooling": pooled_globally,
    "BatchNorm": kept,
    "Reshape": reshaped,
    "Transpose": transposed,
    "LSTM": scanned,
    "GRU": scanned,
    "Embedding": embedded,
}


def smoothed(kind: str, options: Options) -> tuple[str, dict[str, Any]]:
    """A layer like this one, of the same output shape, that is never random and has a derivative everywhere."""
    changed = dict(options)
    if kind in ("Relu", "LeakyRelu", "PRelu", "HardSigmoid"):
        return "Tanh", {name: value for name, value in changed.items() if not name.startswith("alpha")}
    if kind in ("Dropout", "DropBlock", "GaussianNoise"):
        return "Identity", {name: value for name, value in changed.items() if name == "name"}
    if kind == "MaxPooling":
        return "AveragePooling", changed
    if kind == "GlobalPooling" and changed["function"] == "max":
        changed["function"] = "avg"
    if kind in ("LSTM", "GRU"):
        changed["gradient_clipping"] = 0
    if kind == "BatchNorm":
        changed["epsilon"] = 1  # where the variance may be zero, the derivatives of one over it grow without bound
    return kind, changed
