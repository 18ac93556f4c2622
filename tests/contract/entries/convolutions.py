"""Layers that move kernels over an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.contract.entries.pieces import ANY_IMAGE, SHAPES_OF_ARRAYS
from tests.contract.entry import Array, Case, Reference, Refused, Shape, Variant
from torchneupy.exceptions import LayerConnectionError


def margins(size: int, kernel: int, stride: int, dilation: int, padding: Any) -> tuple[int, int]:
    """What is added before and after an axis, by TensorFlow's definition."""
    if padding == "same":
        places = -(-size // stride)
        added = max((places - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        return added // 2, added - added // 2
    return (0, 0) if padding == "valid" else (padding, padding)


def convolution(padding: Any = ("valid", "valid"), stride: Any = (1, 1), dilation: Any = (1, 1)) -> Reference:
    """One place after the other."""

    def apply(values: Mapping[str, Array], x: Array) -> Array:
        weight = values["weight"]
        added = [margins(x.shape[1 + a], weight.shape[a], stride[a], dilation[a], padding[a]) for a in (0, 1)]
        x = np.pad(x, [(0, 0), *added, (0, 0)])
        window = [(weight.shape[a] - 1) * dilation[a] + 1 for a in (0, 1)]
        places = [len(range(0, x.shape[1 + a] - window[a] + 1, stride[a])) for a in (0, 1)]
        output = np.zeros((len(x), *places, weight.shape[3]))
        for row in range(places[0]):
            for column in range(places[1]):
                top, left = row * stride[0], column * stride[1]
                shown = x[:, top : top + window[0] : dilation[0], left : left + window[1] : dilation[1]]
                output[:, row, column] = np.einsum("bijc,ijcf->bf", shown, weight)
        return output + values.get("bias", 0)

    return apply


def deconvolution(padding: Any = ("valid", "valid"), stride: Any = (1, 1)) -> Reference:
    """The derivative of a convolution by its input, whose size NeuPy tells."""

    def apply(values: Mapping[str, Array], x: Array) -> Array:
        weight = values["weight"]
        added, places = [], []
        for axis in (0, 1):
            size, kernel, step, pad = x.shape[1 + axis], weight.shape[axis], stride[axis], padding[axis]
            if pad == "same":
                places.append(size * step)
            else:
                places.append(size * step + (max(kernel - step, 0) if pad == "valid" else kernel - 1 - 2 * pad))
            added.append(margins(places[axis], kernel, step, 1, pad))
        output = np.zeros((len(x), *(places[a] + sum(added[a]) for a in (0, 1)), weight.shape[2]))
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                top, left = row * stride[0], column * stride[1]
                part = np.einsum("bc,ijfc->bijf", x[:, row, column], weight)
                output[:, top : top + weight.shape[0], left : left + weight.shape[1]] += part
        (top, _), (left, _) = added
        return output[:, top : top + places[0], left : left + places[1]] + values.get("bias", 0)

    return apply


def kernels(rows: int, columns: int, *channels: int | str, bias: bool = True) -> dict[str, Shape]:
    """``channels`` as the weight has them; the bias has as many as there are filters."""
    filters = next(size for size in channels if size != "channels")
    return {"weight": (rows, columns, *channels), **({"bias": (filters,)} if bias else {})}


def at_least(height: int, width: int) -> dict[str, tuple[int, int]]:
    return {"height": (height, height + 4), "width": (width, width + 4)}


def refused_by_both(name: str) -> tuple[Refused, ...]:
    return (
        Refused(f"{name}(3)", TypeError, ("size", "3")),
        Refused(f"{name}((3, 3))", ValueError, ("size", "(3, 3)")),
        Refused(f"{name}((3, 3, 4, 5))", ValueError, ("size", "(3, 3, 4, 5)")),
        Refused(f"{name}((3, 3, 16.0))", TypeError, ("size", "(3, 3, 16.0)")),
        Refused(f"{name}((0, 3, 4))", ValueError, ("size", "(0, 3, 4)")),
        Refused(f"{name}((3, 3, -4))", ValueError, ("size", "(3, 3, -4)")),
        Refused(f"{name}((3, True, 4))", TypeError, ("size", "(3, True, 4)")),
        Refused(f"{name}((3, 3, 4), padding='full')", ValueError, ("padding", "full", "valid, same")),
        Refused(f"{name}((3, 3, 4), padding=1.5)", TypeError, ("padding", "1.5")),
        Refused(f"{name}((3, 3, 4), padding=(1, 1.5))", TypeError, ("padding", "(1, 1.5)")),
        Refused(f"{name}((3, 3, 4), padding=None)", TypeError, ("padding", "None")),
        Refused(f"{name}((3, 3, 4), padding=True)", TypeError, ("padding", "True")),
        Refused(f"{name}((3, 3, 4), padding=-1)", ValueError, ("padding", "-1")),
        Refused(f"{name}((3, 3, 4), padding=(1, -2))", ValueError, ("padding", "(1, -2)")),
        Refused(f"{name}((3, 3, 4), padding=(1, 1, 1))", ValueError, ("padding", "(1, 1, 1)")),
        Refused(f"{name}((3, 3, 4), padding=(1,))", ValueError, ("padding", "(1,)")),
        Refused(f"{name}((3, 3, 4), stride=0)", ValueError, ("stride", "0")),
        Refused(f"{name}((3, 3, 4), stride=(1, -1))", ValueError, ("stride", "(1, -1)")),
        Refused(f"{name}((3, 3, 4), stride=(1, 2, 3))", ValueError, ("stride", "(1, 2, 3)")),
        Refused(f"{name}((3, 3, 4), stride=())", ValueError, ("stride", "()")),
        Refused(f"{name}((3, 3, 4), stride='two')", TypeError, ("stride", "'two'")),
        Refused(f"{name}((3, 3, 4), stride=2.0)", TypeError, ("stride", "2.0")),
        Refused(f"{name}((3, 3, 4), stride=None)", TypeError, ("stride", "None")),
        Refused(f"{name}((3, 3, 4), weight='he')", TypeError, ("weight", "'he'")),
        Refused(f"{name}((3, 3, 4), weight=None)", TypeError, ("weight", "None")),
        Refused(f"{name}((3, 3, 4), bias='none')", TypeError, ("bias", "'none'")),
        Refused(f"{name}((3, 3, 4))", LayerConnectionError, ("4 dimensions", "got 2", "(?, 10)"), ((10,),)),
        Refused(f"{name}((3, 3, 4))", LayerConnectionError, ("4 dimensions", "got 3", "(?, 5, 5)"), ((5, 5),)),
        Refused(
            f"{name}((3, 3, 4))", LayerConnectionError, ("4 dimensions", "got 5", "(?, 5, 5, 5, 3)"), ((5, 5, 5, 3),)
        ),
        Refused(
            f"{name}((3, 3, 4))",
            LayerConnectionError,
            ("1 input", "got 2", "(?, 5, 5, 3)"),
            ((5, 5, 3), (5, 5, 3)),
        ),
        Refused(f"{name}((3, 3, 4), bias=np.ones(3))", LayerConnectionError, ("bias", "(3,)", "(4,)"), ((5, 5, 2),)),
    )


CASES: tuple[Case, ...] = (
    Case(
        "Convolution",
        (
            Variant(
                "Convolution((3, 2, 4))",
                ANY_IMAGE,
                convolution(),
                kernels(3, 2, "channels", 4),
                sizes=at_least(3, 2),
            ),
            Variant(
                "Convolution((3, 3, 2), padding='same')",
                ANY_IMAGE,
                convolution(("same", "same")),
                kernels(3, 3, "channels", 2),
            ),
            Variant(
                "Convolution((2, 4, 3), padding='SAME', bias=0.5)",
                ANY_IMAGE,
                convolution(("same", "same")),
                kernels(2, 4, "channels", 3),
            ),
            Variant(
                "Convolution((3, 2, 1), padding='same', stride=(2, 3), weight=XavierNormal())",
                ANY_IMAGE,
                convolution(("same", "same"), stride=(2, 3)),
                kernels(3, 2, "channels", 1),
            ),
            Variant(
                "Convolution((2, 3, 2), padding='same', stride=2, dilation=(3, 2))",
                ANY_IMAGE,
                convolution(("same", "same"), stride=(2, 2), dilation=(3, 2)),
                kernels(2, 3, "channels", 2),
            ),
            Variant(
                "Convolution((1, 1, 5), stride=(2,), bias=None)",
                ANY_IMAGE,
                convolution(stride=(2, 1)),
                kernels(1, 1, "channels", 5, bias=False),
            ),
            Variant(
                "Convolution([3, 1, 2], padding=[2, 0], stride=[2, 3], dilation=[2, 1])",
                ANY_IMAGE,
                convolution((2, 0), stride=(2, 3), dilation=(2, 1)),
                kernels(3, 1, "channels", 2),
            ),
            Variant(
                "Convolution((2, 2, 2), padding=1, weight=np.arange(16.0).reshape(2, 2, 2, 2) / 8, name='conv')",
                (("height", "width", 2),),
                convolution((1, 1)),
                kernels(2, 2, 2, 2),
                exempt=SHAPES_OF_ARRAYS,
            ),
        ),
        (
            *refused_by_both("Convolution"),
            Refused("Convolution((3, 3, 4), dilation=0)", ValueError, ("dilation", "0")),
            Refused("Convolution((3, 3, 4), dilation=(1, -1))", ValueError, ("dilation", "(1, -1)")),
            Refused("Convolution((3, 3, 4), dilation='two')", TypeError, ("dilation", "'two'")),
            Refused("Convolution((3, 3, 4), dilation=(1, 1, 1))", ValueError, ("dilation", "(1, 1, 1)")),
            Refused(
                "Convolution((3, 3, 4))", LayerConnectionError, ("(?, 5, 2, 1)", "3 rows", "0 columns"), ((5, 2, 1),)
            ),
            Refused(
                "Convolution((2, 9, 4), padding=(0, 1), stride=2)",
                LayerConnectionError,
                ("(?, ?, 5, 1)", "0 columns"),
                ((None, 5, 1),),
            ),
            Refused(
                "Convolution((3, 3, 4), dilation=3)", LayerConnectionError, ("(?, 6, 7, 1)", "0 rows"), ((6, 7, 1),)
            ),
            Refused(
                "Convolution((3, 3, 4), weight=np.ones((3, 3, 4, 2)))",
                LayerConnectionError,
                ("weight", "(3, 3, 4, 2)", "(3, 3, 2, 4)"),
                ((5, 5, 2),),
            ),
        ),
    ),
    Case(
        "Deconvolution",
        (
            Variant("Deconvolution((3, 2, 4))", ANY_IMAGE, deconvolution(), kernels(3, 2, 4, "channels")),
            Variant(
                "Deconvolution((3, 2, 2), stride=(2, 3))",
                ANY_IMAGE,
                deconvolution(stride=(2, 3)),
                kernels(3, 2, 2, "channels"),
            ),
            Variant(
                "Deconvolution((3, 2, 2), padding='same', stride=2)",
                ANY_IMAGE,
                deconvolution(("same", "same"), stride=(2, 2)),
                kernels(3, 2, 2, "channels"),
            ),
            Variant(
                "Deconvolution((5, 3, 1), padding='SAME', stride=[2, 1], bias=None)",
                ANY_IMAGE,
                deconvolution(("same", "same"), stride=(2, 1)),
                kernels(5, 3, 1, "channels", bias=False),
            ),
            Variant(
                "Deconvolution((1, 4, 3), padding='same', stride=(3,), bias=Normal())",
                ANY_IMAGE,
                deconvolution(("same", "same"), stride=(3, 1)),
                kernels(1, 4, 3, "channels"),
            ),
            Variant(
                "Deconvolution((4, 3, 2), padding=(2, 0), stride=(1, 3))",
                ANY_IMAGE,
                deconvolution((2, 0), stride=(1, 3)),
                kernels(4, 3, 2, "channels"),
                sizes=at_least(2, 1),
            ),
            Variant(
                "Deconvolution((3, 3, 2), padding=0, stride=2, weight=np.arange(36.0).reshape(3, 3, 2, 2) / 9)",
                (("height", "width", 2),),
                deconvolution((0, 0), stride=(2, 2)),
                kernels(3, 3, 2, 2),
                exempt=SHAPES_OF_ARRAYS,
            ),
        ),
        (
            *refused_by_both("Deconvolution"),
            Refused("Deconvolution((3, 3, 4), dilation=2)", TypeError, ("dilation",)),
            Refused(
                "Deconvolution((2, 2, 4), padding=1)", LayerConnectionError, ("(?, 1, 5, 1)", "0 rows"), ((1, 5, 1),)
            ),
            Refused(
                "Deconvolution((3, 3, 4), padding=5)",
                LayerConnectionError,
                ("(?, 5, ?, 1)", "-3 rows"),
                ((5, None, 1),),
            ),
            Refused(
                "Deconvolution((3, 3, 4), weight=np.ones((3, 3, 2, 4)))",
                LayerConnectionError,
                ("weight", "(3, 3, 2, 4)", "(3, 3, 4, 2)"),
                ((5, 5, 2),),
            ),
        ),
    ),
)
