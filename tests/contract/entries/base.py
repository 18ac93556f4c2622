"""Layers that compute nothing."""

from __future__ import annotations

from tests.contract.entries.pieces import ANY_IMAGE, ANY_MATRIX, same
from tests.contract.entry import Case, Refused, Variant
from torchneupy.exceptions import LayerConnectionError

CASES: tuple[Case, ...] = (
    Case(
        "Input",
        (
            Variant("Input(3)", ((3,),), same),
            Variant("Input((4, None, 2))", ((4, "width", 2),), same),
            Variant("Input(None)", ANY_MATRIX, same),
            Variant("Input(())", ((),), same),
        ),
        (
            Refused("Input('10')", TypeError, ("shape", "'10'")),
            Refused("Input((28, 28.0, 1))", TypeError, ("shape", "(28, 28.0, 1)")),
            Refused("Input(True)", TypeError, ("shape", "True")),
            Refused("Input(-3)", ValueError, ("shape", "-3")),
            Refused("Input((4, 0))", ValueError, ("shape", "(4, 0)")),
            Refused("Input(5)", LayerConnectionError, ("(?, 10)", "(?, 5)"), ((10,),)),
            Refused("Input((4, 4))", LayerConnectionError, ("(?, 4, 4, 1)", "(?, 4, 4)"), ((4, 4, 1),)),
            Refused("Input(4)", LayerConnectionError, ("1 input", "got 2", "(?, 4)"), ((4,), (4,))),
        ),
    ),
    Case(
        "Identity",
        (
            Variant("Identity()", ANY_MATRIX, same),
            Variant("Identity(name='short')", ANY_IMAGE, same),
        ),
        (
            Refused("Identity(name=5)", TypeError, ("5",)),
            Refused("Identity(name='a{b}')", ValueError, ("'b'", "a{b}")),
            Refused("Identity()", LayerConnectionError, ("1 input", "got 2", "(?, 4)", "(?, 3)"), ((4,), (3,))),
        ),
    ),
)
