"""Layers that make one output of several inputs."""

from __future__ import annotations

import numpy as np

from tests.contract.entries.pieces import ANY_MATRIX, ANY_SEQUENCE, UNPICKLABLE, each_row, same
from tests.contract.entry import Array, Case, Reference, Refused, Variant
from torchneupy.exceptions import LayerConnectionError


def gated(place: int) -> Reference:
    """The sum of the other inputs, each multiplied by its number in the one of this place."""

    def apply(values: object, *inputs: Array) -> Array:
        others = list(inputs)
        gate = others.pop(place)
        output: Array = np.einsum("bi,ib...->b...", gate, np.stack(others))
        return output

    return apply


CASES: tuple[Case, ...] = (
    Case(
        "Elementwise",
        (
            Variant("Elementwise()", ANY_MATRIX * 2, each_row(lambda x, y: x + y)),
            Variant("Elementwise('multiply')", ANY_SEQUENCE * 3, each_row(lambda x, y, z: x * y * z)),
            Variant(
                "Elementwise(torch.maximum)",
                ANY_MATRIX * 2,
                each_row(np.maximum),
                exempt={"repr_evaluates": "A function is shown by its name"},
            ),
            Variant(
                "Elementwise(lambda x, y: x - 2 * y)",
                ANY_MATRIX * 3,
                each_row(lambda x, y, z: x - 2 * y - 2 * z),
                exempt={"repr_evaluates": "A function is shown by its name", **UNPICKLABLE},
            ),
            Variant(
                "Elementwise(nn.Bilinear(4, 4, 4))",
                ((4,), (4,)),
                lambda v, x, y: np.einsum("bi,oij,bj->bo", x, v["merge_function.weight"], y) + v["merge_function.bias"],
                {"merge_function.weight": (4, 4, 4), "merge_function.bias": (4,)},
                exempt={
                    "repr_evaluates": "A module of torch is shown under a name that is not imported",
                    "autocast_of_lower_precision": "torch's Bilinear takes no inputs of another type than its weights",
                },
            ),
        ),
        (
            Refused("Elementwise('subtract')", ValueError, ("merge_function", "subtract", "add, multiply")),
            Refused("Elementwise(None)", ValueError, ("merge_function", "None", "add, multiply")),
            Refused("Elementwise(nn.Bilinear)", ValueError, ("merge_function", "Bilinear")),
            Refused("Elementwise()", LayerConnectionError, ("(?, 10)",), ((10,),)),
            Refused("Elementwise()", LayerConnectionError, ("(?, 10)", "(?, 9)"), ((10,), (9,))),
            Refused("Elementwise()", LayerConnectionError, ("(?, 4, 3)", "(?, 4)"), ((4, 3), (4, 3), (4,))),
        ),
    ),
    Case(
        "Concatenate",
        (
            Variant("Concatenate()", (("a",), ("b",)), each_row(lambda *xs: np.concatenate(xs, axis=-1))),
            Variant(
                "Concatenate(axis=1)",
                (("a", "n"), ("b", "n"), ("a", "n")),
                each_row(lambda *xs: np.concatenate(xs, axis=1)),
            ),
            Variant(
                "Concatenate(-2)", (("n", "a", "m"), ("n", "b", "m")), each_row(lambda *xs: np.concatenate(xs, axis=2))
            ),
            Variant("Concatenate()", ANY_MATRIX, same),
            Variant(
                "Concatenate(axis=0)",
                ANY_MATRIX * 2,
                each_row(lambda *xs: np.concatenate(xs, axis=0)),
                exempt={"samples": "Its output has the samples of one input after those of the other"},
            ),
        ),
        (
            Refused("Concatenate(axis='last')", TypeError, ("axis", "'last'")),
            Refused("Concatenate(axis=1.5)", TypeError, ("axis", "1.5")),
            Refused("Concatenate(axis=2)", LayerConnectionError, ("axis 2", "(?, 3)"), ((3,), (3,))),
            Refused("Concatenate(axis=-3)", LayerConnectionError, ("axis -3", "(?, 3)"), ((3,),)),
            Refused("Concatenate()", LayerConnectionError, ("(?, 10)", "(?, 4, 10)"), ((10,), (4, 10))),
            Refused(
                "Concatenate()", LayerConnectionError, ("#2", "(?, 4, 4, 3)", "(?, 4, 5, 3)"), ((4, 4, 3), (4, 5, 3))
            ),
        ),
    ),
    Case(
        "GatedAverage",
        (
            Variant("GatedAverage()", ((2,), ("features",), ("features",)), gated(0)),
            Variant("GatedAverage(gate_index=-1)", (*ANY_SEQUENCE * 3, (3,)), gated(3)),
            Variant("GatedAverage(1)", (("height", "width", "channels"), (1,)), gated(1)),
        ),
        (
            Refused("GatedAverage(gate_index='first')", TypeError, ("gate_index", "'first'")),
            Refused("GatedAverage(1.5)", TypeError, ("gate_index", "1.5")),
            Refused("GatedAverage(3)", LayerConnectionError, ("3", "3"), ((2,), (5,), (5,))),
            Refused("GatedAverage(-4)", LayerConnectionError, ("-4", "3"), ((2,), (5,), (5,))),
            Refused("GatedAverage()", LayerConnectionError, ("2-dimensional", "(?, 2, 2)"), ((2, 2), (5,), (5,))),
            Refused("GatedAverage()", LayerConnectionError, ("3 networks", "got 2"), ((3,), (5,), (5,))),
            Refused("GatedAverage()", LayerConnectionError, ("(?, 5)", "(?, 6)"), ((2,), (5,), (6,))),
            Refused("GatedAverage()", LayerConnectionError, ("2 networks", "got 0"), ((2,),)),
        ),
    ),
)
