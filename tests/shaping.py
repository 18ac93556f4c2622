"""Layers for drawn networks whose output has another shape than their input, or that only some inputs suit.

For each kind: the options that suit an input of given sizes, and the shape that comes out, worked out on tuples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from hypothesis import strategies as st

__all__ = ["KINDS", "gated_shape", "possible_kinds", "smoothed"]

Shape: TypeAlias = "tuple[int | None, ...] | None"
Sizes: TypeAlias = tuple[int, ...]
Options: TypeAlias = Mapping[str, Any]

LARGEST_SIDE = 6  # of an image that a layer makes larger


class Kind(NamedTuple):
    """A class of layers.

    Attributes
    ----------
    ranks : tuple of int
        Numbers of axes, without the batch, of inputs that suit it.
    options : callable
        Sizes of one sample to a strategy for the options.
    shape : callable
        Options and the input's shape, which is known or None, to the output's shape.
    """

    ranks: tuple[int, ...]
    options: Callable[[Sizes], st.SearchStrategy[dict[str, Any]]]
    shape: Callable[[Options, Shape], Shape]


def pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def optional(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=options)


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
    kernel = (options["size"][axis] - 1) * pair(options.get("dilation", 1))[axis] + 1
    stride, padding = pair(options.get("stride", 1))[axis], options.get("padding", "valid")
    if padding == "same":
        return math.ceil(side / stride)
    added = 0 if padding == "valid" else 2 * pair(padding)[axis]
    return len(range(0, side + added - kernel + 1, stride))


def deconvolved(options: Options, axis: int, side: int) -> int:
    kernel: int = options["size"][axis]
    stride = pair(options.get("stride", 1))[axis]
    added = 0 if options.get("padding", "valid") == "same" else max(kernel - stride, 0)
    return side * stride + added


def pooled(options: Options, axis: int, side: int) -> int:
    stride = pair(options.get("stride") or options["size"])[axis]
    if options.get("padding") == "same":
        return math.ceil(side / stride)
    return len(range(0, side - options["size"][axis] + 1, stride))


@st.composite
def convolutions(draw: Any, sizes: Sizes) -> dict[str, Any]:
    height, width, _ = sizes
    options = draw(
        optional(
            padding=st.sampled_from(["valid", "same", 1, (0, 1)]),
            stride=st.sampled_from([1, 2, (2, 1)]),
            bias=st.none() | st.just(0.5),
        )
    )
    padding = options.get("padding", "valid")
    added = pair(padding) if not isinstance(padding, str) else (0, 0)
    most = [min(3, side + 2 * extra) for side, extra in zip(sizes[:2], added, strict=True)]
    rows, columns = (draw(st.integers(1, size)) for size in most)
    options["size"] = (rows, columns, draw(st.integers(1, 3)))
    if padding == "same" or (height >= 2 * rows - 1 and width >= 2 * columns - 1):
        options |= draw(optional(dilation=st.just(2)))
    return dict(options)


@st.composite
def deconvolutions(draw: Any, sizes: Sizes) -> dict[str, Any]:
    options = draw(optional(padding=st.sampled_from(["valid", "same"])))
    kernel = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    options["size"] = (*kernel, draw(st.integers(1, 3)))
    if max(sizes[:2]) * 2 <= LARGEST_SIDE:
        options |= draw(optional(stride=st.sampled_from([2, (1, 2)])))
    return dict(options)


@st.composite
def pools(draw: Any, sizes: Sizes) -> dict[str, Any]:
    window = tuple(draw(st.integers(1, min(3, side))) for side in sizes[:2])
    options = draw(optional(padding=st.sampled_from(["valid", "same"]), stride=st.sampled_from([1, 2, (1, 2)])))
    return {**options, "size": window}


def scales(sizes: Sizes) -> st.SearchStrategy[dict[str, Any]]:
    most = [max(1, min(2, LARGEST_SIDE // side)) for side in sizes[:2]]
    return st.fixed_dictionaries({"scale": st.tuples(*[st.integers(1, size) for size in most])})


# Any number of axes


def kept(options: Options, before: Shape) -> Shape:
    return before


def kept_image(options: Options, before: Shape) -> Shape:
    return (None,) * 4 if before is None else before


def pooled_globally(options: Options, before: Shape) -> Shape:
    return (None, None) if before is None else (before[0], before[-1])


def reshapes(sizes: Sizes) -> st.SearchStrategy[dict[str, Any]]:
    count = math.prod(sizes)
    factors = [factor for factor in range(1, count + 1) if count % factor == 0]
    two = st.sampled_from(factors).flatmap(lambda a: st.sampled_from([(a, count // a), (-1, count // a), (a, -1)]))
    return optional(shape=st.sampled_from([-1, (count,), (-1,)]) | two)


def reshaped(options: Options, before: Shape) -> Shape:
    target = options.get("shape", -1)
    target = target if isinstance(target, tuple) else (target,)
    batch = None if before is None else before[0]
    if -1 not in target:
        return (batch, *target)
    known = None if before is None or None in before[1:] else math.prod(size or 0 for size in before[1:])
    fixed = math.prod(size for size in target if size != -1)
    return (batch, *((None if known is None else known // fixed) if size == -1 else size for size in target))


def transposes(sizes: Sizes) -> st.SearchStrategy[dict[str, Any]]:
    return st.permutations(range(1, len(sizes) + 1)).map(lambda order: {"perm": (0, *order)})


def transposed(options: Options, before: Shape) -> Shape:
    return tuple((None if before is None else before[axis]) for axis in options["perm"])


def normalised_axes(sizes: Sizes) -> st.SearchStrategy[dict[str, Any]]:
    others = st.lists(st.integers(1, len(sizes)), unique=True).map(lambda axes: (0, *sorted(axes)))
    # What has no variance comes out as beta, and 0 is where rectifiers have no derivative.
    return st.fixed_dictionaries(
        {"beta": st.just(0.3)},
        optional={"axes": others, "epsilon": st.just(0.1), "alpha": st.sampled_from([0.1, 0.5])},
    )


def groups(sizes: Sizes) -> st.SearchStrategy[dict[str, Any]]:
    channels = sizes[-1]
    possible = [count for count in range(1, channels + 1) if channels % count == 0]
    given = {"n_groups": st.sampled_from(possible), "beta": st.just(0.3)}
    return st.fixed_dictionaries(given, optional={"epsilon": st.just(0.1)})


# Sequences


def recurrent(sizes: Sizes) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"n_units": st.integers(1, 3)},
        optional={
            "only_return_final": st.just(False),
            "backwards": st.just(True),
            "learn_init": st.just(True),
            "hidden_init": st.just(0.5),
        },
    )


def scanned(options: Options, before: Shape) -> Shape:
    batch, steps = (None, None) if before is None else before[:2]
    whole = not options.get("only_return_final", True)
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


KINDS: dict[str, Kind] = {
    "Convolution": Kind((3,), convolutions, image(convolved, lambda options: options["size"][2])),
    "Deconvolution": Kind((3,), deconvolutions, image(deconvolved, lambda options: options["size"][2])),
    "MaxPooling": Kind((3,), pools, image(pooled, lambda options: None)),
    "AveragePooling": Kind((3,), pools, image(pooled, lambda options: None)),
    "Upscale": Kind((3,), scales, image(lambda options, axis, side: side * options["scale"][axis], lambda _: None)),
    "GroupNorm": Kind((3,), groups, kept_image),
    "LocalResponseNorm": Kind((3,), lambda sizes: optional(depth_radius=st.sampled_from([1, 3])), kept_image),
    "GlobalPooling": Kind(
        (2, 3),
        lambda sizes: st.fixed_dictionaries({"function": st.sampled_from(["avg", "max", "sum", torch.logsumexp])}),
        pooled_globally,
    ),
    "BatchNorm": Kind((1, 2, 3), normalised_axes, kept),
    "Reshape": Kind((1, 2, 3), reshapes, reshaped),
    "Transpose": Kind((2, 3), transposes, transposed),
    "LSTM": Kind((2,), recurrent, scanned),
    "GRU": Kind((2,), recurrent, scanned),
    # Only where a network begins, as its inputs are indices.
    "Embedding": Kind((), lambda sizes: optional(), embedded),
}


def possible_kinds(sizes: Sizes) -> list[str]:
    """The kinds that an input of these sizes suits."""
    return [name for name, kind in KINDS.items() if len(sizes) in kind.ranks]


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
    if kind == "BatchNorm":
        changed["epsilon"] = 1  # where the variance may be zero, the derivatives of one over it grow without bound
    return kind, changed
